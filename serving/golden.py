"""A collection's golden set: questions of its own users, and the documents that answer them.

Asked of the live index after every sync, and of a new one before it goes live. From the file
`evaluation.folder`/<collection>.jsonl, and from answers that readers found good: docs/evaluation.md.
"""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import orjson
import structlog

from kb.errors import ConfigError, NotFoundError
from kb.feedback import Rating
from kb.types import Document, Run, RunStatus
from serving.answering.answer import Message, answer
from serving.bootstrap import Services
from serving.parts import Live
from serving.runs import carried_out
from serving.searching import bound_search

EVALUATION: Final = "evaluation"
"""The kind of its runs."""
FIRST: Final = 5
"""A question is answered rightly when one of its documents is among so many passages found."""
ROUNDING: Final = 1e-9
"""0.8 - 0.1 is a little more than 0.7."""
MOST_RATED: Final = 500
"""Of the answers that readers found good, the newest."""

log = structlog.get_logger(__name__)


class TooLittleAccuracy(ConfigError):
    """A new index answers fewer of the golden questions than the settings allow."""

    code = "too_little_accuracy"


@dataclass(frozen=True, slots=True)
class GoldenQuestion:
    """`documents` are ids, URIs, or the ends of URIs (`leave.md`). None: it must be refused.

    `found_as`: the ids that the index holds their texts under; none of a document that is gone.
    """

    text: str
    documents: tuple[str, ...]
    found_as: frozenset[str] = frozenset()


@dataclass(slots=True)
class Accuracy:
    """Of the questions asked so far; `missed` are those that were not answered rightly."""

    questions: int = 0
    right: int = 0
    missed: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of right answers, 0 to 1; 1 without questions."""
        return self.right / self.questions if self.questions else 1.0

    def counts(self) -> dict[str, int]:
        return {"questions": self.questions, "right": self.right}


async def golden_set(collection: str, services: Services) -> list[GoldenQuestion]:
    """Each question once; the file's word counts before a reader's. Raises ConfigError."""
    settings = services.settings.evaluation
    questions: dict[str, GoldenQuestion] = {}
    if settings.feedback:
        for rated in await services.catalog.feedback.list(collection, Rating.UP, MOST_RATED):
            if rated.cited:
                questions[rated.question] = GoldenQuestion(rated.question, rated.cited)
    if settings.folder is not None:
        path = settings.folder / f"{collection}.jsonl"
        for question in await asyncio.to_thread(lambda: list(_read(path))):
            questions[question.text] = question
    return await _with_ids(list(questions.values()), collection, services)


async def measure(
    questions: Sequence[GoldenQuestion], live: Live, services: Services, accuracy: Accuracy
) -> None:
    """Asks the index of `live`, live or not, with an administrator's eyes; counts into `accuracy`."""
    for question in questions:
        is_right = _is_found if question.documents else _is_refused
        right = await is_right(question, live, services)
        accuracy.questions += 1
        accuracy.right += right
        if not right:
            accuracy.missed.append(question.text)


async def evaluate(collection: str, services: Services) -> Accuracy | None:
    """Of the live index, kept as a run; None without golden questions. Raises ConfigError, BackendError."""
    questions = await golden_set(collection, services)
    if not questions:
        return None
    accuracy = Accuracy()
    live = await services.live(collection)
    run = Run(uuid.uuid4().hex, collection, None, EVALUATION, RunStatus.RUNNING, datetime.now(UTC))
    await services.catalog.start_run(run)
    work = measure(questions, live, services, accuracy)
    await carried_out(work, run, accuracy.counts, services.catalog)
    return accuracy


async def measure_live(collection: str, services: Services, accuracy: Accuracy) -> None:
    """Counts into `accuracy`. Raises NotFoundError without golden questions, ConfigError, BackendError."""
    questions = await golden_set(collection, services)
    if not questions:
        raise NotFoundError(
            f"There are no golden questions for {collection}: see docs/evaluation.md."
        )
    await measure(questions, await services.live(collection), services, accuracy)


async def check_before_switch(new: Live, live: Live, services: Services) -> None:
    """Raises TooLittleAccuracy where the new index falls short of what the settings ask for."""
    collection = new.generation.collection
    questions = await golden_set(collection, services)
    if not questions:
        return
    now, then = Accuracy(), Accuracy()
    await measure(questions, live, services, now)
    await measure(questions, new, services, then)
    log.info(
        "evaluated_before_switch",
        collection=collection,
        index=new.generation.index_name,
        accuracy=then.share,
        live_accuracy=now.share,
        questions=then.questions,
    )
    settings = services.settings.evaluation
    wanted = max(settings.min_accuracy, now.share - settings.max_drop)
    if then.share < wanted - ROUNDING:
        raise TooLittleAccuracy(
            f"{new.generation.index_name} answers {then.right} of {then.questions} golden questions rightly, "
            f"the live index {now.right}; at least {wanted:.0%} are wanted, so it was not made live. "
            "See docs/evaluation.md, or allow it with KB_EVALUATION__MIN_ACCURACY and "
            "KB_EVALUATION__MAX_DROP."
        )


async def _with_ids(
    questions: Sequence[GoldenQuestion], collection: str, services: Services
) -> list[GoldenQuestion]:
    ids: dict[str, set[str]] = {name: set() for each in questions for name in each.documents}
    for source in await services.catalog.sources(collection):
        async for document in services.catalog.document_stream(source.id):
            for name in _names(document):
                if name in ids:
                    ids[name].add(document.indexed_as)
    return [
        replace(each, found_as=frozenset(chain.from_iterable(ids[name] for name in each.documents)))
        for each in questions
    ]


def _names(document: Document) -> Iterator[str]:
    yield document.id
    yield document.uri
    parts = unquote(document.uri).split("/")
    for start in range(1, len(parts)):
        yield "/".join(parts[start:])


async def _is_found(question: GoldenQuestion, live: Live, services: Services) -> bool:
    hits = await bound_search(live, services, limit=FIRST)(question.text)
    return any(hit.chunk.document_id in question.found_as for hit in hits)


async def _is_refused(question: GoldenQuestion, live: Live, services: Services) -> bool:
    given = await answer(
        [Message("user", question.text)],
        search=bound_search(live, services),
        embedder=live.embedder,
        answering=services.answering(),
    )
    return given.refusal is not None


def _read(path: Path) -> Iterator[GoldenQuestion]:
    """No file: no questions. Raises ConfigError naming the line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}.") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _question(line, f"{path}, line {number}")


def _question(line: str, place: str) -> GoldenQuestion:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{place} is not JSON: {error}.") from error
    match row:
        case {"question": str(text), "documents": list(names)} if text.strip() and all(
            isinstance(name, str) for name in names
        ):
            return GoldenQuestion(text, tuple(names))
    raise ConfigError(
        f'{place}: write {{"question": "...", "documents": ["leave.md"]}}; an empty list where the '
        "documents hold no answer."
    )
