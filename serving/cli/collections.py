"""`kb collections ...`."""

from typing import Annotated

import typer

from kb.types import Collection, DocumentStatus
from serving.bootstrap import Services
from serving.cli.output import JsonOption, print_json, print_table
from serving.cli.running import run

app = typer.Typer(help="List and delete collections.", no_args_is_help=True)


@app.command("list")
def list_collections(json: JsonOption = False) -> None:
    """List collections with their documents by status.

    Example: [bold]kb collections list[/]
    """

    async def action(services: Services) -> list[Collection]:
        return await services.catalog.collections()

    collections = run(action)
    if json:
        print_json(
            [
                {
                    "name": c.name,
                    "created_at": c.created_at,
                    "documents": {str(status): n for status, n in c.documents.items()},
                    "chunks": c.chunks,
                }
                for c in collections
            ]
        )
        return
    statuses = list(DocumentStatus)
    rows = [(c.name, *(c.documents.get(s, 0) for s in statuses), c.chunks) for c in collections]
    print_table("Collections", ["name", *statuses, "chunks"], rows)


@app.command()
def delete(
    name: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete a collection: its index and its uploaded files. Files in folders stay untouched.

    Example: [bold]kb collections delete handbook --yes[/]
    """
    if not yes:
        typer.confirm(
            f"Delete the collection {name}, its index and its uploaded files?", abort=True
        )

    async def action(services: Services) -> None:
        await services.catalog.collection(name)
        await services.delete_collection(name)

    run(action)
    if json:
        print_json({"name": name, "deleted": True})
    else:
        typer.echo(f"Deleted {name}.")
