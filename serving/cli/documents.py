"""`kb documents ...`."""

from dataclasses import asdict
from typing import Annotated

import typer

from ingestion.progress import SyncProgress
from kb.types import Document, DocumentStatus
from serving.bootstrap import Services
from serving.cli.ingestion import report
from serving.cli.output import JsonOption, print_json, print_table
from serving.cli.progress import shown
from serving.cli.running import run
from serving.sync import sync_document, to_be_read_again
from serving.uploads import remove_document

app = typer.Typer(help="List, look at, delete and retry documents.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(help="Id of the document, as listed.")]


@app.command("list")
def list_documents(
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Only this collection.")
    ] = None,
    status: Annotated[DocumentStatus | None, typer.Option(help="Only this status.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="Most documents listed.")
    ] = 100,
    after: Annotated[str | None, typer.Option(help="Id after which to go on.")] = None,
    json: JsonOption = False,
) -> None:
    """List documents with their status.

    Example: [bold]kb documents list --status failed[/]
    """

    async def action(services: Services) -> list[Document]:
        if collection:
            await services.catalog.collection(collection)
        return await services.catalog.documents(
            collection=collection, status=status, limit=limit, after=after
        )

    documents = run(action)
    if json:
        print_json(documents)
        return
    rows = [
        (d.id, d.collection, d.status, d.chunk_count, d.duplicate_of, d.title, d.uri)
        for d in documents
    ]
    columns = ["id", "collection", "status", "chunks", "duplicate of", "title", "where"]
    print_table("Documents", columns, rows)


@app.command()
def show(document_id: IdArgument, json: JsonOption = False) -> None:
    """Show one document: what it is, its status, and why it failed or what was left out.

    Example: [bold]kb documents show 0f3c...[/]
    """

    async def action(services: Services) -> tuple[Document, list[str]]:
        document = await services.catalog.document(document_id)
        places = await services.catalog.places([document_id])
        return document, [place.uri for place in places.get(document_id, [])]

    document, also_at = run(action)
    if json:
        print_json({**asdict(document), "also_at": also_at})
        return
    fields = [
        ("id", document.id),
        ("collection", document.collection),
        ("where", document.uri),
        *(("also at", uri) for uri in also_at),
        ("duplicate of", document.duplicate_of),
        ("title", document.title),
        ("media type", document.media_type),
        ("bytes", document.size),
        ("status", document.status),
        ("chunks", document.chunk_count),
        ("indexed at", document.indexed_at),
        ("failed because", document.error_category),
        ("what to do", document.error_message),
        *(("warning", warning) for warning in document.warnings),
    ]
    print_table("Document", ["", ""], fields)


@app.command()
def delete(document_id: IdArgument, json: JsonOption = False) -> None:
    """Take a document out of the index. An upload is deleted for good; a file on disk stays there.

    Example: [bold]kb documents delete 0f3c...[/]
    """

    async def action(services: Services) -> Document | None:
        return await remove_document(await services.catalog.document(document_id), services)

    remaining = run(action)
    if json:
        print_json({"id": document_id, "deleted": remaining is None})
    elif remaining is None:
        typer.echo("Deleted.")
    else:
        typer.echo(
            f"Taken out of the index. The file {remaining.uri} is untouched and stays left out "
            f"until `kb documents retry {document_id}`."
        )


@app.command()
def retry(document_id: IdArgument, json: JsonOption = False) -> None:
    """Read a document again that failed or was taken out.

    Example: [bold]kb documents retry 0f3c...[/]
    """
    progress = SyncProgress()

    async def action(services: Services) -> Document:
        document = await services.catalog.document(document_id)
        pending = await to_be_read_again(document, services)
        with shown(progress, quiet=json):
            await sync_document(pending, services, progress)
        return await services.catalog.document(document_id)

    document = run(action)
    failed = document.error_category is not None
    report(progress, [document] if failed else [], json)
    if failed:
        raise typer.Exit(1)
