"""What an answer is, and the events it comes as, whichever rung of the ladder gives it."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kb.generation import Message, Sampling, Usage
from kb.types import Citation, Hit
from serving.answering.extractive import Extract
from serving.answering.refusal import Refusal
from serving.answering.support import Support


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` has markers [1], [2] for `citations`, which are numbered from 1 as they appear.

    `hits` are what it was made from, `question` is the stand-alone question that was searched.
    `answered_by` is "generator", "fallback", "extractive", "passages", or "refusal" where nothing was
    asked of any; `degraded_because` says why a lower rung answered than the highest configured, and
    is None where the highest did. `refusal` is set when refused. `model`, `prompt` (its version),
    `reasoning`, `usage` and `logprobs` are a generator's; `support` is None for JSON. `cached` says that
    it was given before.
    """

    text: str
    citations: tuple[Citation, ...]
    hits: tuple[Hit, ...]
    answered_by: str
    degraded_because: str | None
    refusal: Refusal | None
    question: str
    support: Support | None = None
    model: str | None = None
    prompt: str | None = None
    reasoning: str = ""
    finish: str = "stop"
    usage: Usage | None = None
    logprobs: tuple[Mapping[str, Any], ...] = ()
    cached: bool = False


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer's text; no marker is cut apart."""

    text: str
    logprobs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The next piece of a model's thinking, which is no part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: the whole answer. Its text is the text deltas joined."""

    answer: Answer


Event = TextDelta | ReasoningDelta | Finished


@dataclass(frozen=True, slots=True)
class Task:
    """What a rung answers.

    `asked` is what the user wrote last, `question` the same as it was searched. `extract` is None
    where the hits' sentences could not be compared. `history` are the turns before, `wishes` the
    client's system messages. `deadline` is a time of the event loop's clock.
    """

    asked: str
    question: str
    hits: tuple[Hit, ...]
    extract: Extract | None
    deadline: float
    history: Sequence[Message] = ()
    wishes: Sequence[str] = ()
    sampling: Sampling = field(default_factory=Sampling)


class Rung(Protocol):
    """One way of answering."""

    @property
    def name(self) -> str: ...

    @property
    def honours(self) -> frozenset[str]:
        """Which of `Sampling.demands` it can meet."""
        ...

    async def ready(self) -> None:
        """Raises ModelUnavailable where a call would fail; cheap."""
        ...

    def stream(self, task: Task) -> AsyncGenerator[Event, None]:
        """Deltas, then Finished. Raises ModelUnavailable, or InvalidQueryError for a parameter."""
        ...

    async def close(self) -> None: ...
