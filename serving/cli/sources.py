"""`kb sources ...`."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from ingestion.planning import EngineKind, SyncMode
from kb.types import Run, SourceKind, SourceRecord, Symlinks
from serving.bootstrap import DEFAULT_COLLECTION, Services
from serving.cli.output import CollectionOption, JsonOption, print_json, print_table
from serving.cli.running import run
from serving.cli.syncing import ConfirmOption, EngineOption, ModeOption, sync_and_report
from serving.sources import add_source, new_record, pause_source, remove_source

app = typer.Typer(help="Where documents come from.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(help="Id of the source, as listed.")]


@app.command()
def add(
    path: Annotated[
        Path | None, typer.Argument(help="The folder, or the file with the list of files.")
    ] = None,
    kind: Annotated[SourceKind, typer.Option(help="What the source is.")] = SourceKind.FOLDER,
    collection: CollectionOption = DEFAULT_COLLECTION,
    include: Annotated[
        list[str] | None, typer.Option(help="Only files like this, as in .gitignore. Repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No files or folders like this. Repeatable.")
    ] = None,
    max_file_mb: Annotated[
        int | None, typer.Option(min=1, help="Leave out files larger than this (MiB).")
    ] = None,
    symlinks: Annotated[
        Symlinks, typer.Option(help="Symbolic links: none, those to files inside, or all.")
    ] = Symlinks.INSIDE,
    group: Annotated[
        list[str] | None, typer.Option(help="Only this group may read it. Repeatable.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Add a source, or set one anew that is there. The next sync reads it.

    Example: [bold]kb sources add ~/Documents --include '*.pdf' --exclude drafts/ --group hr[/]
    """

    async def action(services: Services) -> SourceRecord:
        record = new_record(kind, path, collection, services)
        chosen = replace(
            record,
            groups=tuple(group or ()),
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
            max_file_mb=max_file_mb,
            symlinks=symlinks,
        )
        return await add_source(chosen, services)

    record = run(action)
    if json:
        print_json(record)
    else:
        typer.echo(f"Added {record.root} as {record.id}. Index it: kb sync --source {record.id}")


@app.command("list")
def list_sources(
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Only this collection.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the sources.

    Example: [bold]kb sources list --collection handbook[/]
    """

    async def action(services: Services) -> list[SourceRecord]:
        return await services.catalog.sources(collection)

    records = run(action)
    if json:
        print_json(records)
        return
    rows = [
        (r.id, r.collection, r.kind, "paused" if r.paused else "", ", ".join(r.groups), r.root)
        for r in records
    ]
    print_table("Sources", ["id", "collection", "kind", "", "groups", "where"], rows)


@app.command()
def show(source_id: IdArgument, json: JsonOption = False) -> None:
    """Show one source: what is read of it, and its last run.

    Example: [bold]kb sources show 0f3c...[/]
    """

    async def action(services: Services) -> tuple[SourceRecord, list[Run]]:
        record = await services.catalog.source(source_id)
        return record, await services.catalog.runs(source_id=source_id, limit=1)

    record, runs = run(action)
    last = runs[0] if runs else None
    if json:
        print_json({**asdict(record), "last_run": last})
        return
    fields = [
        *(
            (name, ", ".join(v) if isinstance(v, tuple) else v)
            for name, v in asdict(record).items()
        ),
        ("last run", last and f"{last.id}: {last.status}, {last.started_at}"),
        *(last.counts.items() if last else ()),
    ]
    print_table("Source", ["", ""], fields)


@app.command()
def pause(source_id: IdArgument, json: JsonOption = False) -> None:
    """Leave a source as it is: syncs pass it over until it is resumed.

    Example: [bold]kb sources pause 0f3c...[/]
    """
    _set_paused(source_id, True, json)


@app.command()
def resume(source_id: IdArgument, json: JsonOption = False) -> None:
    """Synchronise a paused source again, from the next sync on.

    Example: [bold]kb sources resume 0f3c...[/]
    """
    _set_paused(source_id, False, json)


def _set_paused(source_id: str, paused: bool, as_json: bool) -> None:
    async def action(services: Services) -> SourceRecord:
        return await pause_source(source_id, paused, services)

    record = run(action)
    if as_json:
        print_json(record)
    else:
        typer.echo(f"{record.root} is {'paused' if paused else 'synchronised again'}.")


@app.command()
def remove(
    source_id: IdArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Take a source and its documents out of the index. Its files stay, but for uploads.

    Example: [bold]kb sources remove 0f3c... --yes[/]
    """

    async def found(services: Services) -> SourceRecord:
        return await services.catalog.source(source_id)

    record = run(found)
    what = "and delete its files" if record.kind is SourceKind.UPLOAD else "(files stay)"
    if not yes:
        typer.confirm(f"Take {record.root} out of the index {what}?", abort=True)

    async def action(services: Services) -> int:
        return await remove_source(record, services)

    number = run(action)
    if json:
        print_json({"id": source_id, "deleted_documents": number})
    else:
        typer.echo(f"Removed {record.root} and its {number} documents.")


@app.command()
def sync(
    source_id: IdArgument,
    mode: ModeOption = SyncMode.INCREMENTAL,
    confirm_deletes: ConfirmOption = False,
    engine: EngineOption = EngineKind.IN_PROCESS,
    json: JsonOption = False,
) -> None:
    """Synchronise one source now.

    Example: [bold]kb sources sync 0f3c...[/]
    """
    sync_and_report(mode, source_id, None, confirm_deletes, engine, json)
