"""`kb serve` and `kb up`."""

import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from ingestion.progress import SyncProgress
from kb.errors import ConfigError
from kb.settings import load_settings
from kb.types import DocumentStatus
from serving.bootstrap import DEFAULT_COLLECTION, Services
from serving.cli.ingestion import MOST_FAILURES_SHOWN, report
from serving.cli.output import console
from serving.cli.progress import shown
from serving.cli.running import run
from serving.jobs import open_worker
from serving.server import listen, serve_api
from serving.server_address import is_loopback
from serving.sync import ingest_path
from serving.worker import working


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(serve)


def up(
    docs: Annotated[
        Path | None, typer.Option(help="Folder or file to index first; else the examples, once.")
    ] = None,
) -> None:
    """Index documents, then serve and keep the index up to date: everything in one command.

    Without --docs the examples are indexed where there is nothing yet. A worker runs in the same
    process: sources are synchronised every night (settings worker.*).

    Example: [bold]kb up --docs ~/Documents[/]
    """

    async def action(services: Services, open_socket: socket.socket) -> None:
        path = docs or (examples_folder() if await _is_empty(services) else None)
        if path:
            progress = SyncProgress()
            with shown(progress):
                await ingest_path(path, DEFAULT_COLLECTION, services, progress)
            failures = await services.catalog.documents(
                collection=DEFAULT_COLLECTION,
                status=DocumentStatus.FAILED,
                limit=MOST_FAILURES_SHOWN,
            )
            report(progress, failures, as_json=False)
        async with AsyncExitStack() as beside:
            if services.settings.worker.in_process:
                await beside.enter_async_context(working(open_worker(services)))
            await serve_api(services, open_socket, print_addresses)

    _run_server(action)


def serve() -> None:
    """Serve the API and the page for what is indexed.

    Example: [bold]KB_SERVER__PORT=9000 kb serve[/]
    """

    async def action(services: Services, open_socket: socket.socket) -> None:
        await services.ensure_collection(DEFAULT_COLLECTION)
        await serve_api(services, open_socket, print_addresses)

    _run_server(action)


def print_addresses(url: str) -> None:
    """Said once the server listens: where to look, and a line to try."""
    body = '{"model": "kb", "messages": [{"role": "user", "content": "How many days of annual leave do I get?"}]}'
    console.print(f"\n[bold]Page[/]      {url}/")
    console.print(
        f"[bold]Endpoint[/]  {url}/v1   (OpenAI API; model: kb; any key until you make one)"
    )
    console.print("[bold]Try[/]")
    typer.echo(
        f"curl -s {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'\n"
    )


def examples_folder() -> Path:
    """Beside the packages in a checkout, within them when installed."""
    here = Path(__file__).resolve().parents[1]
    for folder in (here.parent / "examples", here / "examples"):
        if folder.is_dir():
            return folder
    raise ConfigError("The examples are missing from this installation: give --docs FOLDER.")


async def _is_empty(services: Services) -> bool:
    return not await services.catalog.documents(limit=1)


def _run_server(action: Callable[[Services, socket.socket], Awaitable[None]]) -> None:
    settings = load_settings()
    local = is_loopback(settings.server.host)
    keys_exist = not local and run(lambda services: services.catalog.keys.exist(), settings)
    with listen(settings.server, keys_exist=keys_exist) as open_socket:
        run(lambda services: action(services, open_socket), settings, log_level=settings.log.level)
