"""What a generator is given of the hits."""

from collections.abc import Sequence

from kb.types import Chunk, Hit
from serving.answering.passages import Passage, joined, pack
from serving.answering.prompting import render


def hit(document: str, ordinal: int, text: str, headings: tuple[str, ...] = ()) -> Hit:
    chunk = Chunk(
        f"{document}-{ordinal}",
        document,
        ordinal,
        document,
        headings,
        None,
        0,
        len(text),
        text,
        "",
        9,
    )
    return Hit(chunk, f"{document}.md", "default", 0.6, 0.8, 5.0)


async def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def plain(passage: Passage) -> str:
    return passage.text


def test_neighbours_are_joined_in_the_documents_order() -> None:
    hits = [hit("a", 3, "three"), hit("b", 1, "other"), hit("a", 2, "two"), hit("a", 5, "five")]

    passages = joined(hits)

    assert [(p.number, p.text) for p in passages] == [
        (1, "two\n\nthree"),
        (2, "other"),
        (3, "five"),
    ]


def test_a_hit_between_two_joins_both_where_the_better_stood() -> None:
    hits = [hit("b", 9, "other"), hit("a", 1, "one"), hit("a", 3, "three"), hit("a", 2, "two")]

    passages = joined(hits)

    assert [p.text for p in passages] == ["other", "one\n\ntwo\n\nthree"]


def test_the_same_text_is_given_once() -> None:
    passages = joined([hit("a", 1, "same  text"), hit("b", 1, "same text"), hit("c", 1, "else")])

    assert [p.hits[0].chunk.document_id for p in passages] == ["a", "c"]


async def test_the_best_that_fit_are_given_and_shorter_ones_fill_the_room() -> None:
    hits = [hit("a", 1, "one two three"), hit("b", 1, "long " * 10), hit("c", 1, "four")]

    passages = await pack(hits, 5, words, plain)

    assert [(p.number, p.text) for p in passages] == [(1, "one two three"), (2, "four")]


async def test_the_best_hit_is_cut_after_a_sentence_where_nothing_fits_whole() -> None:
    text = "One two three. Four five six. Seven eight nine."

    (passage,) = await pack([hit("a", 1, text)], 6, words, plain)

    assert passage.text == "One two three. Four five six."


async def test_nothing_is_given_where_not_even_a_sentence_fits() -> None:
    assert await pack([hit("a", 1, "One two three.")], 2, words, plain) == []


def test_a_passage_is_shown_between_its_marks_with_where_it_stands() -> None:
    (passage,) = joined([hit("Guide", 0, "Use apt.", ("Guide", "Install"))])

    assert render(passage) == (
        '<passage number="1" document="Guide > Install">\nUse apt.\n</passage>'
    )
