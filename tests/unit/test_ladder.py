"""Which rung answers, what is said about it, and how failures look."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from kb.errors import (
    AnswerInterrupted,
    InvalidQueryError,
    ModelOverloaded,
    ModelUnavailable,
)
from kb.generation import ModelDelta, Sampling
from kb.settings import GenerationSettings
from kb.types import Chunk, Hit
from serving.answering.answer import quoting_steps
from serving.answering.breaker import Breaker
from serving.answering.events import Answer, Event, Finished, ReasoningDelta, Task, TextDelta
from serving.answering.extractive import Evidence, Extract, Quote
from serving.answering.generated import GeneratedRung
from serving.answering.ladder import Guarded, Ladder
from serving.answering.prompting import load_prompts
from tests.scripted import ScriptedGenerator

GONE = ModelUnavailable("gone")
SETTINGS = GenerationSettings(first_token_s=0.2, between_tokens_s=0.2)
TEXT = "Heron is a web server. Heron listens on port 5520 by default."
HIT = Hit(
    Chunk("c", "d", 0, "Heron", (), None, 0, len(TEXT), TEXT, "", 9),
    "d.md",
    "default",
    0.6,
    0.8,
    5.0,
)
QUOTED = "Heron listens on port 5520 by default. [1]"


def ladder(*steps: Sequence[ScriptedGenerator], failures: int = 5, pause_s: float = 30) -> Ladder:
    names = ["generator", "fallback"]
    return Ladder(
        [
            *(
                [
                    Guarded(
                        GeneratedRung(name, model, load_prompts(), SETTINGS),
                        Breaker(failures, pause_s),
                    )
                    for model in step
                ]
                for name, step in zip(names, steps, strict=False)
            ),
            *quoting_steps(),
        ]
    )


def task(sampling: Sampling | None = None, *, seconds: float = 60, extract: bool = True) -> Task:
    quote = Quote(HIT, (23, len(TEXT)), None, 1.0)
    return Task(
        asked="Which port does Heron listen on?",
        question="Which port does Heron listen on?",
        hits=(HIT,),
        extract=Extract((quote,), Evidence(0.6, 0.8, 1.0, True)) if extract else None,
        deadline=asyncio.get_running_loop().time() + seconds,
        sampling=sampling or Sampling(),
    )


async def events(found: Ladder, asked: Task | None = None, whole: bool = False) -> list[Event]:
    return [event async for event in found.stream(asked or task(), whole=whole)]


async def answered(found: Ladder, asked: Task | None = None, whole: bool = False) -> Answer:
    *before, last = await events(found, asked, whole)
    assert isinstance(last, Finished)
    assert "".join(e.text for e in before if isinstance(e, TextDelta)) == last.answer.text
    return last.answer


async def test_the_generator_answers_with_checked_citations() -> None:
    model = ScriptedGenerator("Heron listens on ", "port 5520 ", "[", "1", "] and [9].")

    answer = await answered(ladder([model]))

    assert answer.text == "Heron listens on port 5520 [1] and."
    assert (answer.answered_by, answer.degraded_because, answer.model) == (
        "generator",
        None,
        "scripted",
    )
    (citation,) = answer.citations
    assert citation.quote == "Heron listens on port 5520 by default."
    assert answer.support
    assert answer.support.is_supported
    assert answer.usage
    assert answer.prompt == "answer.en 1"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([GONE], "model_unavailable"),
        ([ModelOverloaded("busy")], "model_overloaded"),
        ([5.0, "late"], "model_timeout"),
        ([ModelDelta(reasoning="hm"), 5.0, "late"], "model_timeout"),
        ([], "model_misbehaved"),
        (["  \n"], "model_misbehaved"),
    ],
)
async def test_without_a_word_said_the_next_rung_answers_and_says_why(
    script: list[str | float | ModelDelta | ModelUnavailable], code: str
) -> None:
    fallback = ScriptedGenerator("It is 5520 [1].")

    *_, last = await events(ladder([ScriptedGenerator(*script)], [fallback]))

    assert isinstance(last, Finished)
    answer = last.answer
    assert (answer.text, answer.answered_by) == ("It is 5520 [1].", "fallback")
    assert answer.degraded_because == f"generator: {code}"


async def test_with_every_model_gone_sentences_are_quoted() -> None:
    answer = await answered(ladder([ScriptedGenerator(GONE)], [ScriptedGenerator(GONE)]))

    assert (answer.text, answer.answered_by) == (QUOTED, "extractive")
    assert answer.degraded_because == "generator: model_unavailable; fallback: model_unavailable"


async def test_where_sentences_cannot_be_compared_passages_are_given() -> None:
    answer = await answered(ladder(), task(extract=False))

    assert answer.answered_by == "passages"
    assert answer.text.endswith(f"{TEXT} [1]")
    assert answer.citations[0].quote == TEXT


async def test_quoting_is_no_degradation_where_nothing_better_is_configured() -> None:
    answer = await answered(ladder())

    assert (answer.answered_by, answer.degraded_because) == ("extractive", None)
    assert answer.support
    assert answer.support.score == 1.0


async def test_a_death_in_the_middle_of_a_stream_is_an_error() -> None:
    found = ladder([ScriptedGenerator("Heron listens ", GONE)])
    stream = found.stream(task())

    assert await anext(stream) == TextDelta("Heron listens")
    with pytest.raises(AnswerInterrupted):
        await anext(stream)


@pytest.mark.parametrize("last", [GONE, 5.0])
async def test_a_death_in_the_middle_falls_a_rung_where_nothing_was_sent(
    last: ModelUnavailable | float,
) -> None:
    answer = await answered(ladder([ScriptedGenerator("Heron listens ", last, "x")]), whole=True)

    assert (answer.text, answer.answered_by) == (QUOTED, "extractive")


async def test_a_death_while_thinking_falls_a_rung() -> None:
    *_, last = await events(ladder([ScriptedGenerator(ModelDelta(reasoning="Hm."), GONE)]))

    assert isinstance(last, Finished)
    assert (last.answer.text, last.answer.reasoning) == (QUOTED, "")


async def test_thinking_is_kept_apart() -> None:
    found = await events(
        ladder([ScriptedGenerator(ModelDelta(reasoning="Passage 1."), "It is 5520 [1].")])
    )

    assert found[0] == ReasoningDelta("Passage 1.")
    assert isinstance(found[-1], Finished)
    assert (found[-1].answer.text, found[-1].answer.reasoning) == (
        "It is 5520 [1].",
        "Passage 1.",
    )


async def test_the_whole_answer_has_a_deadline() -> None:
    slow = ScriptedGenerator(*[part for _ in range(50) for part in ("word ", 0.05)])

    with pytest.raises(AnswerInterrupted, match="longer than allowed"):
        await events(ladder([slow]), task(seconds=0.3))
    assert slow.ended == 1


async def test_an_endless_answer_is_cut_off() -> None:
    endless = ScriptedGenerator(*["on and on " * 100] * 500)

    answer = await answered(ladder([endless]), task(Sampling(max_tokens=20)), whole=True)

    assert (answer.answered_by, answer.degraded_because) == (
        "extractive",
        "generator: model_misbehaved",
    )


async def test_an_open_breaker_asks_nobody() -> None:
    model = ScriptedGenerator(GONE)
    found = ladder([model])
    for _ in range(5):
        await answered(found)

    answer = await answered(found)

    assert len(model.asked) == 5
    assert answer.degraded_because == "generator: model_suspended"


async def test_a_model_that_is_back_is_noticed_by_a_cheap_question_first() -> None:
    model = ScriptedGenerator(GONE)
    found = ladder([model], failures=1, pause_s=0.05)
    await answered(found)
    await asyncio.sleep(0.06)
    await answered(found)
    assert len(model.asked) == 1  # It said that it isn't ready.

    model.script = ["It is 5520 [1]."]
    await asyncio.sleep(0.06)

    assert (await answered(found)).answered_by == "generator"
    assert len(model.asked) == 2


async def test_replicas_take_turns() -> None:
    first, second = ScriptedGenerator("a [1]"), ScriptedGenerator("b [1]")
    found = ladder([first, second])

    texts = [(await answered(found)).text for _ in range(4)]

    assert texts == ["a [1]", "b [1]", "a [1]", "b [1]"]


async def test_a_failing_replica_is_no_degradation_while_another_serves() -> None:
    gone, serving = ScriptedGenerator(GONE), ScriptedGenerator("b [1]")
    found = ladder([gone, serving], failures=2)

    answers = [await answered(found) for _ in range(8)]

    assert {(a.text, a.degraded_because) for a in answers} == {("b [1]", None)}
    assert len(gone.asked) == 2


async def test_leaving_early_ends_the_models_work() -> None:
    model = ScriptedGenerator("a ", "b ", 5.0, "c")
    stream = ladder([model]).stream(task())
    await anext(stream)

    await stream.aclose()

    assert model.ended == 1


async def test_what_only_a_generator_can_do_is_refused_without_one() -> None:
    with pytest.raises(InvalidQueryError, match="response_format"):
        await events(ladder(), task(Sampling(response_format={"type": "json_object"})))


async def test_what_only_a_generator_can_do_is_no_answer_while_it_is_gone() -> None:
    with pytest.raises(ModelUnavailable, match="generator: model_unavailable"):
        await events(ladder([ScriptedGenerator(GONE)]), task(Sampling(logprobs=True)))


async def test_a_parameter_that_the_server_refuses_is_the_callers_mistake() -> None:
    model = ScriptedGenerator(InvalidQueryError("bad schema"))
    sampling = Sampling(response_format={"type": "json_schema"})

    for _ in range(6):
        with pytest.raises(InvalidQueryError, match="bad schema"):
            await events(ladder([model]), task(sampling))


async def test_json_is_left_as_it_is() -> None:
    model = ScriptedGenerator('{"ports": [9], "refs": [1, ', "2]}")

    answer = await answered(
        ladder([model]), task(Sampling(response_format={"type": "json_object"}))
    )

    assert answer.text == '{"ports": [9], "refs": [1, 2]}'
    assert [c.number for c in answer.citations] == [1]
    assert answer.support is None


@pytest.mark.parametrize(
    "said",
    [
        "The documents do not answer this question.",
        "I'm sorry, but the passages do not contain information about that.",
    ],
)
async def test_a_model_that_finds_no_answer_refuses(said: str) -> None:
    answer = await answered(ladder([ScriptedGenerator(said)]))

    assert answer.refusal
    assert (answer.refusal.reason, answer.refusal.message) == ("not_in_passages", said)
    assert answer.citations == ()


async def test_parameters_reach_the_model() -> None:
    model = ScriptedGenerator("It is 5520 [1].")
    sampling = Sampling(temperature=0.7, top_p=0.5, seed=3, stop=("END",), max_tokens=99)

    await events(ladder([model]), task(sampling))

    assert model.asked[0][1] == sampling


async def test_without_parameters_the_settings_decide() -> None:
    model = ScriptedGenerator("It is 5520 [1].")

    await events(ladder([model]))

    assert model.asked[0][1] == Sampling(temperature=0.0, max_tokens=1024)


@pytest.mark.parametrize(
    ("sampling", "finish"),
    [(Sampling(stop=("Heron",)), "stop"), (Sampling(max_tokens=2), "length")],
)
async def test_silence_that_a_caller_asked_for_is_no_failure(
    sampling: Sampling, finish: str
) -> None:
    """Or anybody could have the model suspended for all others."""
    model = ScriptedGenerator(ModelDelta(reasoning="hm", finish=finish))
    found = ladder([model], failures=2)

    for _ in range(4):
        answer = await answered(found, task(sampling))
        assert (answer.text, answer.answered_by, answer.finish) == ("", "generator", finish)

    model.script = ["Heron listens on port 5520 [1]."]
    assert (await answered(found)).answered_by == "generator"


async def test_what_can_not_be_quoted_of_one_question_is_quoted_of_others() -> None:
    found = ladder()
    assert (await answered(found, task(extract=False))).answered_by == "passages"

    async with aclosing(found.stream(task())) as under_way:
        await anext(under_way)
        assert (await answered(found)).answered_by == "extractive"
