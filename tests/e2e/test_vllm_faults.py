"""What clients see when a real vLLM is killed or halted, at every moment, and comes back."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, OpenAI

from tests.e2e.kb_process import Server, data_folder, start_server, stop_server
from tests.relay import Relay
from tests.vllm_process import FIRST_START_S, VLLM

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(FIRST_START_S)]

FACT = "Server Kebar Lisbon listens in the cellar."
QUOTED = f"{FACT} [1]"
QUESTION: Any = [{"role": "user", "content": "Where is the server Kebar?"}]
FIRST_TOKEN_S = 5.0
PAUSE_S = 3.0
WORDS = 4
"""Of an answer of a dozen, before vLLM is killed."""
SOON_S = 5.0
"""Beside the deadlines, on a busy machine."""


@pytest.fixture(scope="module")
def kb(relay: Relay, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("kb")
    (folder / "documents").mkdir()
    (folder / "documents" / "f1.md").write_text(FACT + "\n", "utf-8")
    running = start_server(
        ["up", "--docs", str(folder / "documents")],
        data_folder(folder / "data", models),
        folder,
        KB_GENERATION__URL=relay.url,
        KB_GENERATION__FIRST_TOKEN_S=str(FIRST_TOKEN_S),
        KB_GENERATION__BETWEEN_TOKENS_S=str(FIRST_TOKEN_S),
        KB_GENERATION__FAILURES="2",
        KB_GENERATION__PAUSE_S=str(PAUSE_S),
    )
    yield running
    stop_server(running)


@pytest.fixture
def client(kb: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{kb.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def ask(client: OpenAI, **parameters: Any) -> Any:
    return client.chat.completions.create(model="kb", messages=QUESTION, **parameters)


def wait_for_generator(client: OpenAI, seconds: float) -> float:
    """Seconds until the generator answers again, asked twice a second as users would."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if ask(client).kb["answered_by"] == "generator":
            return time.monotonic() - started
        time.sleep(0.5)
    raise AssertionError(f"the generator was not in use again within {seconds} s")


def test_killed_before_and_back_again(client: OpenAI, alive: VLLM, kb: Server) -> None:
    wait_for_generator(client, 30)
    alive.kill()
    started = time.monotonic()

    answers = [ask(client) for _ in range(4)]

    assert time.monotonic() - started < 4 * SOON_S
    assert {answer.choices[0].message.content for answer in answers} == {QUOTED}
    assert [answer.kb["degraded_because"] for answer in answers] == [
        *["generator: model_unavailable"] * 2,
        *["generator: model_suspended"] * 2,
    ]
    counted = httpx.get(f"{kb.url}/metrics").text
    assert 'kb_generation_failures_total{code="model_suspended",rung="generator"}' in counted

    alive.start()
    assert wait_for_generator(client, 30) < PAUSE_S + SOON_S


def test_halted_and_resumed(client: OpenAI, alive: VLLM) -> None:
    wait_for_generator(client, 30)
    alive.halt()
    try:
        waited = []
        answers = []
        for _ in range(3):
            started = time.monotonic()
            answers.append(ask(client))
            waited.append(time.monotonic() - started)
        assert [answer.kb["degraded_because"] for answer in answers] == [
            *["generator: model_timeout"] * 2,
            "generator: model_suspended",
        ]
        assert {answer.choices[0].message.content for answer in answers} == {QUOTED}
        assert max(waited) < FIRST_TOKEN_S + SOON_S
        assert waited[-1] < SOON_S
        time.sleep(PAUSE_S)
        started = time.monotonic()
        assert ask(client).kb["answered_by"] == "extractive"
        assert time.monotonic() - started < 1 + SOON_S  # A probe, not the first-token deadline.
    finally:
        alive.resume()
    assert wait_for_generator(client, 30) < PAUSE_S + 1 + SOON_S


def test_killed_while_the_first_token_is_awaited(client: OpenAI, alive: VLLM) -> None:
    wait_for_generator(client, 30)
    alive.halt()
    killing = threading.Timer(1.0, alive.kill)
    killing.start()
    started = time.monotonic()

    completion = ask(client)

    assert time.monotonic() - started < 1 + SOON_S
    assert completion.choices[0].message.content == QUOTED
    assert completion.kb["degraded_because"] == "generator: model_unavailable"


def test_killed_in_the_middle_of_a_stream(client: OpenAI, alive: VLLM, relay: Relay) -> None:
    wait_for_generator(client, 30)
    with relay.holding(words=WORDS):
        stream = iter(ask(client, stream=True))
        first = next(text for chunk in stream if (text := chunk.choices[0].delta.content))
        alive.kill()
        with pytest.raises(APIError) as interrupted:
            list(stream)
    assert QUOTED.startswith(first)
    assert interrupted.value.code == "answer_interrupted"


def test_killed_in_the_middle_of_a_whole_answer(client: OpenAI, alive: VLLM, relay: Relay) -> None:
    wait_for_generator(client, 30)
    with relay.holding(words=WORDS) as hold, ThreadPoolExecutor() as pool:
        answer = pool.submit(ask, client)
        assert hold.reached.wait(FIRST_TOKEN_S)
        alive.kill()
        completion = answer.result()
    assert completion.choices[0].message.content == QUOTED
    assert completion.kb["degraded_because"] == "generator: model_unavailable"
