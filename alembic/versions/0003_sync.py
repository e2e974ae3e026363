"""sync: what of a source is read, runs that can be cancelled, leases of workers"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    with op.batch_alter_table("sources", schema=None) as batch_op:
        for name in ("include", "exclude"):
            batch_op.add_column(
                sa.Column(name, sa.JSON(), nullable=False, server_default=sa.text("'[]'"))
            )
        batch_op.add_column(
            sa.Column("symlinks", sa.String(length=32), nullable=False, server_default="inside")
        )
        batch_op.add_column(
            sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        batch_op.add_column(sa.Column("max_file_mb", sa.Integer(), nullable=True))
        batch_op.alter_column(
            "kind", existing_type=sa.Text(), type_=sa.String(length=32), existing_nullable=False
        )
    with op.batch_alter_table("sources", schema=None) as batch_op:
        for name in ("include", "exclude", "symlinks", "paused"):
            batch_op.alter_column(name, server_default=None)
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("beat_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(
            sa.Column("cancel_requested", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.alter_column("cancel_requested", server_default=None)
    op.create_table(
        "leases",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("job", "slot", name=op.f("pk_leases")),
    )


def downgrade() -> None:
    op.drop_table("leases")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("cancel_requested")
        batch_op.drop_column("beat_at")
    with op.batch_alter_table("sources", schema=None) as batch_op:
        batch_op.alter_column(
            "kind", existing_type=sa.String(length=32), type_=sa.Text(), existing_nullable=False
        )
        for name in ("paused", "symlinks", "max_file_mb", "exclude", "include"):
            batch_op.drop_column(name)
