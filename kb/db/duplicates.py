"""Documents with the same text, as statements: who brought it to the index, and where else it lies."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kb.db import tables
from kb.errors import OriginalGone
from kb.types import Document, DocumentStatus

MOST_PLACES = 20
"""Places named of one text: more help nobody, and a licence may lie in a collection ten thousand times."""

_documents = tables.documents.c
_is_original = and_(_documents.status == DocumentStatus.INDEXED, _documents.duplicate_of.is_(None))


def originals(collection: str, text_hashes: Sequence[str]) -> Select[tuple[Document]]:
    return select(tables.documents).where(
        _documents.collection == collection, _documents.text_hash.in_(text_hashes), _is_original
    )


def strays(source_id: str) -> Select[tuple[str]]:
    """Duplicates whose original does not, or not any more, stand for their text in the index."""
    original = tables.documents.alias("original")
    return (
        select(_documents.id)
        .select_from(tables.documents.outerjoin(original, _documents.duplicate_of == original.c.id))
        .where(
            _documents.source_id == source_id,
            _documents.duplicate_of.is_not(None),
            or_(
                original.c.id.is_(None),
                original.c.status != DocumentStatus.INDEXED,
                original.c.duplicate_of.is_not(None),
                original.c.text_hash != _documents.text_hash,
            ),
        )
    )


def places(
    document_ids: Sequence[str], readable: ColumnElement[bool]
) -> Select[tuple[str, str, str]]:
    """(document, other's id, other's URI): those in the index first, at most `MOST_PLACES` each."""
    numbered = _numbered.where(_found.c.id.in_(document_ids), readable).subquery()
    return (
        select(numbered.c.document, numbered.c.id, numbered.c.uri)
        .where(numbered.c.number <= MOST_PLACES)
        .order_by(numbered.c.document, numbered.c.number)
    )


# Every search asks for places, and to make an alias takes longer than the database needs to answer.
_found = tables.documents.alias("found")
_numbered = (
    select(
        _found.c.id.label("document"),
        _documents.id,
        _documents.uri,
        func.row_number()
        .over(
            partition_by=_found.c.id,
            order_by=(_documents.duplicate_of.is_not(None), _documents.uri, _documents.id),
        )
        .label("number"),
    )
    .select_from(
        _found.join(
            tables.documents,
            and_(
                _documents.collection == _found.c.collection,
                _documents.text_hash == _found.c.text_hash,
                _documents.id != _found.c.id,
            ),
        )
    )
    .where(_found.c.text_hash != "")
)
"""Each document with each other of the same text, numbered in the order in which they are named."""


async def check_originals(connection: AsyncConnection, documents: Sequence[Document]) -> None:
    """Raises OriginalGone where a duplicate's original does not stand for its text.

    The originals stay locked until the transaction ends: none is given up before the duplicate can be seen.
    """
    duplicates = [
        document
        for document in documents
        if document.duplicate_of and document.status is DocumentStatus.INDEXED
    ]
    if not duplicates:
        return
    wanted = {document.duplicate_of for document in duplicates}
    query = (
        select(_documents.id, _documents.text_hash, _documents.groups)
        .where(_documents.id.in_(wanted), _is_original)
        .order_by(_documents.id)
        .with_for_update(read=True)
    )
    rows = await connection.execute(query)
    stand_for = {row.id: (row.text_hash, set(row.groups)) for row in rows}
    for document in duplicates:
        meant = document.text_hash, set(document.groups)
        if stand_for.get(document.duplicate_of) != meant:
            raise OriginalGone(
                f"{document.uri} has the text of a document that has meanwhile changed. Sync again."
            )
