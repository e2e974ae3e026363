"""Whether the indexes find the same: top tens of all questions of some sets, side by side.

    URL=$(deploy/elasticsearch/start /tmp/elasticsearch)
    python -m benchmarks.overlap ../shared/data/{xquad_zh,xquad_en} --url $URL [--kept FOLDER]

Each passage is one chunk, with its vector and those of the questions from the real embedder. `overlap` is
the share of the ten best hits, after the fusion, that LanceDB's exact search has among its ten best as
well; `recall` is that of the ten nearest vectors against comparing all. `lance, HNSW` is LanceDB with
the vector index that it gets from 50,000 chunks on.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.embedded_sets import EmbeddedSet, embedded_set
from benchmarks.measured_indexes import MeasuredIndex, opened
from kb import ids
from kb.settings import load_settings
from kb.types import Chunk, IndexedDocument, IndexQuery, passage_text
from retrieval.fusion import rank
from retrieval.terms import question_terms
from serving.bootstrap import open_embedder

CANDIDATES = 100
KINDS = ("lance", "lance, HNSW", "hnsw", "int8_hnsw", "bbq_hnsw")


def documents(made: EmbeddedSet) -> list[IndexedDocument]:
    found = []
    for number, passage in enumerate(made.passages):
        digest = ids.text_hash(passage_text(passage.title, (), passage.text))
        length = len(passage.text)
        chunk = Chunk(
            str(number), passage.id, 0, passage.title, (), None, 0, length, passage.text, digest, 1
        )
        vectors = made.vectors[number : number + 1]
        found.append(IndexedDocument(passage.id, "file:///p", (), "1", (chunk,), vectors))
    return found


async def top_tens(measured: MeasuredIndex, made: EmbeddedSet) -> tuple[list[set[str]], float]:
    """The ten best chunks of each question, and the vector side's mean recall at 10."""
    await measured.index.replace(documents(made))
    await measured.settle()
    best, recalls = [], []
    for question, vector in zip(made.questions, made.question_vectors, strict=True):
        terms = tuple(question_terms(question.text))
        ranked = rank(await measured.index.search(IndexQuery(vector, terms, CANDIDATES)), terms)
        best.append({candidate.chunk.id for candidate, _ in ranked[:10]})
        near = rank(await measured.index.search(IndexQuery(vector, (), CANDIDATES)), (), "dense")
        exact = {str(number) for number in np.argsort(made.vectors @ vector)[-10:]}
        recalls.append(len(exact & {candidate.chunk.id for candidate, _ in near[:10]}) / 10)
    return best, float(np.mean(recalls))


async def row(made: EmbeddedSet, url: str) -> list[str]:
    shown: list[str] = []
    reference: list[set[str]] = []
    for kind in KINDS:
        async with opened(kind, url) as measured:
            best, recall = await top_tens(measured, made)
        reference = reference or best
        shares = [len(a & b) / max(1, len(b)) for a, b in zip(best, reference, strict=True)]
        shown.append(f"{np.mean(shares):.3f} / {recall:.3f}")
    return shown


async def main(options: argparse.Namespace) -> None:
    embedder = await open_embedder(load_settings())
    table = Table("overlap / recall at 10", "passages / questions", *KINDS)
    for folder in options.sets:
        made = await embedded_set(folder, options.questions, embedder, options.kept)
        counts = f"{len(made.passages):,} / {len(made.questions):,}"
        table.add_row(made.name, counts, *await row(made, options.url))
    await embedder.close()
    Console(width=140).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--url", required=True)
    parser.add_argument("--questions", type=int, default=100, help="of each set")
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "kb-vectors")
    asyncio.run(main(parser.parse_args()))
