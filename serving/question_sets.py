"""Question sets in the layout of BEIR (Thakur et al., 2021): corpus.jsonl, queries.jsonl, qrels.tsv.

Two additions: a question may carry `answers`, and `queries_answerable.jsonl` with
`qrels_answerable.tsv` may stand beside a `queries.jsonl` whose questions have no answer.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from kb.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Passage:
    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    id: str
    text: str
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """`relevant` names, for each answerable question, the passages that answer it."""

    name: str
    passages: tuple[Passage, ...]
    questions: tuple[Question, ...]
    relevant: dict[str, frozenset[str]]
    unanswerable: tuple[Question, ...]


def load_question_set(folder: Path, corpus: Path, limit: int | None = None) -> QuestionSet:
    """Reads the questions of `folder` and the passages of `corpus`.

    With a limit, that many answerable (and unanswerable) questions, evenly spread over the set.
    Raises ConfigError naming the file and line that can't be read.
    """
    passages = tuple(
        Passage(str(row["_id"] if "_id" in row else row["id"]), row.get("title", ""), row["text"])
        for row in _rows(corpus / "corpus.jsonl", ("text",))
    )
    relevant = _relevant(folder / "qrels.tsv")
    questions = _questions(folder / "queries.jsonl")
    if (folder / "queries_answerable.jsonl").is_file():
        relevant |= _relevant(folder / "qrels_answerable.tsv")
        questions += _questions(folder / "queries_answerable.jsonl")
    known = {passage.id for passage in passages}
    relevant = {question: ids & known for question, ids in relevant.items() if ids & known}
    name = folder.name if corpus == folder else f"{folder.name} > {corpus.name}"
    return QuestionSet(
        name=name,
        passages=passages,
        questions=_spread([q for q in questions if q.id in relevant], limit),
        relevant=relevant,
        unanswerable=_spread([q for q in questions if q.id not in relevant], limit),
    )


def _questions(path: Path) -> list[Question]:
    """Questions without text, which some sets hold, are left out."""
    return [
        Question(
            str(row["_id"] if "_id" in row else row["id"]),
            row["text"],
            tuple(row.get("answers", ())),
        )
        for row in _rows(path, ("text",))
        if row["text"].strip()
    ]


def _relevant(path: Path) -> dict[str, frozenset[str]]:
    """Judgements above 0; the header line is left out."""
    pairs: dict[str, set[str]] = {}
    with _opened(path) as file:
        for row in list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]:
            if len(row) != 3:
                raise ConfigError(f"{path}: a line has {len(row)} columns instead of 3: {row}")
            if float(row[2]) > 0:
                pairs.setdefault(row[0], set()).add(row[1])
    return {question: frozenset(passages) for question, passages in pairs.items()}


def _rows(path: Path, fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise ConfigError(f"{path}, line {number} is not JSON: {error}") from error
            if (
                not isinstance(row, dict)
                or not {"id", "_id"} & row.keys()
                or not row.keys() >= set(fields)
            ):
                raise ConfigError(f"{path}, line {number}: needs an id and {', '.join(fields)}.")
            yield row


def _opened(path: Path) -> Any:
    try:
        return path.open(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.") from error


def _spread(questions: list[Question], limit: int | None) -> tuple[Question, ...]:
    if limit is None or limit >= len(questions):
        return tuple(questions)
    return tuple(questions[len(questions) * i // limit] for i in range(limit))
