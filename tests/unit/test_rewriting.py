"""Follow-up questions rewritten by a generator, and when its words are not used."""

import pytest

from kb.errors import ModelUnavailable
from kb.generation import Message
from kb.settings import AnswerSettings
from kb.types import Hit
from retrieval.embedders.hashing import HashingEmbedder
from serving.answering.answer import Answering, answer, quoting_steps
from serving.answering.breaker import Breaker
from serving.answering.ladder import Ladder
from serving.answering.prompting import load_prompts
from serving.answering.rewriting import Rewriter, usable
from tests.scripted import ScriptedGenerator
from tests.unit.test_answer import HERON, Searched, embedder  # noqa: F401

TURNS = [
    Message("user", "Where is Heron installed?"),
    Message("assistant", "On Linux. [1]"),
    Message("user", "And its port?"),
]


def rewriter(model: ScriptedGenerator, patience_s: float = 1) -> Rewriter:
    return Rewriter([(model, Breaker(5, 30))], load_prompts(), patience_s)


async def searched(model: ScriptedGenerator, found: HashingEmbedder, *turns: Message) -> list[str]:
    search = Searched(HERON)
    answering = Answering(AnswerSettings(), Ladder(quoting_steps()), rewriter(model, 0.2))
    await answer(list(turns or TURNS), search=search, embedder=found, answering=answering)
    return search.questions


async def test_the_models_question_is_searched(embedder: HashingEmbedder) -> None:  # noqa: F811
    model = ScriptedGenerator("What is ", "the port of Heron?")

    assert await searched(model, embedder) == ["What is the port of Heron?"]
    ((messages, sampling),) = model.asked
    assert "assistant: On Linux." in messages[-1].content
    assert sampling.temperature == 0.0


@pytest.mark.parametrize(
    "script",
    [
        [ModelUnavailable("gone")],
        [5.0, "What is the port of Heron?"],
        ["The port is 5520, as the documents of the vendor say."],
        [],
    ],
)
async def test_rules_do_it_where_the_model_does_not(
    script: list[str | float | ModelUnavailable],
    embedder: HashingEmbedder,  # noqa: F811
) -> None:
    assert await searched(ScriptedGenerator(*script), embedder) == [
        "Where is Heron installed? And its port?"
    ]


async def test_a_question_that_stands_alone_is_not_rewritten(
    embedder: HashingEmbedder,  # noqa: F811
) -> None:
    model = ScriptedGenerator("x")
    alone = Message("user", "Which port does the Heron web server listen on by default?")

    assert await searched(model, embedder, *TURNS[:2], alone) == [alone.content]
    assert model.asked == []


async def test_a_model_left_alone_is_not_asked() -> None:
    model = ScriptedGenerator(ModelUnavailable("gone"))
    breaker = Breaker(1, 30)
    found = Rewriter([(model, breaker)], load_prompts(), 1)

    assert await found.rewrite("And its port?", TURNS[:2]) is None
    assert await found.rewrite("And its port?", TURNS[:2]) is None
    assert len(model.asked) == 1


SAID = "Where is Heron installed? On Linux. And its port?"


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("What is Heron's port?", "What is Heron's port?"),
        ('"What is the port of Heron?"', "What is the port of Heron?"),
        ("Rewritten question: Heron port?", "Heron port?"),
        ("What is Heron's port?\nIt is 5520.", None),
        ("Heron.", None),
        ("", None),
        ("The quick brown fox jumps over its port of call in Heron's harbour daily", None),
        ("Heron port " * 60, None),
    ],
)
def test_what_is_no_question_is_not_used(text: str, question: str | None) -> None:
    assert usable(text, "And its port?", SAID) == question


async def test_nothing_is_asked_of_an_empty_index(embedder: HashingEmbedder) -> None:  # noqa: F811
    async def nothing(_: str) -> list[Hit]:
        return []

    answering = Answering(AnswerSettings(), Ladder(quoting_steps()))
    result = await answer(TURNS, search=nothing, embedder=embedder, answering=answering)

    assert result.refusal
    assert result.refusal.reason == "nothing_found"
