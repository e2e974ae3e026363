"""Which bodies of /v1/chat/completions are taken, and what is read from them."""

from typing import Any

import pytest
from pydantic import ValidationError

from kb.errors import InvalidQueryError
from kb.generation import Message
from serving.app.chat.protocol import ChatRequest

QUESTION = {"role": "user", "content": "What is the port of Heron?"}


def request(**given: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "kb", "messages": [QUESTION]} | given)


def conversation(*messages: dict[str, Any]) -> list[Message]:
    return request(messages=list(messages)).conversation()


@pytest.mark.parametrize(
    "given",
    [
        *(
            {name: None}
            for name in [
                *sorted(ChatRequest.model_fields.keys() - {"model", "messages"}),
                "tools",
                "tool_choice",
                "logit_bias",
                "parallel_tool_calls",
                "reasoning_effort",
            ]
        ),
        {"stream_options": {"include_usage": None}},
        {"tools": []},
        {"tool_choice": "none"},
        {"logit_bias": {}},
    ],
    ids=str,
)
def test_what_asks_for_nothing_is_as_if_left_out(given: dict[str, Any]) -> None:
    found = request(**given)

    assert found.sampling() == request().sampling()
    assert (found.stream, found.n) == (False, 1)
    assert not (found.stream_options and found.stream_options.include_usage)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"tools": [{"type": "function"}]}, ("tools",)),
        ({"tool_choice": "auto"}, ("tool_choice",)),
        ({"logit_bias": {"50256": -100}}, ("logit_bias",)),
        ({"parallel_tool_calls": False}, ("parallel_tool_calls",)),
        ({"made_up": []}, ("made_up",)),
        ({"n": 2}, ("n",)),
        ({"model": None}, ("model",)),
        ({"stream_options": {"made_up": True}}, ("stream_options", "made_up")),
        ({"stream_options": "all"}, ("stream_options",)),
    ],
    ids=str,
)
def test_what_asks_for_something_unknown_is_refused(
    given: dict[str, Any], place: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as caught:
        request(**given)

    assert [mistake["loc"] for mistake in caught.value.errors()] == [place]


@pytest.mark.parametrize("seed", [-(2**63), 2**63 - 1])
def test_a_seed_may_have_64_bits(seed: int) -> None:
    assert request(seed=seed).sampling().seed == seed


@pytest.mark.parametrize("seed", [-(2**63) - 1, 2**63, 2**64])
def test_a_longer_seed_is_refused(seed: int) -> None:
    with pytest.raises(ValidationError) as caught:
        request(seed=seed)

    assert caught.value.errors()[0]["loc"] == ("seed",)


@pytest.mark.parametrize("deep", [2**64, [[]]], ids=["long number", "deep"])
def test_a_schema_that_cannot_be_sent_on_is_refused(deep: Any) -> None:
    if isinstance(deep, list):
        for _ in range(300):
            deep = [deep]
    schema = {"name": "made_up", "schema": {"maximum": deep}}

    with pytest.raises(ValidationError) as caught:
        request(response_format={"type": "json_schema", "json_schema": schema})

    assert caught.value.errors()[0]["loc"] == ("response_format",)


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(ValidationError):
        ChatRequest.model_validate([QUESTION])


def test_what_is_said_of_a_text_beside_it_is_let_pass() -> None:
    part = {"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}

    assert conversation({"role": "user", "content": [part, part]}) == [
        Message("user", "Hello\nHello")
    ]


def test_an_assistants_refusal_is_read_as_its_text() -> None:
    refusal = {"type": "refusal", "refusal": "I can't say."}

    said, _ = conversation({"role": "assistant", "content": [refusal]}, QUESTION)

    assert said == Message("assistant", "I can't say.")


@pytest.mark.parametrize("role", ["user", "system"])
def test_nobody_else_refuses(role: str) -> None:
    refusal = {"type": "refusal", "refusal": "I can't say."}

    with pytest.raises(InvalidQueryError, match="only an assistant"):
        conversation({"role": role, "content": [refusal]}, QUESTION)


def test_other_parts_are_refused() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}

    with pytest.raises(ValidationError):
        request(messages=[{"role": "user", "content": [image]}])
