import pytest

from kb.types import Chunk, Hit
from serving.answering.citations import cite, escape_markers, markers

TEXT = "Brindle listens on port 7410 [3]. It is fast."


def hit(text: str = TEXT, start: int = 100) -> Hit:
    chunk = Chunk(
        "c", "d", 0, "Brindle", ("Guide", "Ports"), 2, start, start + len(text), text, "h", 9
    )
    return Hit(chunk, "guide.md", "kb", 0.8, 0.9, 3.0)


def test_a_citation_quotes_exactly_its_span_of_the_parsed_text() -> None:
    document = "x" * 100 + TEXT

    citation = cite(2, hit(), (34, 45))

    assert citation.quote == "It is fast."
    assert document[citation.start : citation.end] == citation.quote
    assert (citation.number, citation.document_id, citation.chunk_id) == (2, "d", "c")
    assert (citation.uri, citation.title, citation.page) == ("guide.md", "Brindle", 2)
    assert (citation.heading_path, citation.score) == (("Guide", "Ports"), 0.8)


@pytest.mark.parametrize("span", [(-1, 3), (3, 3), (0, len(TEXT) + 1)])
def test_a_span_outside_the_chunk_is_refused(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="outside the chunk"):
        cite(1, hit(), span)


def test_markers_stand_where_the_text_refers_to_citations() -> None:
    citations = [cite(1, hit(), (0, 33)), cite(2, hit(), (34, 45))]
    text = f"{escape_markers(citations[0].quote)} [1]\n\nIt is fast. [2] [7]"

    found = markers(text, citations)

    assert [(text[m.start : m.end], m.citation.number) for m in found] == [("[1]", 1), ("[2]", 2)]


def test_numbers_in_quoted_text_and_code_are_no_markers() -> None:
    citations = [cite(1, hit(), (0, 33))]
    text = f"{escape_markers('see [1]')}\n\n```\nx = [1]\n```\n\n[1]"

    assert [m.start for m in markers(text, citations)] == [len(text) - 3]


@pytest.mark.parametrize(
    "text",
    [
        "1. Set:\n\n   ```sh\n   ${a[1]}\n   ```\n",
        "- ```sh\n  ${a[1]}\n  ```",
        "> ~~~\n> a[1]\n> ~~~",
        "Cut off:\n```python\nprint(sys.argv[1])",
        "A `` lone run, `a[1]` and ```b[1] ```.",
    ],
)
def test_code_of_every_kind_has_no_markers(text: str) -> None:
    assert not markers(text, [cite(1, hit(), (0, 33))])


def test_a_backtick_that_nothing_closes_on_its_line_is_no_code() -> None:
    text = "Press the ` key [1].\nThen ` again."

    assert len(markers(text, [cite(1, hit(), (0, 33))])) == 1


@pytest.mark.parametrize(
    "quoted", ["```\nx = a[1]\n```", "Cut off:\n~~~ sh\na[1]", "  ````\n```\na[1]", "[1]", ""]
)
def test_code_in_quoted_text_ends_before_its_marker(quoted: str) -> None:
    text = f"{escape_markers(quoted)} [1]\n\nMore [1]"

    assert [m.start for m in markers(text, [cite(1, hit(), (0, 33))])] == [
        text.index(" [1]\n\nMore") + 1,
        len(text) - 3,
    ]
