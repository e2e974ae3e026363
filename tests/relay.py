"""A wire between our server and a model's, on which an answer can be stopped at a chosen word.

How fast a model on two cores sends its words is chance: a test that wants to cut an answer in the
middle holds the rest of it back here.
"""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx

_PIECE = 1 << 16
_WORD = re.compile(rb'"content":"[^"]')
"""An event of a stream that brings text."""


class Hold:
    """The next answer that streams: its first words pass, the rest is lost."""

    def __init__(self, words: int) -> None:
        self.reached = threading.Event()
        """The last word that passes has passed."""
        self.hung_up = threading.Event()
        """Our server has closed the connection of that answer."""
        self._words = words
        self._seen = b""

    def left(self) -> None:
        """A connection was closed: that of the answer, if words of it have passed."""
        if _WORD.search(self._seen):
            self.hung_up.set()

    def passing(self, data: bytes) -> bytes:
        """The part of the answer's next bytes that passes."""
        if self.reached.is_set():
            return b""
        before, self._seen = len(self._seen), self._seen + data
        words = [word.end() for word in _WORD.finditer(self._seen)]
        if len(words) < self._words:
            return data
        end = self._seen.find(b"\n\n", words[self._words - 1])
        if end < 0:
            return data
        self.reached.set()
        return self._seen[before : end + 2]


class Relay:
    """Passes bytes on, both ways, from `url` to the model's server. Close it at the end."""

    def __init__(self, url: str) -> None:
        target = httpx.URL(url)
        self._target = (target.host, target.port or 80)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = str(target.copy_with(port=self._listening.getsockname()[1]))
        self._hold: Hold | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def holding(self, words: int) -> Iterator[Hold]:
        self._hold = Hold(words)
        try:
            yield self._hold
        finally:
            self._hold = None

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # Closed.
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        """A server that is not there looks like one that closes at once."""
        with client, suppress(OSError), socket.create_connection(self._target) as server:
            back = threading.Thread(target=self._pass_back, args=(server, client), daemon=True)
            back.start()
            with suppress(OSError):
                while data := client.recv(_PIECE):
                    server.sendall(data)
            if self._hold:
                self._hold.left()
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            back.join()

    def _pass_back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(_PIECE):
                client.sendall(self._hold.passing(data) if self._hold else data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
