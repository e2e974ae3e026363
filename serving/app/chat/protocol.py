"""Bodies of /v1/chat/completions, in the shapes of OpenAI's API reference."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from kb.errors import InvalidQueryError
from kb.generation import Message, Sampling
from kb.types import Citation
from serving.answering.citations import markers
from serving.answering.events import Answer
from serving.answering.support import Support

_EMPTY: Final[Mapping[str, Any]] = {"tools": [], "tool_choice": "none", "logit_bias": {}}
"""Parameters unknown to us, with the value that asks for nothing."""


class Options(BaseModel):
    """Null is an option left unset, as clients send it that write out all they know of."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {name: value for name, value in given.items() if value is not None}


class TextPart(BaseModel):
    """What clients say of a text beside it (`cache_control`) is let pass."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text"]
    text: str


class RefusalPart(BaseModel):
    """An assistant's refusal, echoed in OpenAI's own shape."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["refusal"]
    refusal: str


class ChatMessage(BaseModel):
    """A turn of the conversation; what clients echo of our own answers (citations) is let pass."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart | RefusalPart] | None = None
    name: str | None = None

    def flattened(self) -> Message:
        """Raises InvalidQueryError for a refusal of another than the assistant."""
        content = self.content or ""
        if not isinstance(content, str):
            content = "\n".join(self._text(part) for part in content)
        return Message("system" if self.role == "developer" else self.role, content)

    def _text(self, part: TextPart | RefusalPart) -> str:
        if isinstance(part, TextPart):
            return part.text
        if self.role != "assistant":
            raise InvalidQueryError("messages: only an assistant's message can have a refusal.")
        return part.refusal


class StreamOptions(Options):
    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="allow")  # `json_schema` is the model's server's to check.

    type: Literal["text", "json_object", "json_schema"]

    @model_validator(mode="after")
    def _can_be_sent_on(self) -> "ResponseFormat":
        """JSON that can be read can hold longer numbers, and be nested deeper, than what is written."""
        try:
            orjson.dumps({"response_format": self.model_dump()})  # As deep as in a body.
        except (TypeError, ValueError) as error:
            raise ValueError(f"can't be sent on: {error}") from error
        return self


class ChatRequest(Options):
    """Unknown parameters that ask for something are refused. All others go to the generator; those of
    sampling (temperature to seed) have nothing to act on where the answer is quoted."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    user: str | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {
            name: value
            for name, value in given.items()
            if name not in _EMPTY or value != _EMPTY[name]
        }

    def conversation(self) -> list[Message]:
        """Raises InvalidQueryError where there is no question at the end, and as `flattened` does."""
        messages = [message.flattened() for message in self.messages]
        if messages[-1].role != "user" or not messages[-1].content.strip():
            raise InvalidQueryError("messages: the last message must be a user's question.")
        return messages

    def sampling(self) -> Sampling:
        """Raises InvalidQueryError for parameters that contradict each other."""
        if self.top_logprobs and not self.logprobs:
            raise InvalidQueryError("top_logprobs: needs logprobs to be true.")
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=self.seed,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            stop=tuple(text for text in stop if text),
            response_format=self.response_format.model_dump() if self.response_format else None,
            logprobs=bool(self.logprobs),
            top_logprobs=self.top_logprobs,
        )


def citation_body(citation: Citation, base_url: str) -> dict[str, Any]:
    return {
        "number": citation.number,
        "document_id": citation.document_id,
        "chunk_id": citation.chunk_id,
        "uri": citation.uri,
        "also_at": list(citation.also_at),
        "url": citation_url(citation, base_url),
        "title": citation.title,
        "heading_path": list(citation.heading_path),
        "page": citation.page,
        "quote": citation.quote,
        "start": citation.start,
        "end": citation.end,
        "score": citation.score,
    }


def citation_url(citation: Citation, base_url: str) -> str:
    """Where the cited passage can be read, on this server."""
    return f"{base_url}documents/{citation.document_id}#{citation.chunk_id}"


def annotations(answer: Answer, base_url: str) -> list[dict[str, Any]]:
    """OpenAI's own shape: one annotation for each [n], with its place in the text."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": mark.start,
                "end_index": mark.end,
                "title": mark.citation.title,
                "url": citation_url(mark.citation, base_url),
            },
        }
        for mark in markers(answer.text, answer.citations)
    ]


def evidence(answer: Answer, collection: str, base_url: str) -> dict[str, Any]:
    """What an answer carries beyond OpenAI's fields: the citations, and how it came about."""
    refusal = answer.refusal
    return {
        "citations": [citation_body(citation, base_url) for citation in answer.citations],
        "kb": {
            "collection": collection,
            "question": answer.question,
            "answered_by": answer.answered_by,
            "cached": answer.cached,
            "degraded_because": answer.degraded_because,
            "refusal": refusal and {"reason": refusal.reason, "scores": dict(refusal.scores)},
            "top_score": max((hit.score for hit in answer.hits), default=None),
            "model": answer.model,
            "prompt": answer.prompt,
            "support": answer.support and support_body(answer.support),
        },
    }


def support_body(support: Support) -> dict[str, Any]:
    """How far the cited passages carry what is said; `supported` false is a warning to the reader."""
    return {
        "supported": support.is_supported,
        "score": support.score,
        "statements": [
            {
                "start": statement.start,
                "end": statement.end,
                "citations": list(statement.citations),
                "score": statement.score,
                "missing": list(statement.missing),
                "supported": statement.is_supported,
            }
            for statement in support.statements
        ],
    }
