"""The official `openai` package against a real server over the shipped examples."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI

from tests.e2e.kb_process import Server

pytestmark = pytest.mark.slow

QUESTIONS = [
    ("How many days of annual leave do I get?", "annual-leave.md", "25 days"),
    ("What does error code E2 of the kettle mean?", "kettle-k2.html", "temperature sensor"),
    ("How long is a lost phone's replacement code valid?", "vpn-and-accounts.md", "24 hours"),
    ("国内出差住宿标准是多少？", "报销制度.md", "六百元"),
    ("密封圈多久更换一次？", "储茶罐使用说明.md", "十八个月"),
    ("哪个会议室能坐二十个人？", "会议室与打印.txt", "龙井"),
]


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def ask(client: OpenAI, *turns: str, model: str = "kb") -> Any:
    """Turns are the user's and the assistant's in alternation, the user's first."""
    roles = ("user", "assistant")
    messages: Any = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return client.chat.completions.create(model=model, messages=messages)


def cited_file(completion: Any) -> str:
    return unquote(completion.citations[0]["uri"]).rsplit("/", 1)[-1]


@pytest.mark.parametrize(("question", "file", "words"), QUESTIONS)
def test_answer_cites_the_right_document(
    client: OpenAI, question: str, file: str, words: str
) -> None:
    completion = ask(client, question)
    message = completion.choices[0].message
    assert cited_file(completion) == file
    assert words in message.content
    annotation = message.annotations[0]
    assert annotation.type == "url_citation"
    span = message.content[annotation.url_citation.start_index : annotation.url_citation.end_index]
    assert span == "[1]"
    assert completion.kb["answered_by"] == "extractive"
    assert completion.usage.total_tokens > 0


@pytest.mark.parametrize("question", [QUESTIONS[0][0], QUESTIONS[3][0]])
def test_streaming_gives_the_same_answer_and_citations(client: OpenAI, question: str) -> None:
    whole = ask(client, question)
    stream = client.chat.completions.create(
        model="kb",
        messages=[{"role": "user", "content": question}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    last: Any = next(c for c in chunks if c.choices and c.choices[0].finish_reason == "stop")
    assert text == whole.choices[0].message.content
    assert last.citations == whole.citations
    annotations = [a.model_dump() for a in whole.choices[0].message.annotations]
    assert last.choices[0].delta.annotations == annotations
    assert chunks[-1].usage
    assert len(chunks) > 4


def test_cited_quote_is_the_exact_span(client: OpenAI, server: Server) -> None:
    import httpx

    citation = ask(client, QUESTIONS[0][0]).citations[0]
    document = httpx.get(f"{server.url}/v1/documents/{citation['document_id']}/chunks").json()
    chunk = next(c for c in document["data"] if c["id"] == citation["chunk_id"])
    offset = citation["start"] - chunk["start"]
    assert chunk["text"][offset:][: len(citation["quote"])] == citation["quote"]
    page = httpx.get(citation["url"].partition("#")[0])
    assert page.status_code == 200
    assert f'id="{citation["chunk_id"]}"' in page.text


def test_question_in_the_other_language(client: OpenAI) -> None:
    assert cited_file(ask(client, "病假从第几天开始需要医生证明？")) == "annual-leave.md"
    assert (
        cited_file(ask(client, "How much is the meal allowance on business trips?"))
        == "报销制度.md"
    )


def test_follow_up_is_read_with_the_conversation(client: OpenAI) -> None:
    first = ask(client, "How do I start the VPN client on macOS?").choices[0].message.content
    completion = ask(client, "How do I start the VPN client on macOS?", first, "And on Windows?")
    assert cited_file(completion) == "vpn-and-accounts.md"
    assert "Start menu" in completion.choices[0].message.content


@pytest.mark.parametrize("question", ["Who won the 1998 football world cup?", "红楼梦的作者是谁？"])
def test_what_the_documents_do_not_hold_is_refused(client: OpenAI, question: str) -> None:
    completion = ask(client, question)
    assert completion.kb["answered_by"] == "refusal"
    assert completion.kb["refusal"]["reason"]
    assert completion.citations == []


def test_models_are_collections(client: OpenAI) -> None:
    assert "kb" in [model.id for model in client.models.list()]
    assert client.models.retrieve("kb").id == "kb"
    with pytest.raises(NotFoundError, match="There are: kb"):
        client.models.retrieve("gpt-4o")


def test_embeddings(client: OpenAI) -> None:
    texts = ["annual leave", "年假", "kettle"]
    by_base64 = client.embeddings.create(model="kb-embedding", input=texts)
    by_float = client.embeddings.create(model="kb-embedding", input=texts, encoding_format="float")
    first, second = by_base64.data[0].embedding, by_float.data[0].embedding
    assert len(first) == 384
    assert first == pytest.approx(second, abs=1e-6)
    assert sum(x * x for x in first) == pytest.approx(1, abs=1e-3)
    assert by_float.usage.prompt_tokens > 0


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "hello"}]}, None),
        ({"messages": [{"role": "user", "content": " "}]}, None),
        ({"messages": [{"role": "user", "content": "x"}], "n": 2}, "n"),
        ({"messages": [{"role": "user", "content": "x"}], "temperature": 9}, "temperature"),
        ({"messages": [{"role": "user", "content": "x"}], "tools": [{}]}, "tools"),
        # Without a generator nobody can do these.
        ({"messages": [{"role": "user", "content": "x"}], "stop": ["."]}, None),
        ({"messages": [{"role": "user", "content": "x"}], "logprobs": True}, None),
        (
            {
                "messages": [{"role": "user", "content": "x"}],
                "response_format": {"type": "json_object"},
            },
            None,
        ),
        ({"messages": [{"role": "user", "content": "x"}], "top_logprobs": 2}, None),
    ],
)
def test_bad_requests_are_400_in_openais_shape(
    client: OpenAI, arguments: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="kb", **arguments)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_unknown_model_is_404(client: OpenAI) -> None:
    with pytest.raises(APIStatusError) as caught:
        ask(client, "x", model="kb/nowhere")
    assert (caught.value.status_code, caught.value.code) == (404, "model_not_found")
