"""Both indexes as they grow: writing, hybrid search with a rights filter, recall, disk and memory.

    URL=$(deploy/elasticsearch/start /tmp/elasticsearch)
    python -m benchmarks.index ../shared/data/{squad_v1_dev,cmrc2018_dev} --url $URL \\
        [--kinds lance bbq_hnsw int8_hnsw] [--chunks 20000 200000] [--kept FOLDER] [--lock FILE]

Chunks are the sets' passages, repeated with changes (`benchmarks.grown_corpus`); questions are the sets'
own; all vectors come from the real embedder or are mixtures of its own, which are kept in FOLDER. Asking
brings as many candidates a side as the settings say; the asker may read half of all documents. Server and
client share a machine.

A *query* is the search of the index and the fusion, without the question's embedding. `took` is
Elasticsearch's own time; `outside` is the rest of the search: its HTTP, the network and our client.
A bare socket that sends the same again and parses nothing tells the server's part of that; the rest, and
the fusion, are our own share.
Recall is the vector side's, against comparing all readable vectors. With a lock file, other work on the
machine takes turns with this.
"""

import argparse
import asyncio
import fcntl
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.embedded_sets import EmbeddedSet, embedded_set
from benchmarks.grown_corpus import STAFF, GrownCorpus, number_of
from benchmarks.measured_indexes import MeasuredIndex, opened
from kb.settings import load_settings
from kb.types import IndexQuery
from retrieval.fusion import rank
from retrieval.terms import question_terms
from serving.bootstrap import open_embedder

BATCH = 1000
"""Chunks of one write."""
TURN_S = 300.0
CLIENTS = 8
KINDS = ("lance", "bbq_hnsw", "int8_hnsw")

Figures = dict[str, float]


class Turns:
    """The right to burn the machine, shared with whoever locks the same file."""

    def __init__(self, file: Path | None) -> None:
        self._file = file.open("ab") if file else None
        self._since = time.monotonic()

    def take(self) -> None:
        if self._file:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._since = time.monotonic()

    def pass_on(self) -> None:
        """Lets others go first if this has had its time."""
        if self._file and time.monotonic() - self._since > TURN_S:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            time.sleep(1)
            self.take()


def questions_of(sets: Sequence[EmbeddedSet], candidates: int) -> list[IndexQuery]:
    return [
        IndexQuery(vector, tuple(question_terms(question.text)), candidates, STAFF)
        for made in sets
        for question, vector in zip(made.questions, made.question_vectors, strict=True)
    ]


async def fill(
    measured: MeasuredIndex, corpus: GrownCorpus, start: int, stop: int, turns: Turns
) -> Figures:
    """Seconds of writing, the making of chunks left out, and until the index has come to rest."""
    written = 0.0
    while start < stop:
        turns.pass_on()
        batch = list(corpus.documents(start, min(start + BATCH, stop)))
        begun = time.perf_counter()
        refused = await measured.index.replace(batch, refresh=False)
        written += time.perf_counter() - begun
        assert not refused, refused
        start += BATCH
    begun = time.perf_counter()
    await measured.settle()
    return {"written_s": written, "then at rest after, s": time.perf_counter() - begun}


async def one_by_one(measured: MeasuredIndex, queries: Sequence[IndexQuery]) -> Figures:
    searches, fusions, served = [], [], []
    measured.took.clear()
    for query in queries:
        begun = time.perf_counter()
        found = await measured.index.search(query)
        searched = time.perf_counter()
        rank(found, query.terms)
        searches.append(1000 * (searched - begun))
        fusions.append(1000 * (time.perf_counter() - searched))
        served.append(await measured.served())
    whole = np.add(searches, fusions)
    figures = percentiles("query", whole.tolist()) | {
        "queries/s": 1000 / whole.mean(),
        "of it fusion, ms p50": float(np.median(fusions)),
    }
    if measured.took:
        outside = np.subtract(searches, measured.took)
        figures["of it took, ms p50"] = float(np.median(measured.took))
        figures["of it outside, ms p50"] = float(np.median(outside))
        figures["outside, bare socket, ms p50"] = float(np.median(served))
        ours = np.subtract(np.add(outside, fusions), served)
        figures["our own share, ms p50"] = float(np.median(ours))
    return figures


async def at_once(measured: MeasuredIndex, queries: Sequence[IndexQuery]) -> Figures:
    waiting = iter(queries)
    taken: list[float] = []

    async def client() -> None:
        for query in waiting:
            begun = time.perf_counter()
            rank(await measured.index.search(query), query.terms)
            taken.append(1000 * (time.perf_counter() - begun))

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    rate = len(queries) / (time.perf_counter() - begun)
    return percentiles(f"{CLIENTS} clients", taken) | {f"{CLIENTS} clients, queries/s": rate}


def percentiles(name: str, values: Sequence[float]) -> Figures:
    return {
        f"{name}, ms p50": float(np.percentile(values, 50)),
        f"{name}, ms p99": float(np.percentile(values, 99)),
    }


async def recall(
    measured: MeasuredIndex, corpus: GrownCorpus, chunks: int, queries: Sequence[IndexQuery]
) -> float:
    """Share of the exact ten nearest that are among the ten nearest found."""
    readable = np.flatnonzero(corpus.readable[:chunks])
    vectors = corpus.vectors[:chunks][readable]
    shares = []
    for query in queries:
        assert query.vector is not None
        nearest = readable[np.argsort(vectors @ query.vector)[-10:]]
        found = await measured.index.search(IndexQuery(query.vector, (), query.limit, STAFF))
        found.sort(key=lambda candidate: -(candidate.similarity or 0))
        shares.append(len({number_of(c.chunk) for c in found[:10]} & set(nearest.tolist())) / 10)
    return float(np.mean(shares))


async def measure(
    measured: MeasuredIndex,
    corpus: GrownCorpus,
    sizes: Sequence[int],
    queries: Sequence[IndexQuery],
    turns: Turns,
) -> list[Figures]:
    """The figures at each size, on the way up."""
    columns: list[Figures] = []
    start = 0
    for size in sizes:
        filled = await fill(measured, corpus, start, size, turns)
        written = filled.pop("written_s")
        figures = {"written, chunks/s": (size - start) / written} | filled
        turns.pass_on()
        await one_by_one(measured, queries[:50])
        figures |= await one_by_one(measured, queries)
        figures |= await at_once(measured, queries)
        figures["recall@10"] = await recall(measured, corpus, size, queries)
        figures |= await measured.sizes()
        start = size
        columns.append(figures)
        Console(width=200).print(time.strftime("%H:%M:%S"), measured.kind, f"{size:,}", figures)
    return columns


async def main(options: argparse.Namespace) -> None:
    turns = Turns(options.lock)
    turns.take()
    embedder = await open_embedder(load_settings())
    sets = [
        await embedded_set(folder, options.questions, embedder, options.kept)
        for folder in options.sets
    ]
    corpus = GrownCorpus(sets, max(options.chunks))
    await embedder.close()
    queries = questions_of(sets, options.candidates)
    columns: dict[str, Figures] = {}
    for kind in options.kinds:
        async with opened(kind, options.url) as measured:
            found = await measure(measured, corpus, options.chunks, queries, turns)
            columns |= {
                f"{kind} {size:,}": figures
                for size, figures in zip(options.chunks, found, strict=True)
            }
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    table = Table("", *columns)
    for name in names:
        shown = (figures.get(name) for figures in columns.values())
        table.add_row(name, *("" if value is None else f"{value:,.4g}" for value in shown))
    Console(width=130).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--url", default="")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--chunks", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--candidates", type=int, default=load_settings().search.candidates)
    parser.add_argument("--questions", type=int, default=100, help="of each set")
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "kb-vectors")
    parser.add_argument("--lock", type=Path)
    asyncio.run(main(parser.parse_args()))
