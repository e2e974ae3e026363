"""Questions of different requests embedded in one call, where a model takes many as fast as one.

No timer: while one call goes on the next questions gather, and go together when it ends. A lone question
goes at once, and the busier the model the larger the batches become (decision 0016).
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from kb.errors import ModelUnavailable
from kb.ports import Embedder
from kb.types import Vectors


@dataclass(frozen=True, slots=True)
class _Waiting:
    texts: Sequence[str]
    vectors: asyncio.Future[Vectors] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class MicroBatchingEmbedder:
    """Implements the port `Embedder` over another one, which it closes; passages go straight to it."""

    def __init__(self, embedder: Embedder, most: int) -> None:
        """`most` texts go in one call; what one caller asks for is never cut apart."""
        self._embedder = embedder
        self._most = most
        self._waiting: deque[_Waiting] = deque()
        self._calling: asyncio.Task[None] | None = None

    @classmethod
    def over(cls, embedder: Embedder, most: int) -> Embedder | Self:
        """The embedder itself where one text a call is wanted."""
        return embedder if most == 1 else cls(embedder, most)

    @property
    def fingerprint(self) -> str:
        return self._embedder.fingerprint

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    @property
    def max_tokens(self) -> int:
        return self._embedder.max_tokens

    @property
    def tokenizer_file(self) -> Path:
        return self._embedder.tokenizer_file

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._embedder.count_tokens(texts)

    async def passages(self, texts: Sequence[str]) -> Vectors:
        return await self._embedder.passages(texts)

    async def queries(self, texts: Sequence[str]) -> Vectors:
        waiting = _Waiting(texts)
        self._waiting.append(waiting)
        if self._calling is None:
            # Of nobody's: whoever gives up must not take the others' call along.
            self._calling = asyncio.create_task(self._call())
        return await waiting.vectors

    async def close(self) -> None:
        if self._calling:
            await self._calling
        await self._embedder.close()

    async def _call(self) -> None:
        try:
            while batch := self._next():
                await self._embed(batch)
        finally:
            self._calling = None

    def _next(self) -> list[_Waiting]:
        """Those that wait longest, without those that gave up."""
        batch: list[_Waiting] = []
        room = self._most
        while self._waiting and (not batch or len(self._waiting[0].texts) <= room):
            waiting = self._waiting.popleft()
            if not waiting.vectors.done():
                batch.append(waiting)
                room -= len(waiting.texts)
        return batch

    async def _embed(self, batch: Sequence[_Waiting]) -> None:
        try:
            vectors = await self._embedder.queries([text for each in batch for text in each.texts])
        except ModelUnavailable as error:
            if len(batch) > 1:  # It may be one of them: the others must not fail for it.
                for each in batch:
                    await self._embed([each])
            elif not batch[0].vectors.done():
                batch[0].vectors.set_exception(error)
            return
        except BaseException as error:
            for each in batch:
                if not each.vectors.done():
                    each.vectors.set_exception(error)
            raise
        start = 0
        for each in batch:
            end = start + len(each.texts)
            if not each.vectors.done():
                each.vectors.set_result(vectors[start:end])
            start = end
