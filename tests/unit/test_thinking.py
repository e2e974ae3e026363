"""Thinking told apart from the answer."""

import random

import pytest

from serving.generators.thinking import ThinkingSplitter

TEXTS = [
    ("<think>Let me see.</think>\n\nIt is 5. [1]", False, "Let me see.", "It is 5. [1]"),
    ("\n<think>a < b</think>Yes.", False, "a < b", "Yes."),
    ("No thinking here.", False, "", "No thinking here."),
    ("<thing> is no mark", False, "", "<thing> is no mark"),
    ("Later <think>is text</think>.", False, "", "Later <think>is text</think>."),
    ("Hidden opening.</think>The answer.", True, "Hidden opening.", "The answer."),
    ("<think>never closed", False, "never closed", ""),
    ("<thi", False, "", "<thi"),
    ("", False, "", ""),
]


@pytest.mark.parametrize(("said", "begins", "reasoning", "answer"), TEXTS)
def test_thinking_is_kept_apart_however_it_is_cut(
    said: str, begins: bool, reasoning: str, answer: str
) -> None:
    chance = random.Random(said)
    for _ in range(20):
        splitter = ThinkingSplitter(begins)
        found = []
        rest = said
        while rest:
            size = chance.randint(1, 5)
            found.append(splitter.feed(rest[:size]))
            rest = rest[size:]
        found.append(splitter.finish())
        assert "".join(thought for thought, _ in found) == reasoning
        assert "".join(text for _, text in found).lstrip() == answer
