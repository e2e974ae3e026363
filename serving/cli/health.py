"""`kb doctor`."""

from typing import Annotated

import typer

from ingestion.progress import SyncProgress
from serving.bootstrap import Services
from serving.cli.output import JsonOption, errors, print_json, print_table
from serving.cli.running import run
from serving.health import Finding, examine
from serving.repair import repair


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    mend: Annotated[
        bool, typer.Option("--repair", help="Make the indexes hold what the catalogue says.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check model, catalogue and index, and whether catalogue and index agree.

    Exit status 1 when something is wrong; each finding says what to do.

    Example: [bold]kb doctor --repair[/]
    """

    async def action(services: Services) -> list[Finding]:
        for collection in await services.catalog.collections() if mend else ():
            mended = await repair(collection.name, services, SyncProgress())
            errors.print(f"{collection.name}: {len(mended.documents)} documents mended.")
        return [finding async for finding in examine(services)]

    findings = run(action)
    if json:
        print_json(findings)
    else:
        rows = [("wrong" if f.problem else "ok", f.part, f.detail, f.problem) for f in findings]
        print_table("Health", ["", "part", "detail", "what to do"], rows)
    if any(finding.problem for finding in findings):
        raise typer.Exit(1)
