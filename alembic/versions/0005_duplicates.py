"""duplicates: the hash of a document's text, and the document that brought it to the index"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    with op.batch_alter_table("documents", schema=None) as batch_op:
        # Documents read before are compared with others once a full sync has read them again.
        batch_op.add_column(sa.Column("text_hash", sa.Text(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("duplicate_of", sa.Text(), nullable=True))
    with op.batch_alter_table("documents", schema=None) as batch_op:
        batch_op.alter_column("text_hash", server_default=None)
        batch_op.create_index(
            batch_op.f("ix_documents_collection_text_hash"),
            ["collection", "text_hash"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_documents_duplicate_of"), ["duplicate_of"], unique=False
        )


def downgrade() -> None:
    # Duplicates have no chunks of their own, which the older program does not know: it reads them again.
    op.execute("UPDATE documents SET status = 'pending' WHERE duplicate_of IS NOT NULL")
    with op.batch_alter_table("documents", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_documents_duplicate_of"))
        batch_op.drop_index(batch_op.f("ix_documents_collection_text_hash"))
        batch_op.drop_column("duplicate_of")
        batch_op.drop_column("text_hash")
