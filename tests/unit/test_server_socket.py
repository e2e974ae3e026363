"""The socket that the API is served on."""

import asyncio
import socket

from kb.settings import ServerSettings
from serving.server import listen


async def test_what_is_sent_does_not_wait_for_more() -> None:
    """Nagle's algorithm holds a small piece back until the one before is acknowledged: 40 ms on Linux."""
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(
            writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        )
        writer.close()

    open_socket = listen(ServerSettings(port=0))
    async with await asyncio.start_server(serve, sock=open_socket):
        reader, writer = await asyncio.open_connection(*open_socket.getsockname()[:2])
        assert await accepted
        await reader.read()
        writer.close()
