"""A server under load: what rates it holds, where it breaks, and what the machine could do at most.

    python -m benchmarks.load ../shared/data/{squad_v1_dev,cmrc2018_dev} [--chunks 200000] [--kept FOLDER] \\
        [--endpoints search chat] [--rates 50] [--seconds 300] [--cached] [--url ELASTICSEARCH]

`kb serve` is one process (its log is in FOLDER), this client another, on one machine. Chunks are the
sets' passages, beyond those repeated with changes (`benchmarks.grown_corpus`); questions are the sets'
own, each once until all were asked, and sent with `Cache-Control: no-store`. With --cached there is a
second row for each rate: without that header, over and over the same 500 questions. Arrivals are random
(Poisson), open loop: a latency counts from when the request was to be sent.

A rate is *held* if P99 is below 500 ms and fewer than 0.1% fail. The *knee* is the last of steps of 15%
that is held. *Most* is what 8 clients get who ask again when they have their answer. The *limit* is the
same without HTTP and without our own code: the bare embedder and the bare index called for one question
after another, 8 at a time, in one process; for a chat the embedder is also given as many sentences as an
extractive answer compares, from real answers. *Share* is most / limit. CPU is in cores.
"""

import argparse
import asyncio
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.embedded_sets import embedded_set
from benchmarks.grown_corpus import CHUNKS_PER_DOCUMENT, GrownCorpus
from benchmarks.open_loop import Client, Outcome, closed_loop, endless
from ingestion.sources import folder_record
from kb import ids
from kb.settings import IndexSettings, Settings
from kb.types import Document, DocumentStatus, IndexedDocument, IndexQuery
from retrieval.terms import question_terms
from serving.answering.candidates import candidates, quotables
from serving.answering.extractive import are_chosen_by_words, to_compare
from serving.bootstrap import DEFAULT_COLLECTION, Services, open_embedder, open_services
from serving.parts import Live, open_plain_embedder
from serving.question_sets import load_question_set
from serving.searching import bound_search

BATCH = 1000
SET_QUESTIONS = 100
"""Those whose vectors `benchmarks.index` keeps too: the passages' are found again in the same file."""
MOST_P99_MS = 500.0
MOST_ERRORS = 0.001
STEP = 1.15
MOST_STEPS = 12
CLIENTS = 8
POPULAR = 500
SAMPLE = 50

COLUMNS = ("offered/s", "held/s", "P50 ms", "P99 ms", "errors", "server CPU", "client CPU")
console = Console(width=130)


# --- Data ---------------------------------------------------------------------------------------


async def fill(settings: Settings, options: argparse.Namespace) -> int:
    """The knowledge base with that many chunks, if it is not there yet; gives how many they are."""
    async with open_services(settings) as services:
        live = await services.ensure_collection(DEFAULT_COLLECTION)
        embedder = await services.embedder()
        sets = [
            await embedded_set(folder, SET_QUESTIONS, embedder, options.kept)
            for folder in options.sets
        ]
        chunks = options.chunks or sum(len(made.passages) for made in sets)
        chunks -= chunks % CHUNKS_PER_DOCUMENT
        if (await live.index.count()).chunks == chunks:
            return chunks
        corpus = GrownCorpus(sets, chunks)
        record = folder_record(DEFAULT_COLLECTION, Path("/srv"))
        await services.catalog.ensure_source(record)
        for start in range(0, chunks, BATCH):
            written = corpus.documents(start, min(start + BATCH, chunks))
            pairs = [_readable_by_all(document, record.id) for document in written]
            await live.index.replace([document for document, _ in pairs], refresh=False)
            await services.catalog.save_documents([row for _, row in pairs])
        await live.index.refresh()
        await live.index.optimise()
        return chunks


def _readable_by_all(document: IndexedDocument, source_id: str) -> tuple[IndexedDocument, Document]:
    row = Document(
        document.id,
        DEFAULT_COLLECTION,
        source_id,
        document.uri,
        document.chunks[0].title,
        "text/markdown",
        size=0,
        mtime_ns=0,
        content_hash=document.id,
        status=DocumentStatus.INDEXED,
        chunk_count=len(document.chunks),
        indexed_at=datetime.now(UTC),
        text_hash=document.id,
    )
    return replace(document, groups=(), revision=ids.revision(row)), row


def all_questions(folders: list[Path]) -> list[str]:
    """Of all sets, mixed; each once."""
    found = {q.text for folder in folders for q in load_question_set(folder, folder).questions}
    questions = sorted(found)
    random.Random(0).shuffle(questions)
    return questions


# --- Server -------------------------------------------------------------------------------------


@contextmanager
def serving(settings: Settings, options: argparse.Namespace) -> Iterator["Server"]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KB_")}
    own = {"KB_DATA_DIR": str(settings.data_dir), "KB_SERVER__PORT": "0"}
    if options.url:
        own |= {"KB_INDEX__URL": options.url, "KB_INDEX__PREFIX": settings.index.prefix}
    command = [Path(sys.executable).with_name("kb"), "serve"]
    with settings.data_dir.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            command, env=inherited | own, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        yield Server(_endpoint(process), psutil.Process(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _endpoint(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    for line in process.stdout:
        if match := re.search(r"Endpoint\s+(http://\S+)/v1", line):
            return match[1]
    raise SystemExit(f"kb serve ended with {process.wait()}")


class Server:
    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url = url
        self._processes = [process, psutil.Process()]
        self._before = (0.0, [0.0, 0.0])

    def begin(self) -> None:
        self._before = (time.perf_counter(), self._cpu())

    def cores(self) -> list[float]:
        """What server and client have used since `begin`, in cores."""
        wall = time.perf_counter() - self._before[0]
        pairs = zip(self._cpu(), self._before[1], strict=True)
        return [(now - before) / wall for now, before in pairs]

    def _cpu(self) -> list[float]:
        times = [process.cpu_times() for process in self._processes]
        return [t.user + t.system for t in times]


# --- Measuring ----------------------------------------------------------------------------------


class Run:
    """The rows of one run, printed as they come and at the end as a table."""

    def __init__(self, server: Server, questions: Iterator[str]) -> None:
        self._server = server
        self._questions = questions
        self._rng = np.random.default_rng(0)
        self.table = Table("", *COLUMNS)

    async def rate(
        self, endpoint: str, rate: float, seconds: float, *, popular: list[str] | None = None
    ) -> Outcome:
        client = self._client(endpoint, popular)
        self._server.begin()
        outcome = await client.open_loop(rate, seconds, self._rng)
        await client.close()
        self._row(endpoint + (", cached" if popular else ""), outcome)
        return outcome

    async def most(self, endpoint: str, seconds: float) -> float:
        client = self._client(endpoint, None)
        self._server.begin()
        outcome = await client.closed_loop(CLIENTS, seconds)
        await client.close()
        self._row(f"{endpoint}, {CLIENTS} clients", outcome)
        return outcome.held

    async def knee(self, endpoint: str, rate: float, seconds: float) -> float:
        """The last rate held, in steps up from `rate`; 0 where not even that is."""
        last = 0.0
        for _ in range(MOST_STEPS):
            outcome = await self.rate(endpoint, rate, seconds)
            if outcome.percentile(99) >= MOST_P99_MS or outcome.error_rate >= MOST_ERRORS:
                break
            last, rate = rate, rate * STEP
        return last

    def _client(self, endpoint: str, popular: list[str] | None) -> Client:
        questions = endless(popular) if popular else self._questions
        return Client(self._server.url, endpoint, questions, no_store=not popular)

    def _row(self, name: str, outcome: Outcome) -> None:
        cells = [
            "-" if outcome.offered is None else f"{outcome.offered:.1f}",
            f"{outcome.held:.1f}",
            f"{outcome.percentile(50):.0f}",
            f"{outcome.percentile(99):.0f}",
            f"{outcome.error_rate:.2%}",
            *(f"{cores:.2f}" for cores in self._server.cores()),
        ]
        self.table.add_row(name, *cells)
        told = ", ".join(f"{n} {c}" for n, c in zip(COLUMNS, cells, strict=True))
        console.print(time.strftime("%H:%M:%S"), name, told, dict(outcome.errors) or "")


async def limit(
    services: Services, endpoint: str, questions: Iterator[str], seconds: float
) -> float:
    """Questions a second that the bare embedder and the bare index do, in one process without HTTP."""
    live = await services.live(DEFAULT_COLLECTION)
    # The server's own remembers what it was asked before, and the compared sentences come again.
    embedder = await open_plain_embedder(services.settings)
    compared = await _compared(live, services, questions) if endpoint == "chat" else iter(())
    wanted = services.settings.search.candidates
    done = 0

    async def ask() -> None:
        nonlocal done
        question = next(questions)
        (vector,) = await embedder.queries([question])
        await live.index.search(IndexQuery(vector, tuple(question_terms(question)), wanted))
        if sentences := next(compared, None):
            await embedder.queries(sentences)
        done += 1

    await closed_loop(ask, CLIENTS, 1)  # Everything is opened and warm.
    done = 0
    wall_s = await closed_loop(ask, CLIENTS, seconds)
    await embedder.close()
    return done / wall_s


async def _compared(
    live: Live, services: Services, questions: Iterator[str]
) -> Iterator[list[str]]:
    """What the embedder is given for extractive answers beside the question: over and over those of a few."""
    find = bound_search(live, services)
    texts = []
    for question in itertools.islice(questions, SAMPLE):
        ranked = candidates(question, quotables(await find(question)))
        compared = to_compare(ranked, by_words=are_chosen_by_words(question, ranked))
        texts.append([candidate.quotable.in_context for candidate in compared])
    return itertools.cycle(texts)


async def main(options: argparse.Namespace) -> None:
    size = options.chunks or "sets"
    index = IndexSettings.model_validate(
        {"url": options.url, "prefix": f"load-{size}-"} if options.url else {}
    )
    settings = Settings(data_dir=options.kept / f"load-{size}", index=index)
    await (await open_embedder(settings)).close()
    chunks = await fill(settings, options)
    listed = all_questions(options.sets)
    questions = endless(listed)
    console.print(f"{chunks:,} chunks, {len(listed):,} different questions")
    knees: dict[str, float] = {}
    most: dict[str, float] = {}
    with serving(settings, options) as server:
        run = Run(server, questions)
        for endpoint in options.endpoints:
            await run.most(endpoint, 3)  # Warm; the row stays, to be seen for what it is.
            for rate in options.rates:
                await run.rate(endpoint, rate, options.seconds)
                if options.cached:
                    await run.rate(endpoint, rate, options.seconds, popular=listed[:POPULAR])
            most[endpoint] = await run.most(endpoint, options.step_seconds)
            knees[endpoint] = await run.knee(endpoint, 0.6 * most[endpoint], options.step_seconds)
    async with open_services(settings) as services:
        bare = {
            endpoint: await limit(services, endpoint, questions, options.step_seconds)
            for endpoint in options.endpoints
        }
    console.print(run.table)
    for endpoint in options.endpoints:
        console.print(
            f"{endpoint}: knee {knees[endpoint]:.1f}/s, most {most[endpoint]:.1f}/s; the machine's limit"
            f" {bare[endpoint]:.1f}/s (bare embedder and index), our share"
            f" {most[endpoint] / bare[endpoint]:.0%}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--chunks", type=int, default=0, help="0: the sets' passages, each once")
    parser.add_argument(
        "--endpoints", nargs="+", choices=("search", "chat"), default=["search", "chat"]
    )
    parser.add_argument("--rates", type=float, nargs="+", default=[50.0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--step-seconds", type=float, default=20, help="of the steps to the knee")
    parser.add_argument("--cached", action="store_true")
    parser.add_argument("--url", default="", help="Elasticsearch's; else the embedded index")
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "kb-vectors")
    asyncio.run(main(parser.parse_args()))
