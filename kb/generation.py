"""The words of generation: what a language model is asked, and what it says. Plain frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; other roles than those of `Role` are passed over."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to generate: OpenAI's parameters. None leaves the choice to the model's server."""

    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    response_format: Mapping[str, Any] | None = None
    logprobs: bool = False
    top_logprobs: int | None = None

    @property
    def is_structured(self) -> bool:
        """The answer is to be JSON, in which [1] is no citation."""
        kind = (self.response_format or {}).get("type", "text")
        return bool(kind != "text")

    @property
    def demands(self) -> tuple[str, ...]:
        """The parameters asked for that shape the answer: only a generator can honour them."""
        asked = {
            "stop": bool(self.stop),
            "response_format": self.is_structured,
            "logprobs": self.logprobs,
        }
        return tuple(name for name, is_asked in asked.items() if is_asked)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the model counts them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class ModelDelta:
    """A piece of what a model says; never wholly empty.

    `text` belongs to the answer, `reasoning` to the thinking before it. `logprobs` are OpenAI's
    objects for the tokens of `text`. `finish` (OpenAI's finish_reason) comes once, and `usage` at
    most once, near the end.
    """

    text: str = ""
    reasoning: str = ""
    logprobs: tuple[Mapping[str, Any], ...] = ()
    finish: str | None = None
    usage: Usage | None = None
