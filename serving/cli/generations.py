"""`kb reindex`, `kb rollback` and `kb generations ...`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kb.types import Generation
from retrieval.generations import CopyProgress
from serving import reindexing
from serving.bootstrap import DEFAULT_COLLECTION, Services
from serving.cli.output import CollectionOption, JsonOption, errors, print_json, print_table
from serving.cli.progress import drawn
from serving.cli.running import run
from serving.parts import BUILT_IN_EMBEDDER, embedder_named

app = typer.Typer(
    help="List and prune the index generations of a collection.", no_args_is_help=True
)


def register(parent: typer.Typer) -> None:
    parent.command()(reindex)
    parent.command()(rollback)
    parent.add_typer(app, name="generations")


def reindex(
    collection: CollectionOption = DEFAULT_COLLECTION,
    embedder: Annotated[
        str,
        typer.Option(
            help=f"{BUILT_IN_EMBEDDER}, or the folder or name of a sentence-transformers model; "
            "without it, the settings' embedder."
        ),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would cost.")
    ] = False,
    throttle: Annotated[
        float | None, typer.Option(min=0.1, help="Most chunks per second, to spare the machine.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Build a collection's index anew beside the live one, then switch to it.

    Searches and ingests go on meanwhile. Stopped half-way, nothing has changed, and the same command
    goes on from there. The former index is kept for [bold]kb rollback[/].

    Example: [bold]kb reindex --collection handbook --embedder intfloat/multilingual-e5-base[/]
    """
    chosen = embedder_named(embedder)

    async def estimated(services: Services) -> reindexing.Estimate:
        return await reindexing.estimate(collection, services, chosen)

    if dry_run:
        cost = run(estimated)
        if json:
            print_json(cost)
        else:
            typer.echo(
                f"{cost.documents} documents, {cost.chunks} chunks, of which {cost.embedded} would be "
                f"embedded in about {cost.seconds:.0f} s; about {cost.disk_mb:.0f} MiB of disk."
            )
        return
    progress = CopyProgress()

    async def action(services: Services) -> Generation:
        with _shown(progress, quiet=json):
            return await reindexing.reindex(collection, services, progress, chosen, throttle)

    generation = run(action)
    if json:
        print_json(
            {
                "collection": collection,
                "generation": generation.number,
                "index": generation.index_name,
                "copied_chunks": progress.copied,
                "embedded_chunks": progress.embedded,
                "missing_documents": len(progress.missing),
            }
        )
        return
    typer.echo(
        f"{generation.index_name} is live: {progress.copied} chunks, {progress.embedded} embedded."
    )
    if progress.missing:
        typer.echo(f"{len(progress.missing)} documents were not in the index: ingest them again.")


def rollback(collection: CollectionOption = DEFAULT_COLLECTION, json: JsonOption = False) -> None:
    """Go back to the index that was live before the last [bold]kb reindex[/].

    What was deleted since stays deleted; what changed since is read again by the next ingest.

    Example: [bold]kb rollback --collection handbook[/]
    """

    async def action(services: Services) -> tuple[Generation, int]:
        return await reindexing.rollback(collection, services)

    generation, changed = run(action)
    if json:
        print_json({"index": generation.index_name, "changed_since": changed})
        return
    typer.echo(f"{generation.index_name} is live again.")
    if changed:
        typer.echo(
            f"{changed} documents changed since then: ingest again to bring them up to date."
        )


@app.command("list")
def list_generations(
    collection: CollectionOption = DEFAULT_COLLECTION, json: JsonOption = False
) -> None:
    """List the index generations of a collection.

    Example: [bold]kb generations list[/]
    """

    async def action(services: Services) -> list[Generation]:
        return await services.catalog.generations(collection)

    generations = run(action)
    if json:
        print_json(generations)
        return
    rows = [
        (g.number, "live" if g.live else "", g.index_name, g.schema.fingerprint)
        for g in generations
    ]
    print_table("Generations", ["", "", "index", "embedder"], rows)


@app.command()
def prune(collection: CollectionOption = DEFAULT_COLLECTION, json: JsonOption = False) -> None:
    """Delete all generations but the live one and the one before it, unfinished ones too.

    Example: [bold]kb generations prune[/]
    """

    async def action(services: Services) -> list[Generation]:
        return await reindexing.prune_all(collection, services)

    dropped = run(action)
    if json:
        print_json([generation.index_name for generation in dropped])
    else:
        typer.echo(f"Deleted {len(dropped)}: {', '.join(g.index_name for g in dropped) or 'none'}.")


@contextmanager
def _shown(progress: CopyProgress, quiet: bool) -> Iterator[None]:
    """A bar with chunks and the time left, on standard error, until the block ends."""
    if quiet:
        yield
        return
    with Progress(
        TextColumn("Reindexing"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total} chunks"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=errors,
    ) as bar:
        task = bar.add_task("", total=None)
        with drawn(
            lambda: bar.update(task, total=progress.total or None, completed=progress.copied)
        ):
            yield
