"""`kb keys ...`."""

from datetime import datetime
from typing import Annotated

import typer

from kb.types import ApiKey, Scope
from serving.bootstrap import Services
from serving.cli.output import JsonOption, print_json, print_table
from serving.cli.running import run
from serving.keys import create_key, in_days, key_named, revoke_key, rotate_key

app = typer.Typer(
    help="API keys: who may ask, and what they may read. From the first key on, everybody needs one.",
    no_args_is_help=True,
)
SHOWN_ONCE = "This is the only time the key is shown. Keep it like a password."


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what for.")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it may do; repeat for several.")
    ] = None,
    collection: Annotated[
        list[str] | None, typer.Option("--collection", "-c", help="Only these; else all.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="Documents of these groups too; else only those without groups."),
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires.")] = None,
    json: JsonOption = False,
) -> None:
    """Make a key and print it, once. Without --scope it may query.

    Example: [bold]kb keys create finance-bot --scope query --group finance --days 90[/]
    """

    async def action(services: Services) -> tuple[ApiKey, str]:
        return await create_key(
            services.catalog.keys,
            name,
            scopes=tuple(scope or [Scope.QUERY]),
            collections=tuple(collection or ()),
            groups=tuple(group or ()),
            expires_at=in_days(days),
        )

    _show(*run(action), json)


@app.command("list")
def list_keys(json: JsonOption = False) -> None:
    """List all keys, revoked ones too; never their secrets.

    Example: [bold]kb keys list[/]
    """

    async def action(services: Services) -> list[ApiKey]:
        return await services.catalog.keys.list()

    keys = run(action)
    if json:
        print_json(keys)
        return
    columns = ["id", "name", "scopes", "collections", "groups", "expires", "last used", "revoked"]
    rows = [
        (
            key.id,
            key.name,
            " ".join(key.scopes),
            " ".join(key.collections) or "all",
            "all" if key.is_admin else " ".join(key.groups),
            _day(key.expires_at),
            _day(key.last_used_at),
            _day(key.revoked_at),
        )
        for key in keys
    ]
    print_table("API keys", columns, rows)


@app.command()
def rotate(key_id: str, json: JsonOption = False) -> None:
    """Give a key a new secret and print it, once. The old one stops working at once.

    Example: [bold]kb keys rotate 3f9c0a1b2d4e[/]
    """

    async def action(services: Services) -> tuple[ApiKey, str]:
        text = await rotate_key(services.catalog.keys, key_id)
        return await key_named(services.catalog.keys, key_id), text

    _show(*run(action), json)


@app.command()
def revoke(key_id: str, json: JsonOption = False) -> None:
    """End a key for good, at once. Others still need a key, even when it was the last.

    Example: [bold]kb keys revoke 3f9c0a1b2d4e[/]
    """

    async def action(services: Services) -> ApiKey:
        return await revoke_key(services.catalog.keys, key_id)

    key = run(action)
    if json:
        print_json(key)
    else:
        typer.echo(f"Revoked {key.id} ({key.name}).")


def _show(key: ApiKey, text: str, json: bool) -> None:
    if json:
        print_json({"id": key.id, "name": key.name, "key": text, "expires_at": key.expires_at})
        return
    typer.echo(text)
    typer.echo(SHOWN_ONCE, err=True)


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else ""
