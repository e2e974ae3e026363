"""What clients see when the generator misbehaves: a real server process that does, and ours before it."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, OpenAI

from tests.e2e.kb_process import Server, data_folder, start_server, stop_server
from tests.misbehaving import Misbehaving, misbehaving_server

pytestmark = pytest.mark.slow

FACT = "The port of Heron is 5520."
QUESTION: Any = [{"role": "user", "content": "What is the port of Heron?"}]
FIRST_TOKEN_S = 1.0
SOON_S = 10.0
"""Beside the deadlines, on a busy machine."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Misbehaving]:
    with misbehaving_server() as found:
        yield found


@pytest.fixture(scope="module")
def kb(
    upstream: Misbehaving, tmp_path_factory: pytest.TempPathFactory, models: Path
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("faults")
    documents = folder / "documents"
    documents.mkdir()
    (documents / "heron.md").write_text(f"# Heron\n\n{FACT}\n")
    running = start_server(
        ["up", "--docs", str(documents)],
        data_folder(folder / "data", models),
        folder,
        KB_GENERATION__URL=f"{upstream.url}/v1",
        KB_GENERATION__FIRST_TOKEN_S=str(FIRST_TOKEN_S),
        KB_GENERATION__BETWEEN_TOKENS_S=str(FIRST_TOKEN_S),
        KB_GENERATION__TOTAL_S="4",
        KB_GENERATION__MAX_TOKENS="64",
        KB_GENERATION__FAILURES="1000000",  # The breaker has tests of its own.
    )
    yield running
    stop_server(running)


@pytest.fixture
def client(kb: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{kb.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def ask(client: OpenAI, **parameters: Any) -> Any:
    return client.chat.completions.create(model="kb", messages=QUESTION, **parameters)


def metric(kb: Server, line: str) -> float:
    text = httpx.get(f"{kb.url}/metrics").text
    return sum(
        float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(line)
    )


def test_a_server_that_works_answers(client: OpenAI, upstream: Misbehaving) -> None:
    upstream.mode("good")

    completion = ask(client)

    assert completion.choices[0].message.content == "Heron listens on port 5520 [1]."
    assert completion.kb["answered_by"] == "generator"
    assert completion.kb["model"] == "small"
    assert completion.kb["degraded_because"] is None
    assert completion.usage.completion_tokens == 4
    assert completion.citations[0]["quote"] == FACT
    assert completion.kb["support"]["supported"]
    assert upstream.state()["body"]["messages"][0]["role"] == "system"


@pytest.mark.parametrize(
    ("mode", "code", "seconds"),
    [
        ("error_500", "model_unavailable", 0),
        ("overloaded", "model_overloaded", 0),
        ("gone", "model_overloaded", 0),
        ("garbage", "model_misbehaved", 0),
        ("html", "model_misbehaved", 0),
        ("empty", "model_misbehaved", 0),
        ("error_event", "model_unavailable", 0),
        ("cut_at_once", "model_unavailable", 0),
        ("endless_line", "model_misbehaved", 0),
        ("silent", "model_timeout", FIRST_TOKEN_S),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_before_the_first_word_the_next_rung_answers(
    client: OpenAI,
    kb: Server,
    upstream: Misbehaving,
    mode: str,
    code: str,
    seconds: float,
    stream: bool,
) -> None:
    upstream.mode("good")
    ask(client)
    upstream.mode(mode)
    counter = f'kb_generation_failures_total{{code="{code}",rung="generator"}}'
    before = metric(kb, counter)
    started = time.monotonic()

    if stream:
        *chunks, last = ask(client, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in [*chunks, last])
    else:
        last = ask(client)
        text = last.choices[0].message.content

    assert time.monotonic() - started < seconds + SOON_S
    assert text == f"{FACT} [1]"
    assert last.kb["answered_by"] == "extractive"
    assert last.kb["degraded_because"] == f"generator: {code}"
    assert [citation["quote"] for citation in last.citations] == [FACT]
    assert metric(kb, counter) == before + 1


@pytest.mark.parametrize("mode", ["cut", "halting", "slow", "endless"])
def test_a_stream_that_dies_later_ends_with_an_error(
    client: OpenAI, kb: Server, upstream: Misbehaving, mode: str
) -> None:
    upstream.mode(mode)
    before = metric(kb, "kb_answers_interrupted_total")
    started = time.monotonic()
    stream = ask(client, stream=True, max_tokens=16 if mode == "endless" else 2000)
    chunks = [next(stream), next(stream)]

    with pytest.raises(APIError) as caught:
        chunks.extend(stream)

    assert time.monotonic() - started < 4 + SOON_S
    assert chunks[1].choices[0].delta.content
    assert caught.value.code == "answer_interrupted"
    assert metric(kb, "kb_answers_interrupted_total") == before + 1
    assert upstream.wait_until_idle()["under_way"] == 0


@pytest.mark.parametrize("mode", ["cut", "halting", "slow", "endless"])
def test_where_nothing_was_sent_yet_the_next_rung_answers(
    client: OpenAI, upstream: Misbehaving, mode: str
) -> None:
    upstream.mode(mode)

    completion = ask(client, max_tokens=16 if mode == "endless" else 2000)

    assert completion.choices[0].message.content == f"{FACT} [1]"
    assert completion.kb["answered_by"] == "extractive"
    assert upstream.wait_until_idle()["under_way"] == 0


def hang_up_after(seconds: float, url: str, body: dict[str, Any]) -> None:
    end = time.monotonic() + seconds
    with (
        suppress(httpx.ReadTimeout),
        httpx.Client(trust_env=False, timeout=seconds) as client,
        client.stream("POST", url, json=body) as response,
    ):
        for _ in response.iter_bytes():
            if time.monotonic() > end:
                return


@pytest.mark.parametrize("mode", ["slow", "silent"])
@pytest.mark.parametrize("stream", [False, True])
def test_hanging_up_reaches_the_generator(
    kb: Server, upstream: Misbehaving, mode: str, stream: bool
) -> None:
    upstream.mode(mode)
    hung_up = upstream.state()["hung_up"]
    abandoned = metric(kb, "kb_answers_abandoned_total")
    body = {"model": "kb", "messages": QUESTION, "stream": stream, "max_tokens": 2000}
    hang_up_after(0.6, f"{kb.url}/v1/chat/completions", body)

    state = upstream.wait_until_idle(0.9)

    assert state["under_way"] == 0
    assert state["hung_up"] == hung_up + 1
    assert metric(kb, "kb_answers_abandoned_total") == abandoned + 1


def test_thinking_is_apart_from_the_answer(client: OpenAI, upstream: Misbehaving) -> None:
    upstream.mode("thinking")

    message = ask(client).choices[0].message
    chunks = list(ask(client, stream=True))

    assert message.content == "Heron listens on port 5520 [1]."
    assert message.reasoning_content == "The first passage."
    deltas = [chunk.choices[0].delta.model_dump() for chunk in chunks]
    assert "".join(d.get("reasoning_content") or "" for d in deltas) == "The first passage."
    assert "".join(d.get("content") or "" for d in deltas) == message.content


def test_parameters_are_passed_on(client: OpenAI, upstream: Misbehaving) -> None:
    upstream.mode("good")

    ask(client, temperature=0.3, top_p=0.8, seed=5, stop=["END"], max_tokens=33, logprobs=True)

    sent = upstream.state()["body"]
    assert {
        name: sent[name] for name in ("temperature", "top_p", "seed", "stop", "max_tokens")
    } == {
        "temperature": 0.3,
        "top_p": 0.8,
        "seed": 5,
        "stop": ["END"],
        "max_tokens": 33,
    }
    assert sent["logprobs"] is True
