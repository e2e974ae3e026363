"""Measures retrieval and answers on a question set, through the real ingest and search."""

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final, get_args

import orjson

from ingestion.progress import SyncProgress
from kb.ports import ChunkIndex, Embedder
from kb.settings import CatalogSettings, Settings
from kb.types import Candidate
from retrieval.evaluate import answer_f1, auc, exact_match, ranking_metrics
from retrieval.fusion import Mode
from retrieval.search import find_candidates, hits
from serving.answering.answer import Answer, Message, answer
from serving.answering.citations import markers
from serving.bootstrap import Services, open_services
from serving.question_sets import Question, QuestionSet
from serving.searching import bound_search
from serving.sync import ingest_path

COLLECTION: Final = "evaluation"
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
AT_A_TIME: Final = 8
"""Questions searched together; the model answers them one after another all the same."""

Step = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one question found: passage ids by mode, best first, and the hybrid score of the first."""

    rankings: dict[Mode, list[str]]
    top_score: float


def evaluate_set(
    question_set: QuestionSet, settings: Settings, answers: int, progress: SyncProgress, step: Step
) -> dict[str, Any]:
    """Metrics by mode, of answers (for at most `answers` questions that have some), and of refusals.

    Everything is built in a temporary folder that only borrows the model. Raises KBError.
    """
    return asyncio.run(_evaluate(question_set, settings, answers, progress, step))


async def _evaluate(
    question_set: QuestionSet, settings: Settings, answers: int, progress: SyncProgress, step: Step
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="kb-eval-") as folder:
        async with open_services(throw_away(settings, Path(folder) / "data")) as services:
            passage_ids = await asyncio.to_thread(
                write_passages, question_set, Path(folder) / "passages"
            )
            await ingest_path(Path(folder) / "passages", COLLECTION, services, progress)
            originals = await _originals(passage_ids, services)
            question_set = replace(
                question_set,
                relevant={
                    question: frozenset(originals.get(passage, passage) for passage in passages)
                    for question, passages in question_set.relevant.items()
                },
            )
            live = await services.live(COLLECTION)
            searcher = Searcher(services, live.index, live.embedder, passage_ids)
            found = await searcher.find_all(question_set.questions, "questions", step)
            unanswerable = await searcher.find_all(
                question_set.unanswerable, "unanswerable questions", step
            )
            answered = await _answers(question_set, services, answers, step)
            refused = await _refusals(question_set.unanswerable, services, answers, step)
    return {
        "set": question_set.name,
        "passages": len(question_set.passages),
        "questions": len(question_set.questions),
        **{mode: _metrics(mode, found, question_set) for mode in MODES},
        "answers": answered,
        "no_answer": _no_answer(found.values(), unanswerable.values()) | refused,
    }


def throw_away(settings: Settings, folder: Path) -> Settings:
    """The same settings over an empty data folder; the model is borrowed by a link."""
    models = settings.data_dir.resolve() / "models"
    models.mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    (folder / "models").symlink_to(models, target_is_directory=True)
    return settings.model_copy(update={"data_dir": folder, "catalog": CatalogSettings()})


def write_passages(question_set: QuestionSet, folder: Path) -> dict[str, str]:
    """One Markdown file a passage, its title in the front matter. Gives passage ids by URI."""
    folder.mkdir()
    passage_ids = {}
    for number, passage in enumerate(question_set.passages):
        path = folder / f"{number:07}.md"
        title = orjson.dumps(passage.title).decode()  # A JSON string is a YAML string.
        path.write_text(f"---\ntitle: {title}\n---\n\n{passage.text}\n", "utf-8")
        passage_ids[path.resolve().as_uri()] = passage.id
    return passage_ids


async def _originals(passage_ids: dict[str, str], services: Services) -> dict[str, str]:
    """For each passage whose text is indexed as another's, that one: it is found in its place."""
    documents = {d.id: d for d in await services.catalog.documents(collection=COLLECTION)}
    return {
        passage_ids[document.uri]: passage_ids[documents[document.duplicate_of].uri]
        for document in documents.values()
        if document.duplicate_of
    }


class Searcher:
    """Asks the index as `retrieval.search` does, and ranks the same candidates in each mode."""

    def __init__(
        self,
        services: Services,
        index: ChunkIndex,
        embedder: Embedder,
        passage_ids: dict[str, str],
    ) -> None:
        self._index = index
        self._embedder = embedder
        self._passage_ids = passage_ids
        self._candidates = services.settings.search.candidates

    async def find_all(
        self, questions: Sequence[Question], what: str, step: Step
    ) -> dict[str, Found]:
        found: dict[str, Found] = {}
        for start in range(0, len(questions), AT_A_TIME):
            asked = questions[start : start + AT_A_TIME]
            results = await asyncio.gather(*(self._find(question) for question in asked))
            found.update(zip((question.id for question in asked), results, strict=True))
            step(what, len(found), len(questions))
        return found

    async def _find(self, question: Question) -> Found:
        candidates = await find_candidates(
            question.text, index=self._index, embedder=self._embedder, limit=self._candidates
        )
        best = hits(question.text, candidates, collection=COLLECTION, limit=1)
        return Found(
            rankings={mode: self._ranking(question, candidates, mode) for mode in MODES},
            top_score=best[0].score if best else 0.0,
        )

    def _ranking(self, question: Question, candidates: list[Candidate], mode: Mode) -> list[str]:
        """Passages in the order of their best chunk."""
        ranked = hits(
            question.text, candidates, collection=COLLECTION, limit=len(candidates) or 1, mode=mode
        )
        return list(dict.fromkeys(self._passage_ids[hit.uri] for hit in ranked))


def _metrics(mode: Mode, found: dict[str, Found], question_set: QuestionSet) -> dict[str, float]:
    rankings = {question: result.rankings[mode] for question, result in found.items()}
    relevant = {question: question_set.relevant[question] for question in rankings}
    return ranking_metrics(rankings, relevant) if relevant else {}


async def _ask(question: Question, services: Services) -> Answer:
    live = await services.live(COLLECTION)
    return await answer(
        [Message("user", question.text)],
        search=bound_search(live, services),
        embedder=live.embedder,
        answering=services.answering(),
    )


async def _answers(
    question_set: QuestionSet, services: Services, most: int, step: Step
) -> dict[str, float]:
    """EM and F1 (SQuAD's) of the whole answer, whether it holds a gold answer, and refusals."""
    with_answers = [question for question in question_set.questions if question.answers]
    sample = _every_nth(with_answers, most)
    rows = []
    for number, question in enumerate(sample, 1):
        given = await _ask(question, services)
        text = "" if given.refusal else bare_text(given)
        rows.append(
            (
                exact_match(text, question.answers),
                answer_f1(text, question.answers),
                float(any(gold.casefold() in text.casefold() for gold in question.answers)),
                float(given.refusal is not None),
            )
        )
        step("answers", number, len(sample))
    return _means(("em", "f1", "contains_answer", "refused"), rows)


def bare_text(given: Answer) -> str:
    """The answer without its [n]."""
    pieces, position = [], 0
    for mark in markers(given.text, given.citations):
        pieces.append(given.text[position : mark.start])
        position = mark.end
    return "".join([*pieces, given.text[position:]])


async def _refusals(
    unanswerable: Sequence[Question], services: Services, most: int, step: Step
) -> dict[str, float]:
    sample = _every_nth(unanswerable, most)
    rows = []
    for number, question in enumerate(sample, 1):
        rows.append((float((await _ask(question, services)).refusal is not None),))
        step("refusals", number, len(sample))
    return _means(("refused",), rows)


def _no_answer(answerable: Iterable[Found], unanswerable: Iterable[Found]) -> dict[str, float]:
    """How well the best score alone tells questions with an answer from those without."""
    with_answer = [found.top_score for found in answerable]
    without = [found.top_score for found in unanswerable]
    return {"auc": auc(with_answer, without)} if with_answer and without else {}


def _means(names: tuple[str, ...], rows: Sequence[tuple[float, ...]]) -> dict[str, float]:
    if not rows:
        return {}
    means = {
        name: fmean(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    return {"questions": len(rows), **means}


def _every_nth(questions: Sequence[Question], most: int) -> list[Question]:
    count = min(most, len(questions))
    return [questions[len(questions) * i // count] for i in range(count)]
