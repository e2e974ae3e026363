"""Which documents a reader may see, as a condition of SQL: pages stay full and counts tell nothing."""

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, true

from kb.db import tables
from kb.types import Access


def readable(access: Access, dialect: str) -> ColumnElement[bool]:
    """As the index filters: a document without groups is everybody's, else one common group is needed."""
    documents = tables.documents.c
    allowed: list[ColumnElement[bool]] = []
    if access.collections is not None:
        allowed.append(documents.collection.in_(sorted(access.collections)))
    if access.groups is not None:
        # Both databases name the function's column `value`.
        postgresql = dialect == "postgresql"
        elements = func.json_array_elements_text if postgresql else func.json_each
        group = elements(documents.groups).table_valued("value").alias("document_group")
        common = exists(
            select(1).select_from(group).where(group.c.value.in_(sorted(access.groups)))
        ).correlate(tables.documents)
        allowed.append(or_(func.json_array_length(documents.groups) == 0, common))
    return and_(true(), *allowed)
