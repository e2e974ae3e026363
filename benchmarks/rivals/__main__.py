"""Ingest beside LlamaIndex, Haystack and txtai: the same files, weights and machine, one run.

    make rivals
    python -m benchmarks.rivals SET... [--documents N] [--questions N] [--batch N] [--only NAME...]

Each SET is a question set, of which passages (or N of them, spread evenly) are written as Markdown files.
Each contender ingests them in a fresh process, one after another, on as many threads as there are cores:
ours with its int8 model and embedded index; the others with the same weights in fp32 on torch, as
sentence-transformers loads them, with their in-memory stores and their own batch sizes (or N). The clock
runs while files are read, cut, embedded and indexed; models are loaded before (`load s`). Then the questions
are asked of each: `hit@1` and `recall@10` of the documents.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from benchmarks.rivals.contest import Job, Report
from retrieval.evaluate import ranking_metrics
from serving.question_sets import Passage, load_question_set

Item = TypeVar("Item")
RIVALS = Path(".rivals")
CHUNK_TOKENS = 384
CUT_SHORT = 0.85
"""A chunk of characters may have denser text than the average: it must rarely have more than its tokens."""
MAX_TOKENS = 512
"""What is longer is cut off by the model."""
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "TOKENIZERS_PARALLELISM": "true",
}


@dataclass(frozen=True)
class Entrant:
    """`module` runs in our environment, or in that of the rivals."""

    name: str
    module: str
    is_ours: bool = False


ENTRANTS = [
    Entrant("kb", "ours", is_ours=True),
    Entrant("LlamaIndex", "llama_index"),
    Entrant("Haystack", "haystack"),
    Entrant("txtai", "txtai"),
]


@dataclass(frozen=True)
class Contest:
    """One set's files. `passage_ids` by file name; `relevant` by question text."""

    name: str
    files: Path
    passage_ids: dict[str, str]
    questions: tuple[str, ...]
    relevant: dict[str, frozenset[str]]
    characters: int


def prepare(folder: Path, documents: int | None, questions: int, files: Path) -> Contest:
    found = load_question_set(folder, folder)
    passages = spread(found.passages, documents or len(found.passages))
    kept = {passage.id for passage in passages}
    answerable = {
        q.text: found.relevant[q.id] for q in found.questions if found.relevant[q.id] <= kept
    }
    asked = spread(list(answerable), questions)
    files.mkdir()
    passage_ids = {f"{number:05}.md": passage.id for number, passage in enumerate(passages)}
    for name, passage in zip(passage_ids, passages, strict=True):
        (files / name).write_text(written(passage), "utf-8")
    relevant = {question: answerable[question] for question in asked}
    characters = sum(len(written(passage)) for passage in passages)
    return Contest(folder.name, files, passage_ids, tuple(asked), relevant, characters)


def written(passage: Passage) -> str:
    return f"# {passage.title or 'Untitled'}\n\n{passage.text}\n"


def spread(items: Sequence[Item], most: int) -> list[Item]:
    count = min(most, len(items))
    return [items[len(items) * n // count] for n in range(count)]


def run(entrant: Entrant, job: Job, scratch: Path) -> Report:
    """In a process of its own. Raises CalledProcessError, after what it printed."""
    python = sys.executable if entrant.is_ours else str(RIVALS / "bin" / "python")
    job_file, report_file = scratch / "job.json", scratch / "report.json"
    job_file.write_text(json.dumps(asdict(job)), "utf-8")
    command = [python, "-m", f"benchmarks.rivals.{entrant.module}", str(job_file), str(report_file)]
    subprocess.run(command, check=True, env=os.environ | OFFLINE, stdout=sys.stderr)
    return Report(**json.loads(report_file.read_text("utf-8")))


def model_folder(scratch: Path) -> Path:
    folder = scratch / "model"
    python = str(RIVALS / "bin" / "python")
    subprocess.run([python, "-m", "benchmarks.rivals.model_folder", str(folder)], check=True)
    return folder


def table(title: str) -> Table:
    names = ["wall s", "ours is x times as fast", "CPU s", "docs/s", "chunks", "chunks/s", "tokens", "tokens/s",
             "peak MiB", "load s", "hit@1", "recall@10"]  # fmt: skip
    made = Table("", title=title)
    for name in names:
        made.add_column(name, justify="right")
    return made


def row(contest: Contest, report: Report, tokenizer: Tokenizer, ours_s: float | None) -> list[str]:
    encodings = tokenizer.encode_batch_fast(list(report.chunks))
    tokens = sum(min(len(encoding.ids), MAX_TOKENS) for encoding in encodings)
    rankings = {
        question: [contest.passage_ids[name] for name in ranking]
        for question, ranking in zip(contest.questions, report.rankings, strict=True)
    }
    metrics = ranking_metrics(rankings, contest.relevant)
    return [
        f"{report.wall_s:.1f}",
        f"{report.wall_s / ours_s:.2f}" if ours_s else "-",
        f"{report.cpu_s:.1f}",
        f"{len(contest.passage_ids) / report.wall_s:.1f}",
        f"{len(report.chunks)}",
        f"{len(report.chunks) / report.wall_s:.1f}",
        f"{tokens}",
        f"{tokens / report.wall_s:,.0f}",
        f"{report.peak_mib:,.0f}",
        f"{report.load_s:.1f}",
        f"{metrics['hit@1']:.3f}",
        f"{metrics['recall@10']:.3f}",
    ]


def compare(contest: Contest, entrants: list[Entrant], batch: int, scratch: Path) -> list[str]:
    """Prints the table; gives the names of those that failed, whose rows are empty."""
    model = model_folder(scratch)
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    texts = [path.read_text("utf-8") for path in contest.files.iterdir()]
    tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(texts))
    characters = int(CUT_SHORT * CHUNK_TOKENS * contest.characters / tokens)
    job = Job(str(contest.files), contest.questions, str(model), CHUNK_TOKENS, characters, batch)
    documents, questions = len(contest.passage_ids), len(contest.questions)
    shown = table(f"{contest.name}: {documents} documents, {questions} questions")
    ours_s, failed = None, []
    for entrant in entrants:
        try:
            report = run(entrant, job, scratch)
        except subprocess.CalledProcessError:
            failed.append(entrant.name)
            shown.add_row(entrant.name, "failed")
            continue
        ours_s = report.wall_s if entrant.is_ours else ours_s
        cells = row(contest, report, tokenizer, ours_s)
        print(entrant.name, *cells, file=sys.stderr, flush=True)
        shown.add_row(entrant.name, *cells)
    Console(width=160).print(shown)
    return failed


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("sets", type=Path, nargs="+")
    arguments.add_argument("--documents", type=int, help="so many of each set's passages")
    arguments.add_argument("--questions", type=int, default=300)
    arguments.add_argument("--batch", type=int, default=0, help="texts embedded together")
    arguments.add_argument("--only", nargs="*", default=[], help="names of entrants")
    given = arguments.parse_args()
    entrants = [entrant for entrant in ENTRANTS if not given.only or entrant.name in given.only]
    if not (RIVALS / "bin" / "python").exists():
        raise SystemExit("Their environment is not there: make rivals")
    failed = []
    for folder in given.sets:
        with tempfile.TemporaryDirectory(prefix="rivals-") as temporary:
            scratch = Path(temporary)
            contest = prepare(folder, given.documents, given.questions, scratch / "documents")
            failed += compare(contest, entrants, given.batch, scratch)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
