"""Filters of the embedded index as SQL. Pure; every value is data, so every quote is doubled."""

from collections.abc import Iterable

from kb.types import Access


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str]) -> str:
    return ", ".join(literal(text) for text in texts)


def one_of(column: str, values: Iterable[str]) -> str:
    """No value at all matches nothing."""
    listed = literals(values)
    return f"{column} IN ({listed})" if listed else "false"


def readable(access: Access) -> str | None:
    """Rows without groups are everyone's; others need a common one. None: no restriction."""
    if access.groups is None:
        return None
    public = "array_length(groups) = 0"
    if not access.groups:
        return public
    return f"({public} OR array_has_any(groups, [{literals(sorted(access.groups))}]))"


def search_filter(access: Access, document_ids: tuple[str, ...] | None) -> str | None:
    conditions = [
        condition
        for condition in (
            readable(access),
            None if document_ids is None else one_of("document_id", document_ids),
        )
        if condition
    ]
    return " AND ".join(conditions) or None
