"""queue: runs that wait for their turn, what they were asked for and by whom; runs that concern all"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.alter_column("collection", existing_type=sa.Text(), nullable=True)
        batch_op.add_column(sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(
            sa.Column("request", sa.JSON(), nullable=False, server_default=sa.text("'{}'"))
        )
        batch_op.add_column(sa.Column("requested_by", sa.Text(), nullable=True))
        batch_op.add_column(
            sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0"))
        )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        for name in ("request", "attempts"):
            batch_op.alter_column(name, server_default=None)
        batch_op.create_index(
            batch_op.f("ix_runs_status_queued_at_id"), ["status", "queued_at", "id"], unique=False
        )


def downgrade() -> None:
    # The older program knows neither runs that wait nor runs that concern all.
    op.execute("DELETE FROM runs WHERE collection IS NULL OR status = 'queued'")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_runs_status_queued_at_id"))
        for name in ("attempts", "requested_by", "request", "queued_at"):
            batch_op.drop_column(name)
        batch_op.alter_column("collection", existing_type=sa.Text(), nullable=False)
