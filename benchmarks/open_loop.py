"""Requests that are sent when their time has come, whether earlier ones are answered or not.

A client that waits for answers asks a slow server less often, and measures only what it asked. Here the
times are set beforehand, and a latency counts from the time a request was to be sent.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np

PATHS = {"search": "/v1/search", "chat": "/v1/chat/completions"}
PATIENCE_S = 60.0
NO_ANSWER = "no answer"


@dataclass
class Outcome:
    """`latencies` are milliseconds, of good answers only; `wall_s` ends with the last answer."""

    offered: float | None
    wall_s: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def asked(self) -> int:
        return len(self.latencies) + self.errors.total()

    @property
    def error_rate(self) -> float:
        return self.errors.total() / max(1, self.asked)

    @property
    def held(self) -> float:
        """Good answers in a second."""
        return len(self.latencies) / self.wall_s

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.latencies, share)) if self.latencies else float("inf")


class Client:
    """Asks one endpoint of a server; every question is another until the set is through."""

    def __init__(
        self, url: str, endpoint: str, questions: Iterator[str], *, no_store: bool = False
    ) -> None:
        self._url = url + PATHS[endpoint]
        self._endpoint = endpoint
        self._questions = questions
        headers = {"Cache-Control": "no-store"} if no_store else {}
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
        )

    async def close(self) -> None:
        await self._session.close()

    async def open_loop(self, rate: float, seconds: float, rng: np.random.Generator) -> Outcome:
        """Poisson arrivals: the times between two are exponentially distributed."""
        outcome = Outcome(rate)
        times = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as asking:
            for due in begun + times:
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                asking.create_task(self._ask(due, outcome))
        outcome.wall_s = time.perf_counter() - begun
        return outcome

    async def closed_loop(self, clients: int, seconds: float) -> Outcome:
        """Each of the clients asks again when it has its answer: what the server gives at most."""
        outcome = Outcome(None)
        outcome.wall_s = await closed_loop(
            lambda: self._ask(time.perf_counter(), outcome), clients, seconds
        )
        return outcome

    async def _ask(self, due: float, outcome: Outcome) -> None:
        body = self._body(next(self._questions))
        try:
            async with self._session.post(self._url, json=body) as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome.errors[f"{NO_ANSWER}: {type(error).__name__}"] += 1
            return
        if response.status == 200:
            outcome.latencies.append(1000 * (time.perf_counter() - due))
        else:
            outcome.errors[str(response.status)] += 1

    def _body(self, question: str) -> dict[str, Any]:
        if self._endpoint == "search":
            return {"query": question}
        return {"model": "kb", "messages": [{"role": "user", "content": question}]}


async def closed_loop(ask: Callable[[], Awaitable[None]], clients: int, seconds: float) -> float:
    """Gives the seconds it took, until the last answer."""
    begun = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - begun < seconds:
            await ask()

    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - begun


def endless(questions: list[str]) -> Iterator[str]:
    return itertools.cycle(questions)
