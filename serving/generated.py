"""The rung of a language model: prompt, stream, checked citations."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from kb.errors import ModelMisbehaved
from kb.generation import Message, Role, Sampling
from kb.ports import Generator
from kb.settings import GenerationSettings
from kb.types import Citation, Hit
from serving import citations
from serving.citing import CitationFilter
from serving.deadlines import timed, within
from serving.events import Answer, Event, Finished, ReasoningDelta, Task, TextDelta
from serving.passages import Passage, pack
from serving.prompting import Prompts, answer_messages, render
from serving.question_words import language
from serving.refusal import Refusal, RefusalReason, says_no_answer
from serving.support import best_span, check, statements

_LEAST_ANSWER_TOKENS: Final = 64
_HISTORY_SHARE: Final = 4
"""The conversation before may take this part (a fourth) of what the prompt may have."""
_TEMPLATE_TOKENS: Final = 12
"""What a chat template puts around one message, at most: names of roles, marks, line ends."""


@dataclass(frozen=True, slots=True)
class Prompt:
    messages: list[Message]
    passages: list[Passage]
    sampling: Sampling
    version: str
    refusal: str


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
        self._prompts = prompts
        self._settings = settings

    async def ready(self) -> None:
        await self._generator.ready()

    async def close(self) -> None:
        await self._generator.close()

    async def stream(self, task: Task) -> AsyncGenerator[Event, None]:
        """As `Rung.stream`. Raises ModelTimeout when a token is late."""
        settings = self._settings
        prompt = await within(
            self._prompt(task), settings.first_token_s, "It did not count the prompt's tokens."
        )
        spoken = timed(
            self._generator.stream(prompt.messages, prompt.sampling),
            first_s=settings.first_token_s,
            between_s=settings.between_tokens_s,
            deadline=task.deadline,
        )
        answer = Answer(
            "", (), task.hits, self.name, None, None, task.question, model=self._generator.name
        )
        checked = CitationFilter(len(prompt.passages))
        shown: list[str] = []
        async with aclosing(spoken) as pieces:
            async for delta in pieces:
                if delta.reasoning:
                    answer = replace(answer, reasoning=answer.reasoning + delta.reasoning)
                    yield ReasoningDelta(delta.reasoning)
                text = delta.text if task.sampling.is_structured else checked.feed(delta.text)
                shown.append(text)
                if text or delta.logprobs:
                    yield TextDelta(text, delta.logprobs)
                answer = replace(
                    answer,
                    finish=delta.finish or answer.finish,
                    usage=delta.usage or answer.usage,
                    logprobs=answer.logprobs + delta.logprobs,
                )
        if rest := checked.finish():
            shown.append(rest)
            yield TextDelta(rest)
        answer = replace(answer, text="".join(shown), prompt=prompt.version)
        if not answer.text.strip():
            raise ModelMisbehaved("The model said nothing.")
        yield Finished(_complete(answer, task, prompt, checked.cited))

    async def _prompt(self, task: Task) -> Prompt:
        """Rules and question first, then as much of the conversation and of the passages as fits."""
        spoken = language(task.asked)
        context = await self._generator.context_tokens()
        longest = min(task.sampling.max_tokens or self._settings.max_tokens, context // 2)

        def messages(passages: Sequence[Passage], history: Sequence[Message]) -> list[Message]:
            return answer_messages(
                self._prompts, spoken, task.question, passages, history, task.wishes
            )

        bare = messages([], [])
        counted = await self._generator.count_tokens([message.content for message in bare])
        room = context - longest - sum(counted) - _TEMPLATE_TOKENS * (len(bare) + 1)
        history = await self._recent(task.history, room // _HISTORY_SHARE)
        if history:
            told = await self._generator.count_tokens([turn.content for turn in history])
            room -= sum(told) + _TEMPLATE_TOKENS * len(history)
        passages = await pack(task.hits, room, self._generator.count_tokens, render)
        if not passages:
            raise ModelMisbehaved(f"No passage fits into the model's {context} tokens.")
        sampling = replace(task.sampling, max_tokens=max(longest, _LEAST_ANSWER_TOKENS))
        if sampling.temperature is None:
            sampling = replace(sampling, temperature=self._settings.temperature)
        return Prompt(
            messages(passages, history),
            passages,
            sampling,
            self._prompts.version(spoken),
            self._prompts.refusal(spoken),
        )

    async def _recent(self, history: Sequence[Message], budget: int) -> list[Message]:
        """The last turns that fit, beginning with one of the user's."""
        turns = [Message(t.role, citations.without_markers(t.content)) for t in history]
        counted = await self._generator.count_tokens([turn.content for turn in turns])
        start = len(turns)
        while start and (budget := budget - counted[start - 1] - _TEMPLATE_TOKENS) >= 0:
            start -= 1
        while start < len(turns) and turns[start].role != Role.USER:
            start += 1
        return turns[start:]


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
