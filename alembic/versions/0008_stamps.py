"""stamps: another one whenever a search of a live index may find something else"""

import uuid
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    with op.batch_alter_table("generations", schema=None) as batch_op:
        # Random here too: installations that share a cache must not begin with the same.
        batch_op.add_column(
            sa.Column("stamp", sa.Text(), nullable=False, server_default=uuid.uuid4().hex)
        )
    with op.batch_alter_table("generations", schema=None) as batch_op:
        batch_op.alter_column("stamp", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("generations", schema=None) as batch_op:
        batch_op.drop_column("stamp")
