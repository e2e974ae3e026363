"""A generator whose words are given: the second implementation of the port, for tests of what uses it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from kb.errors import KBError
from kb.generation import Message, ModelDelta, Sampling, Usage


class ScriptedGenerator:
    """Says its script: texts, deltas, seconds to wait (floats), or an error to raise."""

    def __init__(
        self,
        *script: str | float | ModelDelta | KBError,
        name: str = "scripted",
        context: int = 8192,
    ) -> None:
        self.script = list(script)
        self.asked: list[tuple[list[Message], Sampling]] = []
        self.ended = 0
        self.closed = False
        self._name = name
        self._context = context

    @property
    def name(self) -> str:
        return self._name

    async def ready(self) -> None:
        errors = [line for line in self.script if isinstance(line, KBError)]
        if errors:
            raise errors[0]

    async def context_tokens(self) -> int:
        return self._context

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """A token is a word, or four characters of one."""
        return [sum(1 + len(word) // 4 for word in text.split()) for text in texts]

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[ModelDelta, None]:
        self.asked.append((list(messages), sampling))
        try:
            for line in self.script:
                match line:
                    case float():
                        await asyncio.sleep(line)
                    case KBError():
                        raise line
                    case str():
                        yield ModelDelta(line)
                    case ModelDelta():
                        yield line
            if not any(isinstance(line, ModelDelta) and line.finish for line in self.script):
                yield ModelDelta(finish="stop", usage=Usage(10, 3))
        finally:
            self.ended += 1

    async def close(self) -> None:
        self.closed = True
