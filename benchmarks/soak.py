"""Clients that ask without a pause and hang up at random: does anything leak?

    python benchmarks/soak.py --kb http://127.0.0.1:8000 --pid PID --vllm http://127.0.0.1:8001/v1 \\
        --questions FILE --minutes 5 --clients 20

Half of the answers are streams; a third of the clients hang up after a random time. Prints our
process's memory, open files and vLLM's requests every half a minute, and after the last client left.
"""

import argparse
import asyncio
import random
import re
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil

EVERY_S = 30.0
HANGS_UP = 1 / 3


async def ask(client: httpx.AsyncClient, kb: str, question: str, chance: random.Random) -> str:
    """One question; gives how it ended."""
    body = {
        "model": "kb",
        "messages": [{"role": "user", "content": question}],
        "stream": chance.random() < 0.5,
        "temperature": chance.choice([0.0, 1.5]),
        "max_tokens": 200,
    }
    patience = chance.uniform(0.0, 1.5) if chance.random() < HANGS_UP else 300.0
    try:
        async with asyncio.timeout(patience):
            response = await client.post(
                f"{kb}/v1/chat/completions", json=body, headers={"Cache-Control": "no-store"}
            )
    except TimeoutError:
        return "hung up"
    if b'"error"' in response.content:
        return f"error {response.status_code}"
    found = re.search(rb'"answered_by":"(\w+)"', response.content)
    return found[1].decode() if found else f"status {response.status_code}"


def observe(process: psutil.Process, vllm: str, ended: Counter[str], started: float) -> None:
    text = httpx.get(vllm.removesuffix("/v1") + "/metrics", trust_env=False).text
    running = re.findall(r"^vllm:num_requests_(?:running|waiting)\{.*\} (\S+)$", text, re.MULTILINE)
    memory = process.memory_info().rss / 2**20
    sockets = len(process.net_connections("tcp"))
    print(
        f"{time.monotonic() - started:5.0f} s | {memory:.0f} MiB | {process.num_fds()} files, {sockets} sockets"
        f" | vLLM has {sum(map(float, running)):.0f} | {dict(ended)}",
        flush=True,
    )


async def soak(arguments: argparse.Namespace) -> None:
    questions = arguments.questions.read_text("utf-8").splitlines()
    process = psutil.Process(arguments.pid)
    ended: Counter[str] = Counter()
    started = time.monotonic()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=arguments.clients)
    async with httpx.AsyncClient(trust_env=False, timeout=None, limits=limits) as client:

        async def work(number: int) -> None:
            chance = random.Random(number)
            while time.monotonic() - started < arguments.minutes * 60:
                ended[await ask(client, arguments.kb, chance.choice(questions), chance)] += 1

        working = [asyncio.create_task(work(number)) for number in range(arguments.clients)]
        while not all(task.done() for task in working):
            await asyncio.wait(working, timeout=EVERY_S)
            observe(process, arguments.vllm, ended, started)
        for task in working:
            task.result()
    await asyncio.sleep(5)
    observe(process, arguments.vllm, ended, started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kb", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--vllm", required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--clients", type=int, default=20)
    asyncio.run(soak(parser.parse_args()))


if __name__ == "__main__":
    main()
