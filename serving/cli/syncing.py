"""`kb sync`: what a line of cron calls, and `kb sources sync` too."""

from typing import Annotated, Any

import typer

from ingestion.planning import EngineKind, SyncMode
from serving.bootstrap import Services
from serving.cli.output import JsonOption, print_json, print_table
from serving.cli.progress import shown
from serving.cli.running import run
from serving.sync import SourceResult, request_of, sync_all, wanted_sources

COLUMNS = ("unchanged", "new", "changed", "moved", "deleted", "failed", "embedded_chunks")

ModeOption = Annotated[
    SyncMode,
    typer.Option(
        help="incremental: files whose size and time are as before are not read; full: all are; "
        "retry: only documents that failed."
    ),
]
ConfirmOption = Annotated[
    bool, typer.Option("--confirm-deletes", help="Delete what is gone, however much it is.")
]
EngineOption = Annotated[
    EngineKind,
    typer.Option(
        help="in-process: here; spark: on the cluster that spark.master names (extra \\[spark], "
        "Java 17, Elasticsearch)."
    ),
]


def register(app: typer.Typer) -> None:
    app.command()(sync)


def sync(
    mode: ModeOption = SyncMode.INCREMENTAL,
    source: Annotated[str | None, typer.Option(help="Id of the only source.")] = None,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Only this collection.")
    ] = None,
    confirm_deletes: ConfirmOption = False,
    engine: EngineOption = EngineKind.IN_PROCESS,
    json: JsonOption = False,
) -> None:
    """Make the index hold what the sources hold now.

    Fit for a line of cron: one source that fails does not keep the others from theirs, documents that
    can't be read are no failure, and a source that another process is just synchronising is passed
    over. Exit status 1 when a source could not be synchronised.

    Example: [bold]0 2 * * * kb sync --json >> /var/log/kb-sync.log[/]
    """
    sync_and_report(mode, source, collection, confirm_deletes, engine, json)


def sync_and_report(
    mode: SyncMode,
    source: str | None,
    collection: str | None,
    confirm: bool,
    engine: EngineKind,
    as_json: bool,
) -> None:
    async def action(services: Services) -> list[SourceResult]:
        records = await wanted_sources(services, source, collection)
        request = request_of(services, mode, confirm_deletes=confirm, engine=engine)
        return await sync_all(records, services, request, lambda p: shown(p, quiet=as_json))

    results = run(action)
    if as_json:
        print_json([_as_json(result) for result in results])
    else:
        rows = [_row(result) for result in results]
        print_table("Synchronised", ["source", "ended", *COLUMNS, "error"], rows)
    if any(result.failed for result in results):
        raise typer.Exit(1)


def _row(result: SourceResult) -> tuple[object, ...]:
    counts = result.progress.counts()
    message = result.error.message if result.error else None
    return (result.source.root, _ended(result), *(counts[name] for name in COLUMNS), message)


def _as_json(result: SourceResult) -> dict[str, Any]:
    return {
        "source_id": result.source.id,
        "collection": result.source.collection,
        "root": result.source.root,
        "run_id": result.run.id if result.run else None,
        "status": _ended(result),
        "counts": result.progress.counts(),
        "error": {"code": result.error.code, "message": result.error.message}
        if result.error
        else None,
    }


def _ended(result: SourceResult) -> str:
    if result.failed:
        return "failed"
    return "busy" if result.error else "done"
