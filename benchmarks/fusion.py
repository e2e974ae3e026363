"""Ways to fuse the two sides, side by side over public question sets, and what scores say of evidence.

    .venv/bin/python -m benchmarks.fusion --data ../shared/data --cache /tmp/fusion xquad_en xquad_zh

Names are folders of the data; `xquad_zh>xquad_en` asks the questions of one of the passages of the
other. `--candidates 30 50 100` compares how many each side brings. Passages are cut by the product's
chunker and embedded by its embedder, once (the cache keeps the vectors); a passage's score is its best
chunk's. Search is exact, BM25 is k1 1.2, b .75. findings are in docs/decisions/0002-fusion.md.
"""

import argparse
import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ingestion.chunking import Chunker, token_counter
from kb.ports import Embedder
from kb.types import Block, ParsedDocument, Vectors
from retrieval.embedders.e5_model import ensure_model
from retrieval.embedders.e5_onnx import E5OnnxEmbedder
from retrieval.embedders.language_neutral import LanguageNeutralEmbedder
from retrieval.evaluate import ranking_metrics
from retrieval.fusion import COVERAGE_WEIGHT
from retrieval.terms import question_terms, terms
from serving.question_sets import QuestionSet, load_question_set

Matrix = npt.NDArray[np.float32]
RANKED = 100
"""Chunks of a ranking that are looked at."""
MAX_TOKENS = 384


@dataclass(frozen=True)
class Corpus:
    """Chunks of all passages: `owners` names each chunk's passage."""

    owners: tuple[str, ...]
    texts: tuple[str, ...]
    vectors: Vectors


@dataclass(frozen=True)
class Found:
    """What both sides say, shape (questions, chunks). BM25 is 0 beyond its side's candidates."""

    cosine: Matrix
    bm25: Matrix
    coverage: Matrix
    candidates: npt.NDArray[np.bool_]
    term_counts: Matrix


# --- The forms that were compared --------------------------------------------------------------


def fused(weight: float, power: float = 2) -> Callable[[Found], Matrix]:
    return lambda found: np.maximum(found.cosine, 0) + weight * found.coverage**power


def reciprocal_ranks(found: Found) -> Matrix:
    dense, lexical = (
        1 + np.argsort(np.argsort(-s, axis=1), axis=1) for s in (found.cosine, found.bm25)
    )
    scores = 1 / (60 + dense) + np.where(found.bm25 > 0, 1 / (60 + lexical), 0)
    return scores.astype(np.float32)


def weighted_min_max(found: Found) -> Matrix:
    return 0.7 * _scaled(found.cosine, found.candidates) + 0.3 * _scaled(
        found.bm25, found.candidates
    )


def _scaled(scores: Matrix, candidates: npt.NDArray[np.bool_]) -> Matrix:
    low = np.where(candidates, scores, np.inf).min(axis=1, keepdims=True)
    high = np.where(candidates, scores, -np.inf).max(axis=1, keepdims=True)
    scaled: Matrix = (scores - low) / np.maximum(high - low, 1e-9)
    return scaled


FORMS: dict[str, Callable[[Found], Matrix]] = {
    "dense": lambda found: found.cosine,
    "bm25": lambda found: np.where(found.bm25 > 0, found.bm25, -1),
    "rrf 60": reciprocal_ranks,
    "min-max .7": weighted_min_max,
    "bm25/term .09": lambda found: found.cosine + 0.09 * found.bm25 / found.term_counts,
    "coverage .3": fused(0.3, 1),
    "coverage .4": fused(0.4, 1),
    **{f"coverage^2 {w:.1f}": fused(w) for w in (0.2, 0.3, 0.4, 0.5, 0.6)},
    "coverage^3 .4": fused(0.4, 3),
}


# --- Reading, cutting, embedding ---------------------------------------------------------------


async def corpus_of(folder: Path, embedder: Embedder, cache: Path) -> Corpus:
    chunker = Chunker(token_counter(embedder.tokenizer_file), MAX_TOKENS)
    owners: list[str] = []
    texts: list[str] = []
    for passage in load_question_set(folder, folder).passages:
        blocks = tuple(Block(text) for text in passage.text.split("\n\n") if text.strip())
        document = ParsedDocument(passage.title, blocks, "text/plain")
        cut = [chunk.passage for chunk in chunker.chunks(document, passage.id)]
        owners += [passage.id] * len(cut)
        texts += cut
    vectors = await _kept(cache, embedder, "passages", texts)
    return Corpus(tuple(owners), tuple(texts), vectors)


async def _kept(cache: Path, embedder: Embedder, kind: str, texts: Sequence[str]) -> Vectors:
    """The texts' vectors, from the cache where these very texts are in it."""
    key = blake2b("\0".join([embedder.fingerprint, kind, *texts]).encode(), digest_size=8)
    file = cache / f"{key.hexdigest()}.npy"
    if not file.exists():
        embed = embedder.passages if kind == "passages" else embedder.queries
        np.save(file, await embed(texts))
    vectors: Vectors = np.load(file)
    return vectors


# --- Both sides --------------------------------------------------------------------------------


class Lexical:
    """BM25 (Robertson and Zaragoza, 2009, with Lucene's idf) and coverage over an inverted index."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(terms(text)) for text in texts]
        lengths = np.array([count.total() for count in counts], np.float32)
        norms = 1.2 * (0.25 + 0.75 * lengths / max(1.0, float(lengths.mean())))
        places: dict[str, list[tuple[int, float]]] = {}
        for chunk, count in enumerate(counts):
            for term, n in count.items():
                places.setdefault(term, []).append((chunk, n * 2.2 / (n + norms[chunk])))
        self._chunks = len(texts)
        self._places = {
            term: (np.array([c for c, _ in found]), np.array([w for _, w in found], np.float32))
            for term, found in places.items()
        }

    def search(self, asked: Sequence[str]) -> tuple[Matrix, Matrix]:
        """BM25 and coverage of every chunk, each of shape (chunks,)."""
        bm25 = np.zeros(self._chunks, np.float32)
        common = np.zeros(self._chunks, np.float32)
        for term in asked:
            if term in self._places:
                chunks, weights = self._places[term]
                idf = math.log(1 + (self._chunks - len(chunks) + 0.5) / (len(chunks) + 0.5))
                bm25[chunks] += idf * weights
                common[chunks] += 1
        return bm25, common / np.float32(max(1, len(asked)))


def find(corpus: Corpus, questions: Sequence[str], vectors: Vectors, candidates: int) -> Found:
    lexical = Lexical(corpus.texts)
    asked = [question_terms(question) for question in questions]
    sides = [lexical.search(each) for each in asked]
    cosine = vectors @ corpus.vectors.T
    bm25 = np.stack([side for side, _ in sides])
    best_lexical, best_dense = _best(bm25, candidates) & (bm25 > 0), _best(cosine, candidates)
    return Found(
        cosine=cosine,
        bm25=np.where(best_lexical, bm25, 0),
        coverage=np.stack([side for _, side in sides]),
        candidates=best_lexical | best_dense,
        term_counts=np.array([[max(1, len(each))] for each in asked], np.float32),
    )


def _best(scores: Matrix, candidates: int) -> npt.NDArray[np.bool_]:
    if scores.shape[1] <= candidates:
        return np.ones_like(scores, bool)
    limits = -np.partition(-scores, candidates - 1, axis=1)[:, candidates - 1 : candidates]
    return scores >= limits


# --- Reports -----------------------------------------------------------------------------------


def compare(question_set: QuestionSet, corpus: Corpus, found: Found) -> dict[str, dict[str, float]]:
    """Metrics by form. Passages rank by their best chunk."""
    relevant = {
        question.id: question_set.relevant[question.id] for question in question_set.questions
    }
    results = {}
    for name, form in FORMS.items():
        scores = np.where(found.candidates, form(found), -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :RANKED]
        rankings = {
            question.id: [corpus.owners[chunk] for chunk in row]
            for question, row in zip(question_set.questions, order, strict=True)
        }
        results[name] = ranking_metrics(rankings, relevant)
    return results


def evidence(label: str, corpus: Corpus, questions: Sequence[str], vectors: Vectors) -> None:
    """Prints the best hits' scores at the percentiles 1, 5, 50, 95 and 99."""
    found = find(corpus, questions, vectors, RANKED)
    scores = fused(COVERAGE_WEIGHT)(found) / (1 + COVERAGE_WEIGHT)
    shares = " ".join(f"{x:.3f}" for x in np.percentile(scores.max(axis=1), (1, 5, 50, 95, 99)))
    print(f"{label:48} {shares}", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=2000, help="most questions of a set")
    parser.add_argument(
        "--candidates", type=int, nargs="+", default=[100], help="that each side brings"
    )
    parser.add_argument("--raw", action="store_true", help="the model's own vectors")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)

    model = arguments.cache / "multilingual-e5-small"
    ensure_model(model)
    plain = await E5OnnxEmbedder.open(model, 0, 8)
    embedder = (
        plain if arguments.raw else await LanguageNeutralEmbedder.over(plain, arguments.cache)
    )

    corpora: dict[str, Corpus] = {}
    asked: dict[str, tuple[list[str], Vectors]] = {}
    print(f"{'hit@1 recall@10':24}" + "".join(f"{form:>15}" for form in FORMS))
    for name in arguments.sets:
        questions_of, _, passages_of = name.partition(">")
        passages_of = passages_of or questions_of
        question_set = load_question_set(
            arguments.data / questions_of, arguments.data / passages_of, arguments.limit
        )
        if passages_of not in corpora:
            corpora[passages_of] = await corpus_of(
                arguments.data / passages_of, embedder, arguments.cache
            )
        texts = [question.text for question in question_set.questions]
        asked[questions_of] = texts, await _kept(arguments.cache, embedder, "queries", texts)
        for candidates in arguments.candidates:
            found = find(corpora[passages_of], *asked[questions_of], candidates)
            results = compare(question_set, corpora[passages_of], found)
            cells = [f"{r['hit@1']:.3f} {r['recall@10']:.3f}" for r in results.values()]
            row = f"{name} {candidates}"
            print(f"{row:24}" + "".join(f"{cell:>15}" for cell in cells), flush=True)

    print("\nquestions > passages: best score at 1 5 50 95 99 %")
    for (questions_of, (texts, vectors)), (passages_of, corpus) in product(
        asked.items(), corpora.items()
    ):
        evidence(f"{questions_of} > {passages_of}", corpus, texts, vectors)
    await embedder.close()


if __name__ == "__main__":
    asyncio.run(main())
