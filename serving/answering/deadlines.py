"""Time limits for models: until the first token, between two, and for the whole answer."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Final, TypeVar

from kb.errors import ModelTimeout

PROBE_S: Final = 1.0
"""How long a server that was gone has to say that it is back."""

T = TypeVar("T")


async def within(work: Awaitable[T], seconds: float, message: str) -> T:
    """Raises ModelTimeout with the message."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as error:
        raise ModelTimeout(message) from error


async def timed(
    stream: AsyncGenerator[T, None], *, first_s: float, between_s: float, deadline: float
) -> AsyncGenerator[T, None]:
    """The stream, ended with ModelTimeout when an item is late. `deadline` is of the loop's clock."""
    clock = asyncio.get_running_loop().time
    limit, what = first_s, "began no answer"
    async with aclosing(stream):
        while True:
            left = deadline - clock()
            message = (
                f"It {what} in {limit:g} s."
                if limit < left
                else "The answer took longer than allowed."
            )
            try:
                item = await within(anext(stream), max(0.0, min(limit, left)), message)
            except StopAsyncIteration:
                return
            yield item
            limit, what = between_s, "said nothing more"
