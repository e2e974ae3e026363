"""A small real server of the OpenAI API that misbehaves on request.

    python tests/misbehaving_server.py PORT

`POST /mode NAME` chooses how chat completions are answered from then on; `GET /state` tells how many
answers are under way and how many ended because the other side hung up.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STATE: dict[str, Any] = {
    "mode": "good",
    "under_way": 0,
    "hung_up": 0,
    "asked": 0,
    "body": None,
    "traceparent": None,
}
LOCK = threading.Lock()
ANSWER = ["Heron listens ", "on port ", "5520", " [1]."]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/state":
            self._json(200, STATE)
        elif STATE["mode"] == "gone":
            self._json(503, {"error": {"message": "starting"}})
        else:
            self._json(200, {"data": [{"id": "small", "max_model_len": 4096}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/mode":
            STATE["mode"] = body.decode()
            self._json(200, {})
        elif self.path.endswith("/chat/completions"):
            self._complete(body)
        else:
            self._json(404, {"error": {"message": "not here"}})

    def _complete(self, body: bytes) -> None:
        with LOCK:
            STATE["under_way"] += 1
            STATE["asked"] += 1
            STATE["body"] = json.loads(body)
            STATE["traceparent"] = self.headers.get("traceparent")
        try:
            getattr(self, f"_{STATE['mode']}")()
        except (BrokenPipeError, ConnectionResetError):
            STATE["hung_up"] += 1
            self.close_connection = True
        finally:
            with LOCK:
                STATE["under_way"] -= 1

    # --- Modes ------------------------------------------------------------------------------------

    def _good(self) -> None:
        self._begin_stream()
        for text in ANSWER:
            self._delta(text)
        self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        self._event({"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 4}})
        self._end_stream()

    def _held(self) -> None:
        """The first token, and the rest when the mode is another."""
        self._begin_stream()
        first, *others = ANSWER
        self._delta(first)
        while STATE["mode"] == "held":
            time.sleep(0.02)
        for text in others:
            self._delta(text)
        self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        self._end_stream()

    def _thinking(self) -> None:
        self._begin_stream()
        for text in ("<thi", "nk>The first ", "passage.</th", "ink>\n\n", *ANSWER):
            self._delta(text)
        self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        self._end_stream()

    def _slow(self) -> None:
        self._begin_stream()
        for text in ["word "] * 600:
            self._delta(text)
            time.sleep(0.05)
        self._end_stream()

    def _endless(self) -> None:
        self._begin_stream()
        while True:
            self._delta("on and on ")

    def _endless_line(self) -> None:
        self._begin_stream()
        while True:
            self._chunk(b"x" * 65536)

    def _silent(self) -> None:
        """Takes the request and never answers."""
        self._wait_for_hang_up()

    def _halting(self) -> None:
        self._begin_stream()
        self._delta("Heron listens ")
        self._wait_for_hang_up()

    def _cut(self) -> None:
        self._begin_stream()
        self._delta("Heron listens ")
        self.close_connection = True

    def _cut_at_once(self) -> None:
        self._begin_stream()
        self.close_connection = True

    def _error_500(self) -> None:
        self._json(500, {"error": {"message": "CUDA error"}})

    def _overloaded(self) -> None:
        self._json(429, {"error": {"message": "too many"}})

    def _gone(self) -> None:
        self._json(503, {"error": {"message": "starting"}})

    def _garbage(self) -> None:
        self._begin_stream()
        self._chunk(b"data: \xff\xfe{]\n\n")
        self._end_stream()

    def _html(self) -> None:
        self._answer(200, "text/html", b"<html>It works!</html>")

    def _empty(self) -> None:
        self._begin_stream()
        self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        self._end_stream()

    def _error_event(self) -> None:
        self._begin_stream()
        self._event({"error": {"message": "EngineDeadError"}})
        self._end_stream()

    # --- Wire -------------------------------------------------------------------------------------

    def _wait_for_hang_up(self) -> None:
        self.connection.settimeout(60)
        if not self.connection.recv(1):
            raise ConnectionResetError

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _delta(self, text: str) -> None:
        self._event({"choices": [{"delta": {"content": text}, "finish_reason": None}]})

    def _event(self, event: object) -> None:
        self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _end_stream(self) -> None:
        self._chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, status: int, body: object) -> None:
        self._answer(status, "application/json", json.dumps(body).encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
