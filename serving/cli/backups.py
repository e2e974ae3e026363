"""`kb backup ...`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from kb.settings import load_settings
from retrieval.generations import CopyProgress
from serving.backup import making, restoring
from serving.backup.kept import Backup, backups, folder_of
from serving.bootstrap import Services
from serving.cli.output import JsonOption, print_json, print_table
from serving.cli.running import run
from serving.parts import Parts, open_embedder, open_store

app = typer.Typer(
    help="Backups: catalogue, index with vectors, uploaded files, settings without secrets.",
    no_args_is_help=True,
)

FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Where backups are kept; else the setting backup.folder."),
]
PlaceArgument = Annotated[Path, typer.Argument(help="The backup's folder.")]


@app.command()
def create(folder: FolderOption = None, json: JsonOption = False) -> None:
    """Make a backup, as everything is at one moment. Searches and ingests go on meanwhile.

    Example: [bold]kb backup create --folder /mnt/backups[/]
    """
    place = _folder(folder)

    async def action(services: Services) -> Backup:
        return await making.create(place, services, CopyProgress())

    _show([run(action)], json)


@app.command("list")
def list_backups(folder: FolderOption = None, json: JsonOption = False) -> None:
    """List the backups there are, newest first.

    Example: [bold]kb backup list --folder /mnt/backups[/]
    """
    _show(backups(_folder(folder)), json)


@app.command()
def verify(place: PlaceArgument, json: JsonOption = False) -> None:
    """Read a backup whole: every file as it was written, index and catalogue in agreement.

    Example: [bold]kb backup verify /mnt/backups/kb-20260102-033000[/]
    """
    _show([asyncio.run(_checked(place))], json)


@app.command()
def restore(place: PlaceArgument, json: JsonOption = False) -> None:
    """Bring a backup into an empty knowledge base, of any kind of index and database.

    Nothing is embedded. Stopped half-way, the same command begins anew.

    Example: [bold]KB_DATA_DIR=/srv/kb kb backup restore /mnt/backups/kb-20260102-033000[/]
    """

    async def action(services: Services) -> Backup:
        return await restoring.restore(place, services, CopyProgress())

    _show([run(action)], json)


async def _checked(place: Path) -> Backup:
    """Without the catalogue of this machine: it may be what was lost."""
    settings = load_settings()
    parts = Parts(settings, open_store(settings), open_embedder)
    try:
        return await restoring.check(place, parts)
    finally:
        await parts.close()


def _folder(given: Path | None) -> Path:
    return given or folder_of(load_settings())


def _show(found: list[Backup], json: bool) -> None:
    if json:
        print_json(found)
        return
    rows = [
        (
            each.name,
            f"{each.created_at:%Y-%m-%d %H:%M}",
            sum(each.collections.values()),
            f"{each.size / 2**20:.1f}",
            each.version,
        )
        for each in found
    ]
    print_table("Backups", ["name", "made (UTC)", "documents", "MiB", "version"], rows)
