"""Citations made good while a text streams."""

import random
import time
from collections.abc import Sequence
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.types import Chunk, Hit
from serving.answering import citations
from serving.answering.citing import CitationFilter

MODEL_TEXTS = [
    ("Heron listens on 5520. [1]", "Heron listens on 5520. [1]", [1]),
    ("It does [3]. It waits [1].", "It does [1]. It waits [2].", [3, 1]),
    ("端口是 6201【2】。", "端口是 6201[1]。", [2]),
    ("Both [1,2] and [1, 3].", "Both [1][2] and [1][3].", [1, 2, 3]),
    ("All of it [1-3].", "All of it [1][2][3].", [1, 2, 3]),
    ("见【1、2】和［3］", "见[1][2]和[3]", [1, 2, 3]),
    ("It is【3†source】 so【2†L5-L9】.", "It is[1] so[2].", [3, 2]),
    ("A footnote[^2].", "A footnote[1].", [2]),
    ("Both [passage 1, passage 3], [来源2、来源 3].", "Both [1][2], [3][2].", [1, 3, 2]),
    ("As [passage 2] says, [来源 3].", "As [1] says, [2].", [2, 3]),
    ("Made up [7]. Real [2]. Half [2, 9].", "Made up. Real [1]. Half [1].", [2]),
    ("Nothing here [0].", "Nothing here.", []),
    ("The interval [0, 1] stays.", "The interval [0, 1] stays.", []),
    ("Values in [1, 100] are allowed [2].", "Values in [1, 100] are allowed [1].", [2]),
    ("Years such as [2024] stay, [a] too.", "Years such as [2024] stay, [a] too.", []),
    ("Escaped \\[2\\] stays.", "Escaped \\[2\\] stays.", []),
    ("Inline `a[2]` stays, [2] does not.", "Inline `a[2]` stays, [1] does not.", [2]),
    ("A stray ` here,\nthen [3].", "A stray ` here,\nthen [1].", [3]),
    ("```py\nx = a[3]\n```\n\n[3]", "```py\nx = a[3]\n```\n\n[1]", [3]),
    ("Press the ` key [1].\nIt opens [3].", "Press the ` key [1].\nIt opens [2].", [1, 3]),
    ("A stray ` at [2] the end", "A stray ` at [1] the end", [2]),
    ("A stray ``, then `a[1]` [2]", "A stray ``, then `a[1]` [1]", [2]),
    (
        "Set [2]:\n\n   ```\n   a[1]\n   ```\n[3]",
        "Set [1]:\n\n   ```\n   a[1]\n   ```\n[2]",
        [2, 3],
    ),
    ("1. ```sh\n   ${a[1]}\n   ```\n2. So [3]", "1. ```sh\n   ${a[1]}\n   ```\n2. So [1]", [3]),
    ("See [2]:\n```python\nprint(sys.argv[1])", "See [1]:\n```python\nprint(sys.argv[1])", [2]),
    ("~~~ sh [1]\na[1]\n```\n~~~~\n[3]", "~~~ sh [1]\na[1]\n```\n~~~~\n[1]", [3]),
    ("````\n```\na[1]\n````\n[3]", "````\n```\na[1]\n````\n[1]", [3]),
    ("Not `` fenced ``` here [2]\n[3]", "Not `` fenced ``` here [1]\n[2]", [2, 3]),
    ("[9]```sh\na[1]\n```\n[2]", "```sh\na[1]\n```\n[1]", [2]),
    ("``[9]` a [2]\n", "`` ` a [1]\n", [2]),
    ("[1[9]] \\[9][2]", "[1 ] \\[9][1]", [2]),
    ("An open bracket [", "An open bracket [", []),
    ("Cut at [1", "Cut at [1", []),
    ("", "", []),
]


def filtered(said: Sequence[str]) -> str:
    checked = CitationFilter(passages=3)
    return "".join(map(checked.feed, said)) + checked.finish()


HIT = Hit(Chunk("c", "d", 0, "T", (), None, 0, 1, "x", "h", 1), "u", "kb", 0, 0, 0)
CITED = [citations.cite(number, HIT, (0, 1)) for number in range(1000)]


def found(text: str) -> list[int]:
    """Where an answer with this text has markers."""
    return [mark.start for mark in citations.markers(text, CITED)]


@pytest.mark.parametrize(("said", "shown", "cited"), MODEL_TEXTS)
def test_citations_of_every_form(said: str, shown: str, cited: list[int]) -> None:
    checked = CitationFilter(passages=3)

    text = checked.feed(said) + checked.finish()

    assert text == shown
    assert checked.cited == cited


@pytest.mark.parametrize(("said", "shown", "cited"), MODEL_TEXTS)
def test_however_the_text_is_cut_it_is_the_same(said: str, shown: str, cited: list[int]) -> None:
    chance = random.Random(said)
    for _ in range(30):
        checked = CitationFilter(passages=3)
        parts = []
        rest = said
        while rest:
            size = chance.randint(1, 4)
            parts.append(checked.feed(rest[:size]))
            rest = rest[size:]
        parts.append(checked.finish())
        assert "".join(parts) == shown
        assert checked.cited == cited
        cuts = set(accumulate(map(len, parts)))
        assert not any({start + 1, start + 2} & cuts for start in found("".join(parts)))


def test_text_without_brackets_is_not_held_back() -> None:
    checked = CitationFilter(passages=1)

    assert checked.feed("Heron listens") == "Heron listens"
    assert checked.feed(" on") == " on"


def test_removed_numbers_are_counted() -> None:
    checked = CitationFilter(passages=2)

    checked.feed("a [3] b [1, 8] c [2]")

    assert (checked.removed, checked.cited) == (2, [1, 2])


def test_a_huge_range_is_no_work() -> None:
    checked = CitationFilter(passages=2)

    text = checked.feed("All [1-999].") + checked.finish()

    assert text == "All [1][2]."


CODE = ["`", "``", "```", "~", "~~~", "\n```\n", "\n   ~~~\n", "py", "> ", "- ", "1. "]
MARKS = ["[1]", "[2]", "[9]", " [9]", "[2, 9]", "[1, 100]", "【1】", "［3］", "【2†source】"]
PIECES = [*CODE, *MARKS, "[passage 1, passage 3]", *"[]19^a\\ \t\r\n"]
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=25)


@settings(max_examples=500, deadline=None)
@given(HOSTILE)
def test_the_markers_written_are_the_markers_found(said: list[str]) -> None:
    text = filtered(said)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(citations, "marker", lambda number: chr(0xE000 + number))
        written, position = [], 0
        for character in filtered(said):
            if 0xE000 < ord(character) < 0xE010:
                written.append(position)
                position += len("[1]")
            else:
                position += 1
    assert found(text) == written
    assert found(text.lstrip()) == [place - len(text) + len(text.lstrip()) for place in written]


@settings(max_examples=500, deadline=None)
@given(HOSTILE)
def test_however_a_hostile_text_is_cut_it_is_the_same(said: list[str]) -> None:
    whole = "".join(said)

    assert filtered(said) == filtered([whole]) == filtered(whole)


def test_code_within_a_line_is_shown_as_it_comes() -> None:
    checked = CitationFilter(passages=3)

    assert [checked.feed(part) for part in ["Set `", "a", " b", "[1", "]", "` to", " [2]"]] == [
        *("Set `", "a", " b", "", "", "[1]` to", " [1]"),
    ]


@pytest.mark.parametrize(
    "unit",
    [" ", "`", "` ", "` `` ", "[", "[1, ", "~~~ ", "\\", "> ", "- ", "`[1]\n", "[9] ", "`` [1] "],
)
def test_hostile_texts_take_no_time(unit: str) -> None:
    hostile = ("` " + unit * 20_000)[:20_000]
    started = time.perf_counter()

    found(filtered([hostile]))
    found(filtered(["``" + hostile[2:]]))

    assert time.perf_counter() - started < 2
