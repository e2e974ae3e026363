"""Questions to LanceDB as plain values: filter expressions in its SQL, and the lexical query.

Everything that comes from outside is data here: quoted in filters, never syntax in the lexical query.
"""

from collections.abc import Iterable

from kb.types import Access, IndexQuery

NOTHING = "FALSE"


def quoted(value: str) -> str:
    """An SQL string literal. Lance's SQL has no escape but the doubled quote."""
    return "'" + value.replace("'", "''") + "'"


def one_of(column: str, values: Iterable[str]) -> str:
    """True where the column holds one of the values; nowhere when there are none."""
    literals = ", ".join(quoted(value) for value in values)
    return f"{column} IN ({literals})" if literals else NOTHING


def readable(access: Access) -> str | None:
    """True for the documents this access may see; None where it may see all.

    A document without groups is for everybody; else one common group is needed.
    """
    if access.groups is None:
        return None
    everybody = "array_length(groups) = 0"
    if not access.groups:
        return everybody
    literals = ", ".join(quoted(group) for group in sorted(access.groups))
    return f"({everybody} OR array_has_any(groups, [{literals}]))"


def restriction(query: IndexQuery) -> str | None:
    """The filter that both sides of a search apply before they rank; None lets everything through."""
    conditions = [readable(query.access)]
    if query.document_ids is not None:
        conditions.append(one_of("document_id", query.document_ids))
    return " AND ".join(condition for condition in conditions if condition) or None


def lexical_text(terms: Iterable[str]) -> str:
    """What the white space tokeniser of the index turns back into these terms.

    It goes into a match query, which has no syntax. A repeated term counts once, in every index: a
    question that says a word twice does not ask for it twice as much.
    """
    return " ".join(dict.fromkeys(terms))
