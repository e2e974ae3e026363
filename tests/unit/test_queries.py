from kb.types import Access, IndexQuery
from retrieval.queries import lexical_text, one_of, quoted, readable, restriction


def test_quotes_are_doubled_and_nothing_else_changes() -> None:
    assert quoted("a'b") == "'a''b'"
    assert quoted('知识 \\ " \n') == "'知识 \\ \" \n'"


def test_one_of() -> None:
    assert one_of("id", ["a", "b'"]) == "id IN ('a', 'b''')"
    assert one_of("id", []) == "FALSE"


def test_readable() -> None:
    assert readable(Access()) is None
    assert readable(Access(frozenset())) == "array_length(groups) = 0"
    assert readable(Access(frozenset(["b", "a'"]))) == (
        "(array_length(groups) = 0 OR array_has_any(groups, ['a''', 'b']))"
    )


def test_restriction_joins_access_and_documents() -> None:
    assert restriction(IndexQuery(None, (), 1)) is None
    assert restriction(IndexQuery(None, (), 1, document_ids=())) == "FALSE"
    both = IndexQuery(None, (), 1, Access(frozenset()), ("d",))
    assert restriction(both) == "array_length(groups) = 0 AND document_id IN ('d')"


def test_a_term_is_asked_for_once() -> None:
    assert lexical_text(["c++", '"', "c++"]) == 'c++ "'
