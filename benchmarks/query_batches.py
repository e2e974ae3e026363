"""Whether several questions in one call are faster than one after another: the table of decision 0016.

python benchmarks/query_batches.py --data ../shared/data --model data/models
"""

import argparse
import asyncio
from pathlib import Path
from statistics import median
from time import process_time

from kb.ports import Embedder
from retrieval.embedders.e5_onnx import E5OnnxEmbedder
from retrieval.embedders.sentence_transformers import SentenceTransformersEmbedder
from serving.question_sets import load_question_set

SIZES = (1, 2, 4, 8, 16, 32)
ROUNDS = 7


async def per_question_ms(embedder: Embedder, questions: list[str], size: int) -> float:
    """Milliseconds of processor time, which others on the machine disturb least: the median of some rounds."""
    rounds = []
    for _ in range(ROUNDS):
        started = process_time()
        for start in range(0, len(questions), size):
            await embedder.queries(questions[start : start + size])
        rounds.append((process_time() - started) / len(questions) * 1e3)
    return median(rounds)


async def report(name: str, embedder: Embedder, questions: list[str]) -> None:
    mixed = questions[:32]
    (lengths,) = [embedder.count_tokens(questions)]
    common = max(set(lengths), key=lengths.count)
    alike = [q for q, length in zip(questions, lengths, strict=True) if length == common][:32]
    for kind, chosen in (("mixed lengths", mixed), (f"all of {common} tokens", alike)):
        await embedder.queries(chosen)
        figures = [await per_question_ms(embedder, chosen, size) for size in SIZES]
        row = " ".join(f"{figure:6.1f}" for figure in figures)
        print(f"{name:22} {kind:20} {len(chosen):3} {row}", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", type=Path, default=Path("data/models"))
    parser.add_argument("--torch-model", help="a sentence-transformers model's folder, to compare")
    arguments = parser.parse_args()
    folder = arguments.data / "squad_v1_dev"
    questions = [q.text for q in load_question_set(folder, folder, 400).questions]
    sizes = " ".join(f"{size:6}" for size in SIZES)
    print(f"CPU ms a question, in calls of {'questions':>15} {sizes}")
    e5 = await E5OnnxEmbedder.open(arguments.model / "multilingual-e5-small", 0, 0)
    await report("e5-onnx", e5, questions)
    await e5.close()
    if arguments.torch_model:
        torch = await SentenceTransformersEmbedder.open(arguments.torch_model, arguments.model)
        await report("sentence-transformers", torch, questions)
        await torch.close()


if __name__ == "__main__":
    asyncio.run(main())
