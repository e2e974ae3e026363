"""OpenAI's chat completions on the wire, exactly."""

from collections.abc import AsyncIterator

import orjson
import pytest

from kb.errors import (
    InvalidQueryError,
    KBError,
    ModelMisbehaved,
    ModelOverloaded,
    ModelUnavailable,
)
from kb.generation import Message, ModelDelta, Sampling, Usage
from serving.generators.openai_wire import delta_of, refusal, request_body
from serving.generators.server_sent_events import event_data


def test_a_request_carries_what_was_chosen_and_nothing_else() -> None:
    assert request_body("m", [Message("user", "Hi")], Sampling()) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    chosen = Sampling(
        temperature=0.0,
        top_p=0.9,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        seed=7,
        max_tokens=50,
        stop=("a",),
        response_format={"type": "json_object"},
        logprobs=True,
        top_logprobs=2,
    )
    assert request_body("m", [], chosen) == {
        "model": "m",
        "messages": [],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "top_p": 0.9,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "seed": 7,
        "max_tokens": 50,
        "stop": ["a"],
        "response_format": {"type": "json_object"},
        "logprobs": True,
        "top_logprobs": 2,
    }


TOKEN = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}


@pytest.mark.parametrize(
    ("event", "delta"),
    [
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, None),
        ({"choices": [{"delta": {"content": "a"}}]}, ModelDelta("a")),
        ({"choices": [{"delta": {"reasoning_content": "r"}}]}, ModelDelta(reasoning="r")),
        ({"choices": [{"delta": {"reasoning": "r"}}]}, ModelDelta(reasoning="r")),
        (
            {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [TOKEN]}}]},
            ModelDelta("a", logprobs=(TOKEN,)),
        ),
        ({"choices": [{"delta": {}, "finish_reason": "length"}]}, ModelDelta(finish="length")),
        (
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
            ModelDelta(usage=Usage(3, 2)),
        ),
        ({"choices": [], "usage": None}, None),
        ({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": None}}, None),
        ({"choices": [{"delta": {"content": "a"}, "finish_reason": ""}]}, ModelDelta("a")),
    ],
)
def test_events_are_read(event: object, delta: ModelDelta | None) -> None:
    assert delta_of(orjson.dumps(event), OURS) == delta


@pytest.mark.parametrize(
    "data",
    [
        b"<html>",
        b"[]",
        b"3",
        b"null",
        b'{"choices": 3}',
        b'{"choices": [{"delta": "a"}]}',
        b'{"choices": [{"delta": {"content": ["a"]}}]}',
        b'{"choices": [], "usage": {"prompt_tokens": 3}}',
    ],
)
def test_garbage_is_said_to_be_garbage(data: bytes) -> None:
    with pytest.raises(ModelMisbehaved):
        delta_of(data, OURS)


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "engine died", "code": 500}},
        {"error": "engine died"},
        {"choices": [{"delta": {}, "finish_reason": "abort"}]},
    ],
)
def test_an_error_in_the_stream_is_an_error(event: object) -> None:
    with pytest.raises(ModelUnavailable):
        delta_of(orjson.dumps(event), OURS)


CHOSEN = Sampling(response_format={"type": "json_schema"})
OURS = Sampling(temperature=0.0, max_tokens=1024)


@pytest.mark.parametrize(
    ("status", "sampling", "kind"),
    [
        (400, CHOSEN, InvalidQueryError),
        (422, CHOSEN, InvalidQueryError),
        (400, OURS, ModelUnavailable),
        (401, CHOSEN, ModelUnavailable),
        (404, CHOSEN, ModelUnavailable),
        (429, CHOSEN, ModelOverloaded),
        (500, CHOSEN, ModelUnavailable),
        (503, CHOSEN, ModelOverloaded),
    ],
)
def test_a_refused_request_is_the_callers_mistake_or_the_models(
    status: int, sampling: Sampling, kind: type[KBError]
) -> None:
    error = refusal(status, b'{"error": {"message": "no such thing"}}', sampling)

    assert type(error) is kind


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 2048 tokens.",
        "request (9000 tokens) exceeds the available context size (4096 tokens)",
    ],
)
def test_a_prompt_too_long_is_ours(message: str) -> None:
    body = orjson.dumps({"message": message})

    assert type(refusal(400, body, CHOSEN)) is ModelUnavailable


def test_a_schema_refused_in_the_stream_is_the_callers_mistake() -> None:
    data = orjson.dumps({"error": {"message": "Grammar error", "code": 400}})

    with pytest.raises(InvalidQueryError, match="Grammar error"):
        delta_of(data, CHOSEN)
    with pytest.raises(ModelUnavailable):
        delta_of(data, OURS)


async def _chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_events_are_found_however_they_are_cut() -> None:
    stream = b": comment\r\ndata: one\r\n\r\ndata:two\n\nevent: x\ndata: three\n\n"
    for size in (1, 3, 200):
        parts = [stream[i : i + size] for i in range(0, len(stream), size)]
        assert [data async for data in event_data(_chunks(*parts))] == [b"one", b"two", b"three"]


async def test_a_line_without_an_end_is_no_stream() -> None:
    with pytest.raises(ModelMisbehaved):
        [data async for data in event_data(_chunks(*[b"x" * 65536] * 32))]
