"""What the worker does, and when: the settings' cron lines as jobs over the services."""

import re
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from apscheduler.triggers.cron import CronTrigger
from tzlocal import get_localzone

from ingestion.planning import PASSING, SyncMode
from kb.errors import BackendError, ConfigError, KBError
from kb.types import DocumentStatus, RunStatus, SourceRecord
from retrieval.generations import CopyProgress
from serving.backup.making import create
from serving.backup.making import prune as prune_backups
from serving.backup.restoring import check
from serving.bootstrap import Services
from serving.golden import evaluate
from serving.reindexing import BeingReindexed, prune_earlier
from serving.runs import is_silent
from serving.sync import request_of, sync_all, wanted_sources
from serving.worker import Job, Worker

SCHEDULE_FILE = "schedule.db"
CRON_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""cron counts days from Sunday; APScheduler 3 would from Monday."""

log = structlog.get_logger(__name__)


def open_worker(services: Services) -> Worker:
    """A worker by the settings. Raises ConfigError for a time that can't be read."""
    settings = services.settings
    zone = zone_of(settings.worker.timezone)
    plan: list[tuple[str, str, Callable[[Services], Awaitable[None]]]] = [
        ("sync", settings.worker.sync, sync_sources),
        ("retry", settings.worker.retry, retry_documents),
        ("prune", settings.worker.prune, prune),
        ("backup", settings.worker.backup if settings.backup.folder else "", back_up),
        ("health", settings.worker.health, log_health),
    ]
    jobs = [
        Job(
            name,
            cron_trigger(line, zone),
            f"{name} at {line} {zone}",
            partial(act, services),
        )
        for name, line, act in plan
        if line
    ]
    schedule = settings.data_dir / SCHEDULE_FILE
    return Worker(jobs, services.catalog, schedule, zone, settings.worker.lease_s)


def zone_of(name: str) -> tzinfo:
    """The zone of that name, or the machine's. Raises ConfigError."""
    if not name:
        return get_localzone()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(
            f"worker.timezone: {name!r} is no time zone. Write one such as Europe/Berlin or UTC."
        ) from error


def cron_trigger(line: str, zone: tzinfo) -> CronTrigger:
    """As cron reads it: five fields, Sunday is 0 or 7. Raises ConfigError."""
    fields = line.split()
    try:
        if len(fields) != 5:
            raise ValueError(f"it has {len(fields)} fields, not 5")
        fields[4] = re.sub(r"(?<![/\d])\d+", lambda day: CRON_DAYS[int(day[0])], fields[4])
        return CronTrigger.from_crontab(" ".join(fields), timezone=zone)
    except (ValueError, IndexError) as error:
        raise ConfigError(
            f"{line!r} is no time as cron knows it ({error}). Write minute, hour, day, month and day of "
            "the week, such as '0 2 * * *' for every night at two."
        ) from error


async def sync_sources(services: Services) -> None:
    """All sources, one after another, then the golden questions, whatever became of the sources.

    Raises BackendError when a source could not be synchronised, or a golden set not be asked.
    """
    failed = await _sync(await wanted_sources(services), services, SyncMode.INCREMENTAL)
    _raise([*failed, *await _ask_golden_questions(services)])


async def _ask_golden_questions(services: Services) -> list[str]:
    """Of every collection; gives what went wrong."""
    failed = []
    for collection in await services.catalog.collections():
        if await services.catalog.live_generation(collection.name) is None:
            continue
        try:
            accuracy = await evaluate(collection.name, services)
        except KBError as error:
            failed.append(f"The golden questions of {collection.name}: {error.message}")
            continue
        if accuracy:
            log.info(
                "evaluated",
                collection=collection.name,
                accuracy=round(accuracy.share, 3),
                questions=accuracy.questions,
            )
    return failed


async def retry_documents(services: Services) -> None:
    """Documents whose reading failed for a reason that may have passed."""
    failed = await services.catalog.documents(status=DocumentStatus.FAILED)
    sources = {document.source_id for document in failed if document.error_category in PASSING}
    records = [record for record in await wanted_sources(services) if record.id in sources]
    _raise(await _sync(records, services, SyncMode.RETRY))


async def _sync(records: list[SourceRecord], services: Services, mode: SyncMode) -> list[str]:
    """Gives what went wrong."""
    results = await sync_all(records, services, request_of(services, mode))
    failed = [f"{r.source.root}: {r.error.message}" for r in results if r.error and r.failed]
    return [f"{len(failed)} of {len(records)} sources failed.", *failed] if failed else []


def _raise(failed: list[str]) -> None:
    if failed:
        raise BackendError(" ".join(failed))


async def prune(services: Services) -> None:
    """Index generations before the one to go back to, and the oldest runs."""
    for collection in await services.catalog.collections():
        if await services.catalog.live_generation(collection.name) is None:
            continue
        try:
            dropped = await prune_earlier(collection.name, services)
        except BeingReindexed as error:
            log.info("not_pruned", reason=error.message)
            continue
        log.info("pruned", collection=collection.name, dropped=[g.index_name for g in dropped])
    age = timedelta(days=services.settings.worker.keep_runs_days)
    await services.catalog.forget_finished(datetime.now(UTC) - age)


async def back_up(services: Services) -> None:
    """A backup is made and read again before older ones give way to it."""
    section = services.settings.backup
    assert section.folder is not None
    made = await create(section.folder, services, CopyProgress())
    await check(section.folder / made.name, services)
    dropped = await prune_backups(section.folder, section.keep, services)
    log.info("backed_up", name=made.name, size=made.size, dropped=dropped)


async def log_health(services: Services) -> None:
    """Figures for whoever watches the log: documents by status, runs, problems of the store, disk."""
    for collection in await services.catalog.collections():
        documents = {f"documents_{status}": n for status, n in collection.documents.items()}
        last = await services.catalog.runs(collection=collection.name, limit=1)
        log.info(
            "health_of_collection",
            collection=collection.name,
            chunks=collection.chunks,
            last_run=last[0].status if last else None,
            last_run_started_at=last[0].started_at.isoformat() if last else None,
            **documents,
        )
    running = await services.catalog.runs(status=RunStatus.RUNNING)
    log.info(
        "health",
        runs_running=len(running),
        runs_silent=sum(map(is_silent, running)),
        disk_free_mb=shutil.disk_usage(services.settings.data_dir).free >> 20,
        problems=await services.store.problems(),
    )
