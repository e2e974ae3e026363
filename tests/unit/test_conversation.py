"""The question behind the last message. The dialogues (dialogues.json) are also measured with the
real embedder, in benchmarks/answers.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from kb.errors import InvalidQueryError
from kb.generation import Message
from serving.answering.conversation import is_small_talk, last_question, leans_on_context

DIALOGUES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "dialogues.json").read_text(encoding="utf-8")
)["dialogues"]


def conversation(*turns: str) -> list[Message]:
    """User and assistant in turn, the user first."""
    return [Message("assistant" if i % 2 else "user", turn) for i, turn in enumerate(turns)]


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda d: " / ".join(d["turns"][::2]))
def test_a_follow_up_is_told_from_a_new_topic(dialogue: dict[str, Any]) -> None:
    turns: list[str] = dialogue["turns"]
    asked = last_question(conversation(*turns), turns=6)

    assert leans_on_context(turns[-1]) == dialogue["leaning"]
    assert asked.text == turns[-1]
    assert asked.leans is (dialogue["leaning"] == "yes")
    assert (asked.in_context is None) is (dialogue["leaning"] == "no")


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (
            ["How do I install Brindle on Linux?", "", "and on Windows?"],
            "How do I install Brindle on Windows?",
        ),
        (
            ["How do I install it on Linux?", "", "And on Windows?", "", "And on the Mac?"],
            "How do I install it on the Mac?",
        ),
        (["在 Linux 上怎么安装青禾？", "", "那 Windows 上呢？"], "在 Windows 上怎么安装青禾？"),
        (["在 Linux 上怎么安装青禾？", "", "Windows 呢"], "在 Windows 上怎么安装青禾？"),
        (
            ["How deep is Lake Vessel?", "", "Does it freeze?"],
            "How deep is Lake Vessel? Does it freeze?",
        ),
        (
            ["Who wrote Brindle?", "It was written by Mara Ellingsen. [1]", "Where was she born?"],
            "Who wrote Brindle? Mara Ellingsen Where was she born?",
        ),
        (
            ["青禾是谁开发的？", "由陈立远教授开发。 [1]", "他是哪里人？"],
            "青禾是谁开发的？ 由陈立远教授开发 他是哪里人？",
        ),
        (
            ["What does Heron cost?", "", "Thanks!", "", "and its port?"],
            "What does Heron cost? and its port?",
        ),
        (
            ["云溪镇有多少人口？", "", "那石桥镇呢？", "", "那青山镇呢？"],
            "云溪镇有多少人口？ 那青山镇呢？",
        ),
    ],
)
def test_a_follow_up_is_put_together_with_its_question(turns: list[str], expected: str) -> None:
    assert last_question(conversation(*turns), turns=6).in_context == expected


def test_a_new_topic_ends_the_old_one() -> None:
    turns = [
        "How deep is Lake Vessel?",
        "",
        "How do I install Brindle on Linux?",
        "",
        "and on Windows?",
    ]

    assert (
        last_question(conversation(*turns), 6).in_context == "How do I install Brindle on Windows?"
    )


def test_only_the_last_turns_are_looked_at() -> None:
    turns = ["How deep is Lake Vessel?", "", "Does it freeze?"]

    assert last_question(conversation(*turns), turns=1).in_context is None


def test_a_long_question_does_not_push_out_its_follow_up() -> None:
    pasted = "stack trace line " * 400 + "Why does Brindle crash?"

    in_context = last_question(conversation(pasted, "", "And on Windows?"), turns=6).in_context

    assert in_context is not None
    assert len(in_context) < 600
    assert in_context.endswith("Why does Brindle crash? And on Windows?")


def test_system_messages_are_never_searched() -> None:
    messages = [
        Message("system", "You answer about lakes."),
        Message("user", "Does it freeze?"),
    ]

    asked = last_question(messages, turns=6)

    assert (asked.text, asked.in_context) == ("Does it freeze?", None)


@pytest.mark.parametrize(
    "messages", [[], [Message("system", "Be brief.")], [Message("user", "  \n")]]
)
def test_without_a_question_there_is_a_typed_error(messages: list[Message]) -> None:
    with pytest.raises(InvalidQueryError):
        last_question(messages, turns=6)


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "Hi there!",
        "ok great, thanks 😊",
        "How are you?",
        "你好",
        "你好！",
        "谢谢你",
        "好的，谢谢",
        "再见",
    ],
)
def test_small_talk(text: str) -> None:
    assert is_small_talk(text)


@pytest.mark.parametrize(
    "text",
    [
        "history",
        "no port is open",
        "hello world program in Go",
        "你好，请问端口是多少？",
        "好的插件有哪些",
        "是的士",
        "hi!! " * 11 + "x",  # quick, too
    ],
)
def test_questions_are_not_small_talk(text: str) -> None:
    assert not is_small_talk(text)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "last",
    [
        "and " + "a" * 7_000 + "/b",
        "那么" + "在" * 7_000 + "上",
        "呢" + " " * 7_000 + "x",
        "呢 " * 3_500 + "x",
    ],
)
def test_hostile_conversations_take_no_longer_than_others(last: str) -> None:
    """With a square in it they keep everybody waiting: these need no model and no document."""
    first = "how do I install it on linux? 在 Linux 上呢？"

    spaced = "What port does it use when clustered so" + " " * 200_000 + "x"
    for turns in (
        (first, "x", last),
        (last, "x", last),
        (last * 40, "x", "and on windows?"),
        (first, "x", spaced, "y", "and on windows?"),
    ):
        assert last_question(conversation(*turns), turns=6).text


def test_a_question_that_can_not_be_searched_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidQueryError, match="characters"):
        last_question(conversation("how do I install it on linux?", "x", "and " * 3_000), turns=6)
