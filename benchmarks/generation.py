"""What our server adds to a model's own time: the same prompts to vLLM directly and through it, in one run.

    python benchmarks/generation.py --vllm http://127.0.0.1:8001/v1 --docs FOLDER --questions FILE

FILE has a question a line. First a recorder takes our server's place of the model, to learn the exact
requests; then each number of clients sends them to vLLM itself and the questions to our server, in
turns. Time to the first token, retrieval apart; tokens a second of all clients together.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import httpx

TEMPERATURE = 1.5
"""Wild enough that a small test model goes on for a while."""
LENGTHS = (64, 192)
"""Tokens that answers may have at least and at most: of one length, clients would keep in step."""

PATIENCE_S = 600.0
SAID = re.compile(rb'"content": ?"[^"]')


@dataclass(frozen=True)
class Timing:
    first: float
    total: float
    tokens: int


class Side:
    """What one of the two did in all rounds."""

    def __init__(self) -> None:
        self.timings: list[Timing] = []
        self.seconds = 0.0

    def take(self, found: tuple[list[Timing], float]) -> None:
        self.timings += found[0]
        self.seconds += found[1]

    def first(self, of: Callable[[list[float]], float]) -> float:
        """Of the times to the first token, in ms."""
        return of([timing.first * 1000 for timing in self.timings])

    @property
    def rate(self) -> float:
        """Tokens a second, of all clients together."""
        return sum(timing.tokens for timing in self.timings) / self.seconds


class Recorder(BaseHTTPRequestHandler):
    """Answers any chat with one word and keeps what it was sent. Tokens are counted by the model's own server."""

    bodies: list[dict[str, Any]] = []  # noqa: RUF012 - one recorder a run
    vllm: str

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/tokenize"):
            counted = httpx.post(
                f"{self.vllm.removesuffix('/v1')}/tokenize",
                content=body,
                headers={"Content-Type": "application/json"},
                trust_env=False,
            )
            self.send_response(counted.status_code)
            self.end_headers()
            self.wfile.write(counted.content)
            return
        self.bodies.append(json.loads(body))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        event = {"choices": [{"delta": {"content": "Yes [1]."}, "finish_reason": "stop"}]}
        self.wfile.write(f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def recorder() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


@contextmanager
def kb(folder: Path, docs: Path, **settings: str) -> Iterator[str]:
    """Our server, over the documents."""
    environment = os.environ | {"KB_DATA_DIR": str(folder), "KB_SERVER__PORT": "0"} | settings
    command = [str(Path(sys.executable).with_name("kb")), "up", "--docs", str(docs)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        for line in process.stdout:
            if match := re.search(r"Endpoint\s+(http://\S+)", line):
                yield match[1]
                break
    finally:
        process.terminate()
        process.wait()


async def timed(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Timing:
    """Reads as little as it can: what the client takes of the processors, the measured ones lack."""
    started = time.perf_counter()
    first, tokens = 0.0, 0
    async with session.post(f"{url}/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.content:
            if not first and SAID.search(line):
                first = time.perf_counter() - started
            elif b'"error"' in line:
                raise RuntimeError(line.decode())
            elif b'"completion_tokens"' in line:
                tokens = json.loads(line[6:])["usage"]["completion_tokens"]
    return Timing(first, time.perf_counter() - started, tokens)


async def load(url: str, bodies: list[dict[str, Any]], clients: int) -> tuple[list[Timing], float]:
    """Each client sends the next body when it is free; gives the timings and the seconds of all."""
    waiting = list(bodies)
    timings: list[Timing] = []
    async with aiohttp.ClientSession(
        headers={"Cache-Control": "no-store"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
    ) as session:

        async def work() -> None:
            while waiting:
                timings.append(await timed(session, url, waiting.pop()))

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(clients)))
        return timings, time.perf_counter() - started


def retrieval(url: str) -> tuple[float, float]:
    """(sum of seconds, number) of our server's retrievals so far."""
    text = httpx.get(url.removesuffix("/v1") + "/metrics", trust_env=False).text
    found = dict(re.findall(r"^kb_answer_retrieval_seconds_(sum|count) (\S+)$", text, re.MULTILINE))
    return float(found.get("sum", 0)), float(found.get("count", 0))


def our_body(question: str, seed: int) -> dict[str, Any]:
    return {
        "model": "kb",
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": seed,
        "temperature": TEMPERATURE,
        "max_tokens": Random(seed).randint(*LENGTHS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vllm", required=True)
    parser.add_argument("--docs", type=Path, required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=64, help="a round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    questions = arguments.questions.read_text("utf-8").splitlines()
    ours = [our_body(questions[n % len(questions)], n) for n in range(arguments.requests)]
    model = httpx.get(f"{arguments.vllm}/models", trust_env=False).json()["data"][0]
    settings = {
        "KB_GENERATION__MODEL": model["id"],
        "KB_GENERATION__CONTEXT_TOKENS": str(model["max_model_len"]),
        "KB_GENERATION__FIRST_TOKEN_S": "300",
        "KB_GENERATION__TOTAL_S": "600",
    }
    Recorder.vllm = arguments.vllm
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        with recorder() as url, kb(data, arguments.docs, KB_GENERATION__URL=url, **settings) as api:
            asyncio.run(load(api, list(reversed(ours)), 1))
        theirs = list(Recorder.bodies)
        assert len(theirs) == len(ours), "not every question came to the model"
        with kb(data, arguments.docs, KB_GENERATION__URL=arguments.vllm, **settings) as api:
            asyncio.run(load(api, ours[:4], 2))
            print(
                "clients | first token p50: direct, ours, of it retrieval (mean), added"
                " | tokens/s: direct, ours, share | answers"
            )
            for clients in arguments.clients:
                compare(clients, arguments.vllm, api, theirs, ours, arguments.rounds)


def compare(
    clients: int,
    vllm: str,
    api: str,
    theirs: list[dict[str, Any]],
    ours: list[dict[str, Any]],
    rounds: int,
) -> None:
    """In turns, so that what else the machine does meanwhile meets both."""
    direct, through = Side(), Side()
    before = retrieval(api)
    for _ in range(rounds):
        direct.take(asyncio.run(load(vllm, theirs, clients)))
        through.take(asyncio.run(load(api, ours, clients)))
    after = retrieval(api)
    searching = (after[0] - before[0]) / max(1.0, after[1] - before[1]) * 1000
    added = through.first(statistics.median) - direct.first(statistics.median) - searching
    mean = through.first(statistics.mean) - direct.first(statistics.mean) - searching
    print(
        f"{clients:7} | {direct.first(statistics.median):.0f} ms, "
        f"{through.first(statistics.median):.0f} ms, {searching:.0f} ms, {added:.0f} ms"
        f" (mean {mean:.0f}) | {direct.rate:.0f}, {through.rate:.0f}, "
        f"{through.rate / direct.rate:.0%} | {len(through.timings)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
