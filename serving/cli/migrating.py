"""`kb migrate`."""

import asyncio

import typer

from kb.db.migrate import migrate as bring_up_to_date
from kb.db.tables import SCHEMA_REVISION
from kb.settings import load_settings
from serving.bootstrap import catalog_url, create_data_folder
from serving.cli.output import JsonOption, print_json


def register(app: typer.Typer) -> None:
    app.command()(migrate)


def migrate(json: JsonOption = False) -> None:
    """Bring the catalogue's tables up to date, for deployments that do so once, before the rest.

    Every command does it by itself where it is needed. Twice changes nothing.

    Example: [bold]KB_CATALOG__URL=postgresql://… kb migrate[/]
    """
    settings = load_settings()
    create_data_folder(settings.data_dir)
    asyncio.run(bring_up_to_date(catalog_url(settings)))
    if json:
        print_json({"schema": SCHEMA_REVISION})
    else:
        typer.echo(f"The catalogue has schema {SCHEMA_REVISION}.")
