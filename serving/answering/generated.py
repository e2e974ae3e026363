"""The rung of a language model: prompt, stream, checked citations."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from kb.errors import ModelMisbehaved
from kb.generation import ModelDelta
from kb.ports import Generator
from kb.settings import GenerationSettings
from kb.types import Citation, Hit
from serving.answering import citations
from serving.answering.citing import CitationFilter
from serving.answering.deadlines import timed, within
from serving.answering.events import Answer, Event, Finished, ReasoningDelta, Task, TextDelta
from serving.answering.prompt_builder import Prompt, PromptBuilder
from serving.answering.prompting import Prompts
from serving.answering.refusal import Refusal, RefusalReason, says_no_answer
from serving.answering.support import best_span, check, statements

_LONGEST_TOKEN: Final = 64
"""Characters: an answer of more than this many for each token it may have does not end by itself."""


class GeneratedRung:
    """Answers with a generator, under the name that answers carry ("generator", "fallback")."""

    honours = frozenset({"stop", "response_format", "logprobs"})

    def __init__(
        self,
        name: str,
        generator: Generator,
        prompts: Prompts,
        settings: GenerationSettings,
        honours: frozenset[str] = honours,
    ) -> None:
        self.name = name
        self.honours = honours
        self._generator = generator
        self._builder = PromptBuilder(generator, prompts, settings)
        self._settings = settings

    @property
    def model(self) -> str:
        return self._generator.name

    async def ready(self) -> None:
        await self._generator.ready()

    async def close(self) -> None:
        await self._generator.close()

    async def stream(self, task: Task) -> AsyncGenerator[Event, None]:
        """As `Rung.stream`. Raises ModelTimeout when a token is late."""
        settings = self._settings
        prompt = await within(
            self._builder.build(task), settings.first_token_s, "It did not count tokens in time."
        )
        deltas = timed(
            self._generator.stream(prompt.messages, prompt.sampling),
            first_s=settings.first_token_s,
            between_s=settings.between_tokens_s,
            deadline=task.deadline,
        )
        speech = _Speech(prompt, task)
        async with aclosing(deltas):
            async for delta in deltas:
                for event in speech.events(delta):
                    yield event
        for event in speech.rest():
            yield event
        answer = Answer("", (), task.hits, self.name, None, None, task.question)
        answer = replace(answer, model=self._generator.name, prompt=prompt.version)
        yield Finished(_complete(speech.told(answer), task, prompt, speech.cited))


class _Speech:
    """What a model has said so far: its text with the citations made good, and all the rest."""

    def __init__(self, prompt: Prompt, task: Task) -> None:
        self._filter = None if task.sampling.is_structured else CitationFilter(len(prompt.passages))
        self._asked = task.sampling
        self._room = _LONGEST_TOKEN * (prompt.sampling.max_tokens or 0)
        self._text: list[str] = []
        self._deltas: list[ModelDelta] = []

    @property
    def cited(self) -> Sequence[int]:
        return self._filter.cited if self._filter else ()

    def events(self, delta: ModelDelta) -> Iterator[Event]:
        """Raises ModelMisbehaved where it goes on far beyond what it was allowed."""
        self._room -= len(delta.text) + len(delta.reasoning)
        if self._room < 0:
            raise ModelMisbehaved("The model goes on and on.")
        self._deltas.append(delta)
        if delta.reasoning:
            yield ReasoningDelta(delta.reasoning)
        text = self._filter.feed(delta.text) if self._filter else delta.text
        yield from self._said(text, delta)

    def rest(self) -> Iterator[Event]:
        """What was held back. Raises ModelMisbehaved where nothing was said at all."""
        if self._filter:
            yield from self._said(self._filter.finish(), ModelDelta())
        if not self._text and not self._is_silence_asked:
            raise ModelMisbehaved("The model said nothing.")

    @property
    def _is_silence_asked(self) -> bool:
        """What a caller's own limits leave empty is no failure, or callers could have a model suspended."""
        limits = {"length": self._asked.max_tokens, "stop": self._asked.stop}
        return bool(limits.get(self._finish))

    @property
    def _finish(self) -> str:
        return next((delta.finish for delta in reversed(self._deltas) if delta.finish), "")

    def told(self, answer: Answer) -> Answer:
        """The answer with what was said."""
        said = self._deltas
        return replace(
            answer,
            text="".join(self._text),
            reasoning="".join(delta.reasoning for delta in said),
            finish=self._finish or answer.finish,
            usage=next((d.usage for d in reversed(said) if d.usage), answer.usage),
            logprobs=tuple(token for delta in said for token in delta.logprobs),
        )

    def _said(self, text: str, delta: ModelDelta) -> Iterator[Event]:
        """White space before the first word is nothing said."""
        if not self._text:
            text = text.lstrip()
        if text:
            self._text.append(text)
        if text or delta.logprobs:
            yield TextDelta(text, delta.logprobs)


def _complete(answer: Answer, task: Task, prompt: Prompt, cited: Sequence[int]) -> Answer:
    """The answer with its citations and their support, or marked as a refusal."""
    if task.sampling.is_structured:
        everything = [
            (passage.hits[0], (0, len(passage.hits[0].chunk.text))) for passage in prompt.passages
        ]
        return replace(
            answer,
            citations=tuple(citations.cite(n, *place) for n, place in enumerate(everything, 1)),
        )
    if not cited and says_no_answer(answer.text, prompt.refusal):
        return replace(answer, refusal=Refusal(RefusalReason.NOT_IN_PASSAGES, answer.text))
    sources = {n: prompt.passages[number - 1].hits for n, number in enumerate(cited, 1)}
    quoted = _quoted(answer.text, sources)
    return replace(answer, citations=quoted, support=check(answer.text, quoted, sources))


def _quoted(text: str, sources: dict[int, tuple[Hit, ...]]) -> tuple[Citation, ...]:
    """For each number the span of its passage that has most of what the text says with it."""
    whole = [
        citations.cite(number, hits[0], (0, len(hits[0].chunk.text)))
        for number, hits in sources.items()
    ]
    said: dict[int, str] = dict.fromkeys(sources, "")
    for span, numbers in statements(text, whole):
        for number in numbers:
            said[number] += citations.without_markers(text[slice(*span)]) + "\n"
    return tuple(
        citations.cite(number, *best_span(said[number], hits)) for number, hits in sources.items()
    )
