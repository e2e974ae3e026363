"""Clients that are slow, or many, on purpose: each may hold a connection only so long.

uvicorn by itself waits for ever: for the rest of a request, for somebody to read the answer, and for the
first byte of a connection. Here each has its time, and there is a most of connections. The work on an
answer is not timed: it has deadlines of its own.
"""

import asyncio
from typing import Any, Final

import h11
import orjson
import structlog
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

from kb.metrics import LIMITED
from serving.app.errors import SAFE_HEADERS, error_body

BODY_PACE: Final = 256 << 10
"""Bytes of a body that each timeout must bring, if they are not the last: at 20 s a line of 0.1 Mbit/s."""

TOO_SLOW: Final = "The request did not arrive in time."
TOO_MANY: Final = "The server has all the connections that it may have. Try again in a moment."

log = structlog.get_logger(__name__)


class NotingFlow(FlowControl):
    """Remembers that we did not read for a while: then the client can't be blamed."""

    paused_meanwhile = False

    def pause_reading(self) -> None:
        self.paused_meanwhile = True
        super().pause_reading()


class TimedProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with an end to its patience.

    `timeout_s` is for a request's head (the wait for its first byte included), for each `BODY_PACE` of
    its body, and for the client to read what is waiting for it. `most` connections are open at a time.
    """

    flow: NotingFlow

    def __init__(self, *, timeout_s: float, most: int, **given: Any) -> None:
        super().__init__(**given)
        self._timeout_s = timeout_s
        self._most = most
        self._received = 0
        self._awaited: object = None
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = NotingFlow(transport)
        if len(self.connections) > self._most:
            LIMITED.labels("connections").inc()
            self._end(503, TOO_MANY, "server_overloaded")
        else:
            self._await_client()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_reading()
        self._stop_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if not self.transport.is_closing():  # What comes after the end is nothing to us.
            super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        self._await_client()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_client()
        if self.transport.get_write_buffer_size():
            self._await_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_writing()

    def _await_client(self) -> None:
        """Times the request while the client owes us something of it."""
        owed = self.conn.their_state
        if owed not in (h11.IDLE, h11.SEND_BODY) or self.transport.is_closing():
            self._stop_reading()
        elif owed is not self._awaited:
            self._stop_reading()
            self._awaited = owed
            self._time_reading()

    def _time_reading(self) -> None:
        self._received = 0
        self.flow.paused_meanwhile = self.flow.read_paused
        self._reading = self.loop.call_later(self._timeout_s, self._not_received)

    def _not_received(self) -> None:
        keeps_pace = self._received >= BODY_PACE or self.flow.paused_meanwhile
        if self._awaited is h11.SEND_BODY and keeps_pace:
            self._time_reading()
            return
        LIMITED.labels("slow_request").inc()
        self._end(408, TOO_SLOW, "request_timeout")

    def _await_reader(self) -> None:
        if self._writing is None:
            self._writing = self.loop.call_later(self._timeout_s, self._not_read)

    def _not_read(self) -> None:
        self._writing = None
        if self.transport.get_write_buffer_size():
            LIMITED.labels("slow_reader").inc()
            self.transport.abort()

    def _end(self, status: int, message: str, code: str) -> None:
        """Says why, where no answer has begun, and closes. The application learns that the client left."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._say(status, orjson.dumps(error_body(message, status, code)))
        self.transport.close()
        self._await_reader()

    def _say(self, status: int, body: bytes) -> None:
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *SAFE_HEADERS.items(),
        ]
        for event in (
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")

    def _stop_reading(self) -> None:
        self._awaited = None
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
