"""A conversation for chat templates that know no system role and want the roles to alternate."""

import pytest

from kb.generation import Message
from serving.generators.transformers_model import alternating

Turns = list[tuple[str, str]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([("user", "a")], [("user", "a")]),
        ([("system", "s"), ("user", "a")], [("user", "s\n\na")]),
        (
            [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")],
            [("user", "s\n\na"), ("assistant", "b"), ("user", "c")],
        ),
        (
            [("user", "a"), ("assistant", "b"), ("system", "s"), ("user", "c")],
            [("user", "s\n\na"), ("assistant", "b"), ("user", "c")],
        ),
        (
            [("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d"), ("user", "e")],
            [("user", "a\n\nb"), ("assistant", "c\n\nd"), ("user", "e")],
        ),
        (
            [("system", "s"), ("assistant", "a"), ("user", "b")],
            [("user", "s"), ("assistant", "a"), ("user", "b")],
        ),
        ([], []),
    ],
)
def test_system_texts_come_first_and_neighbours_of_one_role_are_one(
    given: Turns, expected: Turns
) -> None:
    assert alternating([Message(*turn) for turn in given]) == [Message(*turn) for turn in expected]
