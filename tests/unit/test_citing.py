"""Citations made good while a text streams."""

import random

import pytest

from serving.answering.citing import CitationFilter

MODEL_TEXTS = [
    ("Heron listens on 5520. [1]", "Heron listens on 5520. [1]", [1]),
    ("It does [3]. It waits [1].", "It does [1]. It waits [2].", [3, 1]),
    ("端口是 6201【2】。", "端口是 6201[1]。", [2]),
    ("Both [1,2] and [1, 3].", "Both [1][2] and [1][3].", [1, 2, 3]),
    ("All of it [1-3].", "All of it [1][2][3].", [1, 2, 3]),
    ("见【1、2】和［3］", "见[1][2]和［3］", [1, 2]),
    ("As [passage 2] says, [来源 3].", "As [1] says, [2].", [2, 3]),
    ("Made up [7]. Real [2]. Half [2, 9].", "Made up. Real [1]. Half [1].", [2]),
    ("Nothing here [0].", "Nothing here.", []),
    ("The interval [0, 1] stays.", "The interval [0, 1] stays.", []),
    ("Years such as [2024] stay, [a] too.", "Years such as [2024] stay, [a] too.", []),
    ("Escaped \\[2\\] stays.", "Escaped \\[2\\] stays.", []),
    ("Inline `a[2]` stays, [2] does not.", "Inline `a[2]` stays, [1] does not.", [2]),
    ("A stray ` here,\nthen [3].", "A stray ` here,\nthen [1].", [3]),
    ("```py\nx = a[3]\n```\n\n[3]", "```py\nx = a[3]\n```\n\n[1]", [3]),
    ("An open bracket [", "An open bracket [", []),
    ("Cut at [1", "Cut at [1", []),
    ("", "", []),
]


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
        assert all(part.count("[") == part.count("]") for part in parts[:-1] if "[1" in part)


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
