"""Bodies of chat completions, whole and in chunks, from the events of an answer."""

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from kb.errors import UNFORESEEN, KBError
from kb.generation import Message
from kb.metrics import ERRORS
from kb.ports import Embedder
from serving.answering.events import Answer, Event, Finished, ReasoningDelta, TextDelta
from serving.app.chat.protocol import annotations, evidence
from serving.app.errors import error_body, status_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer on its way to a client of OpenAI's API."""

    model: str
    collection: str
    base_url: str
    messages: Sequence[Message]
    embedder: Embedder
    is_structured: bool
    id: str
    created: int

    @classmethod
    def begin(cls, **given: Any) -> "Completion":
        return cls(id=f"chatcmpl-{uuid.uuid4().hex}", created=int(time.time()), **given)

    def whole(self, answer: Answer) -> dict[str, Any]:
        refused = self._refusal(answer)
        message = {
            "role": "assistant",
            "content": None if refused else answer.text,
            "refusal": refused,
            "annotations": annotations(answer, self.base_url),
            **({"reasoning_content": answer.reasoning} if answer.reasoning else {}),
        }
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": answer.finish,
            "logprobs": _logprobs(answer.logprobs),
        }
        extras = evidence(answer, self.collection, self.base_url)
        head = self._head("chat.completion")
        return {**head, "choices": [choice], "usage": self._usage(answer), **extras}

    async def events(
        self, first: Event, rest: AsyncGenerator[Event, None], with_usage: bool
    ) -> AsyncGenerator[bytes, None]:
        """Server-sent events: role, text as it comes, then annotations and citations; usage where
        asked for. A failure is one event with an error, and the last: the status has been sent, so
        that the application's handlers come too late, also for what nobody foresaw."""
        try:
            async with aclosing(rest):
                yield _sent(self._chunk({"role": "assistant", "content": ""}))
                for body in self._chunks(first, with_usage):
                    yield _sent(body)
                async for event in rest:
                    for body in self._chunks(event, with_usage):
                        yield _sent(body)
        except Exception as error:  # noqa: BLE001 - told and logged, whatever it is
            yield _sent(_failure(error))
            return
        yield b"data: [DONE]\n\n"

    def _chunks(self, event: Event, with_usage: bool) -> list[dict[str, Any]]:
        match event:
            case TextDelta(text, logprobs):
                return [self._chunk({"content": text}, logprobs=logprobs)]
            case ReasoningDelta(text):
                return [self._chunk({"reasoning_content": text})]
            case Finished(answer):
                return self._last(answer, with_usage)

    def _last(self, answer: Answer, with_usage: bool) -> list[dict[str, Any]]:
        delta: dict[str, Any] = {"annotations": annotations(answer, self.base_url)}
        if refused := self._refusal(answer):
            delta["refusal"] = refused
        extras = evidence(answer, self.collection, self.base_url)
        chunks = [{**self._chunk(delta, answer.finish), **extras}]
        if with_usage:
            chunks.append({**self._chunk({}), "choices": [], "usage": self._usage(answer)})
        return chunks

    def _chunk(
        self,
        delta: dict[str, Any],
        finish: str | None = None,
        logprobs: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        choice = {
            "index": 0,
            "delta": delta,
            "finish_reason": finish,
            "logprobs": _logprobs(logprobs),
        }
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _refusal(self, answer: Answer) -> str | None:
        """OpenAI's field for what can't have the form asked for; elsewhere a refusal is text, and
        `kb.refusal` says so."""
        refused = self.is_structured and answer.refusal is not None
        return answer.refusal.message if refused and answer.refusal else None

    def _usage(self, answer: Answer) -> dict[str, int]:
        """As the model counted; where none was asked, of the conversation and of the text."""
        if answer.usage:
            asked, said = answer.usage.prompt_tokens, answer.usage.completion_tokens
        else:
            asked = sum(self.embedder.count_tokens([m.content for m in self.messages]))
            said = sum(self.embedder.count_tokens([answer.text]))
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _failure(error: Exception) -> dict[str, Any]:
    """Counted and logged; a bug of ours is logged whole, and told without details."""
    if isinstance(error, KBError):
        log.error("answer_failed", code=error.code, reason=error.message)
    else:
        log.exception("unexpected_error", exc_info=error)
        error = KBError(UNFORESEEN)
    ERRORS.labels(error.code).inc()
    return error_body(error.message, status_of(error), error.code)


def _logprobs(found: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Of the model's own tokens, those of removed citations included."""
    return {"content": list(found), "refusal": None} if found else None


def _sent(body: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
