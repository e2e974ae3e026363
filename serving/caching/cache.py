"""Searches and answers that were given before, as long as they would be given again.

A key holds all that a result depends on: the stamp of the live index, which every change of it by any
process makes another; the reader's rights; the question; the settings. So nothing is ever deleted: what
no longer holds is not found any more, and goes with its time.
"""

import json
import unicodedata
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from importlib.metadata import version
from typing import Any, Final

import structlog
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from kb.generation import Message, Sampling
from kb.metrics import CACHE
from kb.settings import Settings
from kb.types import Access, Generation, Hit
from serving.answering.events import Answer, Event, Finished, ReasoningDelta, TextDelta
from serving.answering.prompting import load_prompts
from serving.answering.rungs import deltas
from serving.caching.stores import Store, StoreUnavailable, open_store

_HITS: Final = TypeAdapter(list[Hit])
_ANSWER: Final = TypeAdapter(Answer)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """Which index is looked into, and with whose eyes. Whether they may is checked before."""

    generation: Generation
    access: Access

    @property
    def key(self) -> list[Any]:
        groups = self.access.groups
        return [
            self.generation.index_name,
            self.generation.stamp,
            None if groups is None else sorted(groups),
        ]


@dataclass(frozen=True, slots=True)
class Found:
    hits: list[Hit]
    cached: bool


class Cache:
    """Of one server. Without a store, or with one that fails, everything is worked out each time."""

    def __init__(self, store: Store | None, configuration: str, temperature: float = 0.0) -> None:
        """`configuration` stands for all settings that results depend on."""
        self._store = store
        self._configuration = configuration
        self._temperature = temperature

    @classmethod
    def open(cls, settings: Settings) -> "Cache":
        """Raises ConfigError."""
        store = open_store(settings.cache)
        return cls(store, configuration_of(settings), settings.generation.temperature)

    async def close(self) -> None:
        if self._store:
            await self._store.close()

    def without_store(self) -> "Cache":
        """For a request that wants everything worked out, and nothing kept."""
        return Cache(None, self._configuration, self._temperature)

    async def search(
        self,
        question: str,
        limit: int,
        view: View,
        find: Callable[[str], Awaitable[list[Hit]]],
    ) -> Found:
        """The hits of `find` for the question. Raises what `find` raises."""
        question = normalised(question)
        key = self._key("search", view, question, limit)
        if (kept := await self._get("search", key, _HITS)) is not None:
            return Found(kept, cached=True)
        hits = await find(question)
        await self._put(key, hits, _HITS)
        return Found(hits, cached=False)

    async def answer_events(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        view: View,
        make: Callable[[], AsyncGenerator[Event, None]],
    ) -> AsyncGenerator[Event, None]:
        """The events of `make`, or those of the same answer given before. Raises what `make` raises.

        With log probabilities nothing is kept: they belong to the pieces an answer came in.
        """
        key = None
        if not sampling.logprobs:
            said = [[message.role, message.content.strip()] for message in messages]
            key = self._key("answer", view, said, asdict(sampling))
            kept: Answer | None = await self._get("answer", key, _ANSWER)
            if kept is not None:
                log.info("answered", answered_by=kept.answered_by, cached=True)
                for event in _told_again(kept):
                    yield event
                return
        async with aclosing(make()) as events:
            async for event in events:
                if key and isinstance(event, Finished) and self._is_lasting(event.answer, sampling):
                    await self._put(key, event.answer, _ANSWER)
                yield event

    def _is_lasting(self, answer: Answer, sampling: Sampling) -> bool:
        """Whether it would be given again. What a lower rung said is not kept beyond the failure."""
        temperature = sampling.temperature
        chosen = self._temperature if temperature is None else temperature
        return answer.degraded_because is None and (answer.model is None or chosen == 0)

    def _key(self, kind: str, view: View, *rest: Any) -> str:
        parts = [kind, self._configuration, view.key, *rest]
        # Hashed: keys of a shared Redis tell nobody what was asked. 256 bits don't collide.
        return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=32).hexdigest()

    async def _get(self, kind: str, key: str, shape: TypeAdapter[Any]) -> Any:
        if self._store is None:
            return None
        try:
            value = await self._store.get(key)
            kept = None if value is None else shape.validate_json(value)
        except StoreUnavailable:
            CACHE.labels(kind, "unavailable").inc()
            return None
        except ValidationError:  # Not ours, or cut short.
            kept = None
        CACHE.labels(kind, "miss" if kept is None else "hit").inc()
        return kept

    async def _put(self, key: str, value: Any, shape: TypeAdapter[Any]) -> None:
        if self._store is None:
            return
        try:
            await self._store.put(key, shape.dump_json(value))
        except StoreUnavailable:
            return
        except PydanticSerializationError:  # Half a surrogate pair, from a broken file name.
            return


def normalised(question: str) -> str:
    """One form for questions that differ in white space and in how accents are written only."""
    return " ".join(unicodedata.normalize("NFC", question).split())


def _told_again(answer: Answer) -> list[Event]:
    told: list[Event] = [ReasoningDelta(answer.reasoning)] if answer.reasoning else []
    told += map(TextDelta, deltas(answer.text))
    return [*told, Finished(replace(answer, cached=True))]


def configuration_of(settings: Settings) -> str:
    """A hash of all that results depend on besides the index: settings, prompts, this program."""
    sections = (settings.answers, settings.search, settings.index, settings.generation)
    prompts = load_prompts(settings.generation.prompts).texts
    parts = [version("kb-server"), *map(_revealed, sections), _plain(prompts)]
    return blake2b(json.dumps(parts, default=str).encode(), digest_size=16).hexdigest()


def _revealed(section: BaseModel) -> dict[str, Any]:
    """With its secrets: servers whose generators differ must not answer for each other."""
    found: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            value = _revealed(value)
        found[name] = value.get_secret_value() if isinstance(value, SecretStr) else value
    return found


def _plain(value: Any) -> Any:
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value
