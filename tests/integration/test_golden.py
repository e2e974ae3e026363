"""Golden questions: what counts as right, when they are asked, and what an index that forgot is kept from."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import prometheus_client
import pytest

from ingestion.progress import SyncProgress
from ingestion.sources import folder_record
from kb.errors import BackendError, ConfigError, NotFoundError
from kb.feedback import Feedback, Rating
from kb.ports import Embedder
from kb.settings import EmbedderSettings, EvaluationSettings, Settings
from kb.types import Document, RunStatus, Vectors
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.generations import CopyProgress
from serving.bootstrap import Services, open_services
from serving.gauges import refresh
from serving.golden import EVALUATION, TooLittleAccuracy, evaluate, golden_set
from serving.jobs import sync_sources
from serving.queued_work import work_of
from serving.reindexing import reindex
from serving.run_queue import queued_run
from serving.sources import add_source
from serving.sync import ingest_path

pytestmark = pytest.mark.slow

FORGETFUL = EmbedderSettings(kind="sentence-transformers", model="forgetful")


class Egrets(HashingEmbedder):
    """Knows what an egret is like, or takes it for a stone: no document has the word."""

    like = "bird wades deep ponds"

    async def queries(self, texts: Sequence[str]) -> Vectors:
        return await super().queries([text.replace("egret", self.like) for text in texts])


class Stones(Egrets):
    like = "stone lies quarry"


async def model(settings: Settings) -> Embedder:
    if settings.embedder.model:
        return Stones(settings.data_dir / "models", 96)
    return Egrets(settings.data_dir / "models")


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "鸟 1.md").write_text("A bird wades in deep ponds.", "utf-8")
    for number in range(40):
        (docs / f"{number}.md").write_text(f"The stone stone{number} lies in a quarry.", "utf-8")
    (tmp_path / "golden").mkdir()
    evaluation = EvaluationSettings(folder=tmp_path / "golden")
    settings = Settings(data_dir=tmp_path / "data", evaluation=evaluation)
    async with open_services(settings, model) as opened:
        await ingest_path(docs, "default", opened, SyncProgress())
        yield opened


def write_golden(services: Services, *lines: object) -> None:
    folder = services.settings.evaluation.folder
    assert folder
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / "default.jsonl").write_text(f"{text}\n\n", "utf-8")


async def bird(services: Services) -> Document:
    documents = await services.catalog.documents(collection="default")
    return next(
        document for document in documents if document.uri.endswith("1.md") and "%" in document.uri
    )


BIRD = {"question": "egret", "documents": ["鸟 1.md"]}
STONE = {"question": "Where is stone3?", "documents": ["docs/3.md", "gone.md"]}
LOST = {"question": "Where is stone4?", "documents": ["gone.md"]}
UNKNOWN = {"question": "Who built zeppelins in 1900?", "documents": []}


async def test_right_are_questions_with_one_of_their_documents_or_a_refusal(
    services: Services,
) -> None:
    assert await evaluate("default", services) is None
    write_golden(services, BIRD, STONE, LOST, UNKNOWN)
    accuracy = await evaluate("default", services)
    assert accuracy
    assert (accuracy.questions, accuracy.right) == (4, 3)
    assert accuracy.missed == [LOST["question"]]
    (run,) = await services.catalog.runs(kinds=(EVALUATION,))
    assert (run.status, run.counts) == (RunStatus.DONE, {"questions": 4, "right": 3})
    await refresh(services)
    sample = prometheus_client.REGISTRY.get_sample_value
    assert sample("kb_evaluation_accuracy", {"collection": "default"}) == 0.75
    assert sample("kb_evaluation_questions", {"collection": "default"}) == 4


async def test_good_answers_are_golden_and_the_file_has_the_last_word(services: Services) -> None:
    rated = Feedback(
        answer_id="a1",
        given_by="",
        collection="default",
        question=str(STONE["question"]),
        answer="In quarry3.",
        rating=Rating.UP,
        comment="",
        cited=((await bird(services)).id,),
        created_at=datetime.now(UTC),
    )
    for each in (
        rated,
        replace(rated, answer_id="a2", question="bad", rating=Rating.DOWN),
        replace(rated, answer_id="a3", question="a refusal", cited=()),
    ):
        await services.catalog.feedback.save(each)
    (question,) = await golden_set("default", services)
    assert question.documents == rated.cited
    accuracy = await evaluate("default", services)
    assert accuracy
    assert accuracy.missed == [STONE["question"]]
    write_golden(services, STONE)
    accuracy = await evaluate("default", services)
    assert accuracy
    assert accuracy.missed == []


async def test_an_index_that_forgot_does_not_go_live(services: Services) -> None:
    before = await services.catalog.live_generation("default")
    write_golden(services, BIRD, STONE)
    with pytest.raises(
        TooLittleAccuracy, match="1 of 2 golden questions rightly, the live index 2"
    ):
        await reindex("default", services, CopyProgress(), FORGETFUL)
    assert await services.catalog.live_generation("default") == before
    write_golden(services, STONE)
    progress = CopyProgress()
    live = await reindex("default", services, progress, FORGETFUL)
    assert live.schema.dimensions == 96
    assert progress.embedded == 0, "what was built is kept"


async def test_as_much_less_as_is_allowed_goes_live(services: Services) -> None:
    """Of ten questions the live index answers eight, the new one seven."""
    stones = [
        STONE | {"question": f"Where is stone{n}?", "documents": [f"{n}.md"]} for n in range(7)
    ]
    lost = [LOST | {"question": f"Where is the lost stone{n}?"} for n in range(2)]
    write_golden(services, BIRD, *stones, *lost)
    accuracy = await evaluate("default", services)
    assert accuracy
    assert accuracy.share == 0.8
    assert (await reindex("default", services, CopyProgress(), FORGETFUL)).live


async def test_a_broken_golden_set_keeps_no_other_from_being_asked(
    services: Services, tmp_path: Path
) -> None:
    await ingest_path(tmp_path / "docs", "zoo", services, SyncProgress())
    folder = services.settings.evaluation.folder
    assert folder
    (folder / "default.jsonl").write_text("{")
    (folder / "zoo.jsonl").write_text(json.dumps(STONE))
    with pytest.raises(BackendError, match=r"golden questions of default: .*line 1"):
        await sync_sources(services)
    (run,) = await services.catalog.runs(kinds=(EVALUATION,))
    assert (run.collection, run.status) == ("zoo", RunStatus.DONE)


async def test_less_than_the_wanted_share_does_not_go_live(services: Services) -> None:
    strict = services.settings.evaluation.model_copy(update={"min_accuracy": 0.6})
    services.settings = services.settings.model_copy(update={"evaluation": strict})
    write_golden(services, STONE, LOST)
    with pytest.raises(TooLittleAccuracy, match="at least 60% are wanted"):
        await reindex("default", services, CopyProgress())


async def test_after_a_sync_by_the_worker_and_out_of_the_queue(
    services: Services, tmp_path: Path
) -> None:
    write_golden(services, STONE)
    await add_source(folder_record("default", tmp_path / "docs"), services)
    await sync_sources(services)
    (run,) = await services.catalog.runs(kinds=(EVALUATION,))
    assert run.counts == {"questions": 1, "right": 1}
    work, counts = work_of(queued_run(EVALUATION, "default"), services)
    await work
    assert counts() == run.counts
    write_golden(services)
    work, _ = work_of(queued_run(EVALUATION, "default"), services)
    with pytest.raises(NotFoundError, match="no golden questions"):
        await work


@pytest.mark.parametrize(
    "line",
    [
        "{",
        '{"question": " ", "documents": []}',
        '{"question": "x"}',
        '{"question": "x", "documents": [1]}',
    ],
)
async def test_a_line_that_is_no_question(services: Services, line: str) -> None:
    folder = services.settings.evaluation.folder
    assert folder
    (folder / "default.jsonl").write_text(f"{json.dumps(STONE)}\n{line}\n")
    with pytest.raises(ConfigError, match=r"default\.jsonl, line 2"):
        await evaluate("default", services)
