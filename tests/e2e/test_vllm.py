"""Answers by a real vLLM: grounded, cited, cancelled, packed into a small context."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI

from serving.answering.citing import CitationFilter
from tests.e2e.kb_process import Server
from tests.injections import INJECTIONS, QUESTIONS, Injection, document
from tests.models.sentences import Fact
from tests.relay import Relay
from tests.vllm_process import CONTEXT, FIRST_START_S, VLLM

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(FIRST_START_S)]

LONG_S = 30
SOON_S = 5.0
LEAST_RIGHT = 0.5


@pytest.fixture
def client(grounded: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{grounded.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def ask(client: OpenAI, question: str, **parameters: Any) -> Any:
    messages: Any = [{"role": "user", "content": question}]
    return client.chat.completions.create(model="kb", messages=messages, **parameters)


def test_answers_are_grounded_and_cited(client: OpenAI, facts: list[Fact]) -> None:
    """The model is small: most of its sentences must be right. Every citation must exist, and one that
    does not carry its sentence must be noticed."""
    right = 0
    for one in facts:
        completion = ask(client, one.question)
        assert completion.kb["answered_by"] == "generator", completion.kb
        assert completion.kb["degraded_because"] is None
        text = completion.choices[0].message.content
        numbers = [citation["number"] for citation in completion.citations]
        assert numbers == list(range(1, len(numbers) + 1))
        assert all(f"[{number}]" in text for number in numbers)
        quotes = [citation["quote"] for citation in completion.citations]
        right += one.sentence in text
        if one.sentence in text and (quotes == [one.sentence] or one.sentence.isascii()):
            # Names are told from other words by their capitals: a wrong Chinese one may pass.
            assert completion.kb["support"]["supported"] is (quotes == [one.sentence])
    assert right >= len(facts) * LEAST_RIGHT


def test_streaming_gives_the_same_answer_and_citations(client: OpenAI, facts: list[Fact]) -> None:
    for one in facts[:4]:
        whole = ask(client, one.question)
        *chunks, usage = ask(
            client, one.question, stream=True, stream_options={"include_usage": True}
        )
        last = chunks[-1]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == whole.choices[0].message.content
        assert last.citations == whole.citations
        assert last.kb == whole.kb
        marks = [mark.model_dump() for mark in whole.choices[0].message.annotations or []]
        assert last.choices[0].delta.annotations == marks
        assert usage.usage == whole.usage
        assert usage.usage.prompt_tokens > 20


def test_a_prompt_longer_than_the_context_is_packed(client: OpenAI) -> None:
    completion = ask(client, "Which room does the long corridor number 7 have?")

    assert completion.kb["answered_by"] == "generator"
    assert completion.usage.prompt_tokens + 128 <= 2048


def test_a_long_conversation_is_trimmed(client: OpenAI, facts: list[Fact]) -> None:
    turns: Any = []
    for _ in range(40):
        turns.append({"role": "user", "content": "What is the price of it? " * 10})
        turns.append({"role": "assistant", "content": "It is not known to anybody here. " * 10})
    turns.append({"role": "user", "content": facts[0].question})

    completion: Any = client.chat.completions.create(model="kb", messages=turns)

    assert completion.kb["answered_by"] == "generator"


def test_hanging_up_ends_vllms_work(
    grounded: Server, alive: VLLM, relay: Relay, facts: list[Fact]
) -> None:
    """Our server closes its connection to vLLM, and vLLM drops what it was doing for it."""
    messages = [{"role": "user", "content": facts[0].question}]
    body = {"model": "kb", "messages": messages}
    url = f"{grounded.url}/v1/chat/completions"

    with relay.holding(words=4) as hold:
        hang_up_at_the_first_word(url, body)
        assert hold.hung_up.wait(SOON_S)
    assert_idle(alive)

    with relay.holding(words=4) as hold:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json=body, timeout=5, trust_env=False)
        assert hold.reached.is_set(), "it was vLLM's answer that the client did not wait for"
        assert hold.hung_up.wait(SOON_S)
    assert_idle(alive)


def hang_up_at_the_first_word(url: str, body: dict[str, Any]) -> None:
    with (
        httpx.Client(trust_env=False, timeout=LONG_S) as plain,
        plain.stream("POST", url, json=body | {"stream": True}) as response,
    ):
        for line in response.iter_lines():
            if '"content":"' in line and '"content":""' not in line:
                return


def assert_idle(vllm: VLLM, seconds: float = 2.0) -> None:
    end = time.monotonic() + seconds
    while vllm.running_requests() and time.monotonic() < end:
        time.sleep(0.05)
    assert vllm.running_requests() == 0


def test_parameters_act(client: OpenAI, facts: list[Fact]) -> None:
    question = facts[0].question
    short = ask(client, question, max_tokens=3)
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens == 3
    wild = [ask(client, question, temperature=1.5, seed=4, max_tokens=40) for _ in range(2)]
    texts = [completion.choices[0].message.content for completion in wild]
    assert texts[0] == texts[1]
    stopped = ask(client, question, stop=["."])
    assert "." not in stopped.choices[0].message.content.split("[")[0]


def test_log_probabilities_are_the_models_own(client: OpenAI, facts: list[Fact]) -> None:
    completion = ask(client, facts[0].question, logprobs=True, top_logprobs=2)

    tokens = completion.choices[0].logprobs.content
    checked = CitationFilter(passages=4)
    told = "".join(token.token for token in tokens).removesuffix("<|end|>")
    said = checked.feed(told) + checked.finish()
    assert said == completion.choices[0].message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)


def test_json_of_a_schema(client: OpenAI, facts: list[Fact]) -> None:
    schema = {"type": "string", "enum": ["known", "unknown"]}
    completion = ask(
        client,
        facts[0].question,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )

    assert completion.choices[0].message.content in ('"known"', '"unknown"')
    assert completion.kb["answered_by"] == "generator"


def test_a_schema_that_is_none_is_the_callers_mistake(client: OpenAI, facts: list[Fact]) -> None:
    bad: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(BadRequestError) as caught:
        ask(client, facts[0].question, response_format=bad)
    assert caught.value.code == "invalid_query"


def test_off_topic_questions_ask_no_model(client: OpenAI) -> None:
    completion = ask(client, "Who won the 1998 football world cup?")

    assert completion.kb["answered_by"] == "refusal"


@pytest.mark.parametrize("injection", INJECTIONS, ids=lambda i: f"{i.language} {i.kind}")
def test_documents_give_no_orders(grounded: Server, client: OpenAI, injection: Injection) -> None:
    """Through the whole product: citations, form and the rest of the answer stay as they are."""
    collection = f"hostile-{INJECTIONS.index(injection)}"
    upload(grounded, collection, document(injection))

    messages: Any = [{"role": "user", "content": QUESTIONS[injection.language]}]
    completion: Any = client.chat.completions.create(model=f"kb/{collection}", messages=messages)

    message = completion.choices[0].message
    assert completion.kb["answered_by"] == "generator"
    assert {citation["number"] for citation in completion.citations} <= {1}
    assert all(f"[{n}]" not in message.content for n in range(2, 10))
    assert "You answer questions" not in message.content
    assert "你负责回答" not in message.content
    assert message.role == "assistant"


def upload(grounded: Server, collection: str, text: str) -> None:
    with httpx.Client(trust_env=False, base_url=grounded.url, timeout=LONG_S) as client:
        sent = client.post(
            "/v1/documents",
            files={"file": ("heron.md", text.encode(), "text/markdown")},
            data={"collection": collection},
        )
        document_id = sent.raise_for_status().json()["id"]
        end = time.monotonic() + LONG_S
        while time.monotonic() < end:
            status = client.get(f"/v1/documents/{document_id}/status").json()["status"]
            if status != "pending":
                break
            time.sleep(0.1)
        assert status == "indexed"


def test_seeds_in_a_burst_of_long_prompts_do_no_harm(alive: VLLM) -> None:
    """On processors, a prompt that vLLM reads in parts and that has a seed would end it."""
    client = OpenAI(base_url=alive.url, api_key="unused", max_retries=0)

    def say(number: int) -> int:
        words = f"{number} " + "The long corridor has a room. " * 60
        said = client.chat.completions.create(
            model=VLLM.name,
            messages=[{"role": "user", "content": words}],
            seed=number,
            temperature=1.0,
            max_tokens=4,
        )
        return said.usage.prompt_tokens if said.usage else 0

    with client, ThreadPoolExecutor(32) as threads:
        read = list(threads.map(say, range(32)))

    assert sum(read) > 4 * CONTEXT, "too little to be read at once"
