"""`kb worker`."""

import asyncio
import contextlib

import typer

from kb.settings import load_settings
from serving.bootstrap import Services
from serving.cli.output import JsonOption
from serving.cli.running import run
from serving.jobs import open_worker


def register(app: typer.Typer) -> None:
    app.command()(worker)


def worker(json: JsonOption = False) -> None:
    """Keep the index up to date: synchronise every night, retry, prune, log figures of health.

    Times are those of the settings worker.*. What was missed while no worker ran is caught up, once.
    Several workers may run on one catalogue. SIGTERM stops it cleanly; the next one goes on.

    Example: [bold]KB_WORKER__SYNC='0 2 * * *' KB_WORKER__TIMEZONE=Asia/Shanghai kb worker[/]
    """
    settings = load_settings()
    if json:
        settings = settings.model_copy(
            update={"log": settings.log.model_copy(update={"format": "json"})}
        )

    async def action(services: Services) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # Being stopped is how it ends.
            await open_worker(services).run()

    run(action, settings, log_level=settings.log.level)
