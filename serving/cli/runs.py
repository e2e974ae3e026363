"""`kb runs ...`."""

from typing import Annotated

import typer

from kb.types import Run, RunStatus
from serving.bootstrap import Services
from serving.cli.output import JsonOption, print_json, print_table
from serving.cli.running import run as run_action
from serving.runs import cancel as cancel_run
from serving.runs import is_silent

app = typer.Typer(help="List, look at and cancel runs.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(help="Id of the run, as listed.")]


@app.command("list")
def list_runs(
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Only this collection.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    status: Annotated[RunStatus | None, typer.Option(help="Only this status.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most runs listed.")] = 20,
    json: JsonOption = False,
) -> None:
    """List runs, newest first, with their progress.

    Example: [bold]kb runs list --status running[/]
    """

    async def action(services: Services) -> list[Run]:
        return await services.catalog.runs(
            collection=collection, source_id=source, status=status, limit=limit
        )

    runs = run_action(action)
    if json:
        print_json(runs)
        return
    columns = ["id", "collection", "kind", "status", "started at", "found", "done", "deleted"]
    print_table("Runs", [*columns, "error"], [(*_row(run), run.error) for run in runs])


@app.command()
def show(run_id: IdArgument, json: JsonOption = False) -> None:
    """Show one run: its progress, how it ended, and why.

    Example: [bold]kb runs show 0f3c...[/]
    """

    async def action(services: Services) -> Run:
        return await services.catalog.run(run_id)

    _print(run_action(action), json)


@app.command()
def cancel(run_id: IdArgument, json: JsonOption = False) -> None:
    """Ask a run to end. It does within seconds; what it has finished is kept.

    Example: [bold]kb runs cancel 0f3c...[/]
    """

    async def action(services: Services) -> Run:
        return await cancel_run(run_id, services.catalog)

    _print(run_action(action), json)


def _print(run: Run, as_json: bool) -> None:
    if as_json:
        print_json(run)
        return
    fields = [
        ("id", run.id),
        ("collection", run.collection),
        ("source", run.source_id),
        ("kind", run.kind),
        ("status", _status(run)),
        ("started at", run.started_at),
        ("last heard of", run.beat_at),
        ("finished at", run.finished_at),
        *run.counts.items(),
        ("error", run.error),
    ]
    print_table("Run", ["", ""], fields)


def _row(run: Run) -> tuple[object, ...]:
    counts = run.counts
    done = sum(counts.get(name, 0) for name in ("unchanged", "indexed", "failed"))
    started_at = run.started_at.astimezone().isoformat(" ", "seconds")
    found, deleted = counts.get("found", 0), counts.get("deleted", 0)
    return (run.id, run.collection, run.kind, _status(run), started_at, found, done, deleted)


def _status(run: Run) -> str:
    if run.status is not RunStatus.RUNNING:
        return run.status
    if is_silent(run):
        return "running, but silent: probably killed"
    return "being cancelled" if run.cancel_requested else run.status
