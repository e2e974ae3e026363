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
from serving.passages import Passage, joined, pack
from serving.prompting import Prompts, answer_messages, render
from serving.question_words import language
from serving.refusal import Refusal, RefusalReason, says_no_answer
from serving.support import best_span, check, statements

_HISTORY_SHARE: Final = 4
"""The conversation before may take this part (a fourth) of what the prompt may have."""
_LONGEST_TOKEN: Final = 64
"""Characters: an answer of more than this many for each token it may have does not end by itself."""
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
        room = _LONGEST_TOKEN * (prompt.sampling.max_tokens or self._settings.max_tokens)
        async with aclosing(spoken) as pieces:
            async for delta in pieces:
                if delta.reasoning:
                    answer = replace(answer, reasoning=answer.reasoning + delta.reasoning)
                    yield ReasoningDelta(delta.reasoning)
                text = delta.text if task.sampling.is_structured else checked.feed(delta.text)
                shown.append(text)
                room -= len(delta.text) + len(delta.reasoning)
                if room < 0:
                    raise ModelMisbehaved("The model goes on and on.")
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
        history = [Message(t.role, citations.without_markers(t.content)) for t in task.history]

        def messages(passages: Sequence[Passage], before: Sequence[Message]) -> list[Message]:
            return answer_messages(
                self._prompts, spoken, task.question, passages, before, task.wishes
            )

        passages = joined(task.hits)
        if _most_tokens(messages(passages, history)) > context - longest:
            bare = messages([], [])
            room = context - longest - await self._count(bare)
            history = await self._recent(history, room // _HISTORY_SHARE)
            room -= await self._count(history)
            passages = await pack(task.hits, room, self._generator.count_tokens, render)
        if not passages:
            raise ModelMisbehaved(f"No passage fits into the model's {context} tokens.")
        sampling = replace(task.sampling, max_tokens=longest)
        if sampling.temperature is None:
            sampling = replace(sampling, temperature=self._settings.temperature)
        return Prompt(
            messages(passages, history),
            passages,
            sampling,
            self._prompts.version(spoken),
            self._prompts.refusal(spoken),
        )

    async def _count(self, messages: Sequence[Message]) -> int:
        counted = await self._generator.count_tokens([message.content for message in messages])
        return sum(counted) + _TEMPLATE_TOKENS * (len(messages) + 1)

    async def _recent(self, turns: Sequence[Message], budget: int) -> list[Message]:
        """The last turns that fit, beginning with one of the user's."""
        counted = await self._generator.count_tokens([turn.content for turn in turns])
        start = len(turns)
        while start and (budget := budget - counted[start - 1] - _TEMPLATE_TOKENS) >= 0:
            start -= 1
        while start < len(turns) and turns[start].role != Role.USER:
            start += 1
        return list(turns[start:])


def _most_tokens(messages: Sequence[Message]) -> int:
    """No tokenizer makes more tokens than there are bytes, so that most prompts need no counting."""
    return sum(len(message.content.encode()) + _TEMPLATE_TOKENS for message in messages)


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
