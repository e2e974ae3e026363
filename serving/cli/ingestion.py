"""`kb ingest`."""

from pathlib import Path
from typing import Annotated

import typer

from ingestion.progress import SyncProgress
from kb.types import Document, DocumentStatus
from serving.bootstrap import DEFAULT_COLLECTION, Services
from serving.cli.output import CollectionOption, JsonOption, print_json, print_table
from serving.cli.progress import shown
from serving.cli.running import run
from serving.sync import ingest_path

MOST_FAILURES_SHOWN = 20


def register(app: typer.Typer) -> None:
    app.command()(ingest)


def ingest(
    path: Annotated[Path, typer.Argument(help="A folder or a file.")],
    collection: CollectionOption = DEFAULT_COLLECTION,
    json: JsonOption = False,
) -> None:
    """Index a folder or a file; what did not change is left alone.

    Documents that are gone from the folder are taken out of the index. Exit status 1 only when
    nothing at all could be indexed.

    Example: [bold]kb ingest ~/Documents --collection handbook[/]
    """
    progress = SyncProgress()

    async def action(services: Services) -> list[Document]:
        with shown(progress, quiet=json):
            await ingest_path(path, collection, services, progress)
        return await services.catalog.documents(
            collection=collection, status=DocumentStatus.FAILED, limit=MOST_FAILURES_SHOWN
        )

    failures = run(action)
    report(progress, failures, json)
    if progress.failed and not progress.indexed and not progress.unchanged:
        raise typer.Exit(1)


def report(progress: SyncProgress, failures: list[Document], as_json: bool) -> None:
    """Outcomes by category, then the failures with what to do about them."""
    if as_json:
        failed = [
            {"uri": d.uri, "category": d.error_category, "message": d.error_message}
            for d in failures
        ]
        print_json({**progress.counts(), "failures": failed})
        return
    rows: list[tuple[str, int]] = [
        ("indexed", progress.indexed),
        ("  of them with warnings", progress.warned),
        ("  of them duplicates", progress.duplicates),
        ("unchanged", progress.unchanged),
        ("deleted", progress.deleted),
        *((f"failed: {category}", number) for category, number in progress.failed.most_common()),
        ("chunks embedded", progress.embedded),
        ("chunks with a known vector", progress.reused),
    ]
    print_table("Outcome", ["documents", "number"], rows)
    if failures:
        print_table(
            "Documents that could not be indexed (kb documents list --status failed shows all)",
            ["document", "category", "what to do"],
            [(d.uri, d.error_category, d.error_message) for d in failures],
        )
