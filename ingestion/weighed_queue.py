"""A bounded queue between two stages whose items differ much in size."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class WeighedQueue(Generic[T]):
    """Bounds what waits by its weight, and hands over all that is there, up to a weight.

    So whoever takes never waits for a batch to fill up, and batches are as large as its own pace
    allows. One item may weigh more than the bound: it is held alone.
    """

    def __init__(self, most: int, weigh: Callable[[T], int]) -> None:
        self._most = most
        self._weigh = weigh
        self._items: deque[T] = deque()
        self._held = 0
        self._ended = False
        self._changed = asyncio.Condition()

    async def put(self, item: T) -> None:
        """Waits while as much as the bound, or more, is held."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._held < self._most)
            self._items.append(item)
            self._held += self._weigh(item)
            self._changed.notify_all()

    async def end(self) -> None:
        """Nothing more will be put."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def take(self, most: int) -> list[T]:
        """Waits for an item; gives it with those behind it, of weight `most` together, or the first alone.

        An empty list means: ended.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._items or self._ended)
            taken: list[T] = []
            weight = 0
            while self._items and (not taken or weight + self._weigh(self._items[0]) <= most):
                taken.append(self._items.popleft())
                weight += self._weigh(taken[-1])
            self._held -= weight
            self._changed.notify_all()
            return taken
