"""Figures that are read when they are asked for: of the catalogue, the disk, the models, the backups."""

import asyncio
import shutil

from ingestion.planning import SyncMode
from kb import metrics
from kb.types import Collection, RunStatus
from serving.backup.kept import backups
from serving.bootstrap import Services
from serving.golden import EVALUATION
from serving.queued_work import LANES, UPLOAD

RUNS_LOOKED_AT = 20
"""Of each collection, newest first: among so many there is one that ended well, or something is wrong."""


async def refresh(services: Services) -> None:
    """Sets all gauges. Raises CatalogUnavailable: then there are no figures at all, and `up` is 0."""
    queued = await services.catalog.queued_runs()
    metrics.UPLOADS_WAITING.set(queued.get(UPLOAD, 0))
    for lane, kinds in LANES.items():
        metrics.RUNS_QUEUED.labels(lane).set(sum(queued.get(kind, 0) for kind in kinds))
    _models(services)
    await asyncio.to_thread(_files, services)
    for collection in await services.catalog.collections():
        await _collection(collection, services)
    running = await services.catalog.runs(status=RunStatus.RUNNING)
    metrics.RUNS_RUNNING.set(len(running))


def _models(services: Services) -> None:
    replicas: dict[str, int] = {}
    for guarded in services.answering().ladder.rungs():
        name = guarded.rung.name
        number = replicas[name] = replicas.get(name, 0) + 1
        metrics.BREAKER_OPEN.labels(name, str(number)).set(guarded.breaker.is_open)


def _files(services: Services) -> None:
    disk = shutil.disk_usage(services.settings.data_dir)
    metrics.DISK_FREE.set(disk.free)
    metrics.DISK_SIZE.set(disk.total)
    folder = services.settings.backup.folder
    if folder is not None:
        newest = next(iter(backups(folder)), None)
        metrics.LAST_BACKUP.set(newest.created_at.timestamp() if newest else 0)


async def _collection(collection: Collection, services: Services) -> None:
    name = collection.name
    for status, count in collection.documents.items():
        metrics.DOCUMENTS.labels(name, status).set(count)
    metrics.CHUNKS.labels(name).set(collection.chunks)
    if generation := await services.catalog.live_generation(name):
        metrics.GENERATION.labels(name).set(generation.number)
    ended = [
        run
        for run in await services.catalog.runs(
            collection=name, kinds=tuple(SyncMode), limit=RUNS_LOOKED_AT
        )
        if run.finished_at
    ]
    for outcome, count in ended[0].counts.items() if ended else ():
        metrics.LAST_RUN.labels(name, outcome).set(count)
    good = next((run.finished_at for run in ended if run.status is RunStatus.DONE), None)
    if good is not None:
        metrics.LAST_SYNC.labels(name).set(good.timestamp())
    evaluations = await services.catalog.runs(
        collection=name, kinds=(EVALUATION,), status=RunStatus.DONE, limit=1
    )
    for run in evaluations:
        metrics.GOLDEN_QUESTIONS.labels(name).set(run.counts["questions"])
        metrics.ACCURACY.labels(name).set(run.counts["right"] / run.counts["questions"])
