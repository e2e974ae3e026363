"""From a task to what a generator is asked: the passages and the conversation that fit its context."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from kb.errors import ModelMisbehaved
from kb.generation import Message, Role, Sampling
from kb.ports import Generator
from kb.settings import GenerationSettings
from serving.answering import citations
from serving.answering.events import Task
from serving.answering.passages import Passage, joined, pack
from serving.answering.prompting import Prompts, answer_messages, render
from serving.answering.question_words import language

_HISTORY_SHARE: Final = 4
"""The conversation before may take this part (a fourth) of what rules, question and answer leave."""
_TEMPLATE_TOKENS: Final = 12
"""What a chat template puts around one message, at most: names of roles, marks, line ends."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`refusal` is the sentence the model is told to say when the passages hold no answer."""

    messages: list[Message]
    passages: list[Passage]
    sampling: Sampling
    version: str
    refusal: str


class PromptBuilder:
    """Packs prompts for one generator."""

    def __init__(
        self, generator: Generator, prompts: Prompts, settings: GenerationSettings
    ) -> None:
        self._generator = generator
        self._prompts = prompts
        self._settings = settings

    async def build(self, task: Task) -> Prompt:
        """Rules and question first, then as much of the conversation and of the passages as fits."""
        context = await self._generator.context_tokens()
        longest = min(task.sampling.max_tokens or self._settings.max_tokens, context // 2)
        history = [Message(t.role, citations.without_markers(t.content)) for t in task.history]
        passages = joined(task.hits)
        messages = self._messages(task, passages, history)
        if _most_tokens(messages) > context - longest:
            history, passages = await self._fitting(task, history, context - longest)
            messages = self._messages(task, passages, history)
        if not passages:
            raise ModelMisbehaved(f"No passage fits into the model's {context} tokens.")
        spoken = language(task.asked)
        return Prompt(
            messages,
            passages,
            self._sampling(task.sampling, longest),
            self._prompts.version(spoken),
            self._prompts.refusal(spoken),
        )

    def _messages(
        self, task: Task, passages: Sequence[Passage], history: Sequence[Message]
    ) -> list[Message]:
        return answer_messages(
            self._prompts, language(task.asked), task.question, passages, history, task.wishes
        )

    def _sampling(self, asked: Sampling, longest: int) -> Sampling:
        temperature = asked.temperature
        if temperature is None:
            temperature = self._settings.temperature
        return replace(asked, max_tokens=longest, temperature=temperature)

    async def _fitting(
        self, task: Task, history: Sequence[Message], room: int
    ) -> tuple[list[Message], list[Passage]]:
        """What fits into `room` tokens beside rules and question."""
        room -= await self._count(self._messages(task, [], []))
        recent = await self._recent(history, room // _HISTORY_SHARE)
        room -= await self._count(recent)
        return recent, await pack(task.hits, room, self._generator.count_tokens, render)

    async def _recent(self, turns: Sequence[Message], budget: int) -> list[Message]:
        """The last turns that fit, beginning with one of the user's."""
        turns = turns[-max(1, budget // _TEMPLATE_TOKENS) :]  # More don't fit, whatever they say.
        counted = await self._generator.count_tokens([turn.content for turn in turns])
        start = len(turns)
        while start and (budget := budget - counted[start - 1] - _TEMPLATE_TOKENS) >= 0:
            start -= 1
        while start < len(turns) and turns[start].role != Role.USER:
            start += 1
        return list(turns[start:])

    async def _count(self, messages: Sequence[Message]) -> int:
        counted = await self._generator.count_tokens([message.content for message in messages])
        return sum(counted) + _TEMPLATE_TOKENS * (len(messages) + 1)


def _most_tokens(messages: Sequence[Message]) -> int:
    """No tokenizer makes more tokens than there are bytes, so that most prompts need no counting."""
    return sum(len(message.content.encode()) + _TEMPLATE_TOKENS for message in messages)
