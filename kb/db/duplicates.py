"""Documents with the same text, as statements: who brought it to the index, and where else it lies."""

from collections.abc import Sequence
from functools import lru_cache

from sqlalchemy import Select, and_, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kb.db import tables
from kb.db.rights import readable
from kb.errors import OriginalGone
from kb.types import Access, Document, DocumentStatus

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


@lru_cache(maxsize=256)
def places(access: Access, dialect: str) -> Select[tuple[str, str, str]]:
    """(document, other's id, other's URI): those in the index first, at most `MOST_PLACES` each.

    To be executed with the `documents` that are asked for. Every search asks, and to make the statement takes
    longer than the database needs to answer.
    """
    found = tables.documents.alias("found")
    same_text = and_(
        _documents.collection == found.c.collection,
        _documents.text_hash == found.c.text_hash,
        _documents.id != found.c.id,
    )
    asked_for = found.c.id.in_(bindparam("documents", expanding=True))
    number = func.row_number().over(
        partition_by=found.c.id,
        order_by=(_documents.duplicate_of.is_not(None), _documents.uri, _documents.id),
    )
    numbered = (
        select(found.c.id.label("document"), _documents.id, _documents.uri, number.label("number"))
        .select_from(found.join(tables.documents, same_text))
        .where(asked_for, found.c.text_hash != "", readable(access, dialect))
        .subquery()
    )
    return (
        select(numbered.c.document, numbered.c.id, numbered.c.uri)
        .where(numbered.c.number <= MOST_PLACES)
        .order_by(numbered.c.document, numbered.c.number)
    )


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
