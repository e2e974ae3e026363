"""Server-sent events of a chat completion, and how they end where something fails."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from kb.errors import AnswerInterrupted
from kb.generation import Message
from kb.metrics import ERRORS
from retrieval.embedders.hashing import HashingEmbedder
from serving.answering.events import Answer, Event, Finished, TextDelta
from serving.app.chat.completions import Completion

DONE = b"data: [DONE]\n\n"
ANSWER = Answer("Port 5520.", (), (), "generator", None, None, "The port?")


@pytest.fixture
def completion(tmp_path: Path) -> Completion:
    return Completion.begin(
        model="kb",
        collection="default",
        base_url="http://localhost/",
        messages=[Message("user", "The port?")],
        embedder=HashingEmbedder(tmp_path),
        is_structured=False,
    )


async def events(*script: Event | Exception) -> AsyncGenerator[Event, None]:
    for line in script:
        if isinstance(line, Exception):
            raise line
        yield line


async def sent(completion: Completion, *script: Event | Exception) -> list[bytes]:
    stream = completion.events(TextDelta("Port "), events(*script), False)
    return [event async for event in stream]


def told(code: str) -> float:
    return float(ERRORS.labels(code)._value.get())


def error_of(event: bytes) -> Any:
    return orjson.loads(event.removeprefix(b"data: "))["error"]


async def test_a_whole_answer_ends_with_done(completion: Completion) -> None:
    *_, last = await sent(completion, TextDelta("5520."), Finished(ANSWER))

    assert last == DONE


async def test_a_failure_is_the_last_event(completion: Completion) -> None:
    before = told("answer_interrupted")

    *_, last = await sent(completion, AnswerInterrupted("The model broke off."))

    assert error_of(last)["code"] == "answer_interrupted"
    assert error_of(last)["message"] == "The model broke off."
    assert told("answer_interrupted") == before + 1


async def test_so_is_a_failure_that_nobody_foresaw(completion: Completion) -> None:
    """Logged whole, and told without details."""
    before = told("internal_error")

    with capture_logs() as logs:
        *_, last = await sent(completion, RuntimeError("secret/path"))

    error = error_of(last)
    assert (error["code"], error["type"]) == ("internal_error", "server_error")
    assert "secret" not in error["message"]
    assert told("internal_error") == before + 1
    (line,) = logs
    assert line["log_level"] == "error"
    assert line["exc_info"]


async def test_who_hangs_up_is_told_nothing(completion: Completion) -> None:
    async def waits() -> AsyncGenerator[Event, None]:
        await asyncio.sleep(3600)
        yield TextDelta("never")

    seen: list[bytes] = []

    async def read() -> None:
        seen.extend([event async for event in completion.events(TextDelta("a"), waits(), False)])

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.01)
    before = told("internal_error")
    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not seen
    assert told("internal_error") == before


async def test_leaving_ends_the_work(completion: Completion) -> None:
    ended = False

    async def words() -> AsyncGenerator[Event, None]:
        nonlocal ended
        try:
            yield TextDelta("a")
            yield TextDelta("b")
        finally:
            ended = True

    rest = words()
    stream = completion.events(await anext(rest), rest, False)
    await anext(stream)
    await stream.aclose()

    assert ended
