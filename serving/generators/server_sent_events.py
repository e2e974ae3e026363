"""Reads the data of server-sent events, as OpenAI-compatible servers send them."""

from collections.abc import AsyncIterator
from typing import Final

from kb.errors import ModelMisbehaved

LONGEST_LINE: Final = 1 << 20
"""Bytes. An event with the log probabilities of a token is a few thousand."""


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What stands after `data:` in each line. Raises ModelMisbehaved for a line that does not end."""
    waiting = b""
    async for chunk in chunks:
        *lines, waiting = (waiting + chunk).split(b"\n")
        if len(waiting) > LONGEST_LINE:
            raise ModelMisbehaved("The model's server sends something else than events.")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[len(b"data:") :].strip()
