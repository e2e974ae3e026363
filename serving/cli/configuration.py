"""`kb config`."""

import typer

from kb.settings import CONFIG_FILE_VARIABLE, config_file, load_settings
from serving.cli.output import JsonOption, print_json, print_table
from serving.setting_rows import setting_rows


def register(app: typer.Typer) -> None:
    app.command(name="config")(config)


def config(json: JsonOption = False) -> None:
    """Print the settings in force, and where each comes from.

    Example: [bold]KB_SERVER__PORT=9000 kb config[/]
    """
    rows = list(setting_rows(load_settings()))
    if json:
        print_json(
            [dict(zip(("name", "value", "from", "variable"), row, strict=True)) for row in rows]
        )
        return
    print_table(
        f"Settings (file: {config_file()}, or the one {CONFIG_FILE_VARIABLE} names)",
        ["setting", "value", "from", "environment variable"],
        rows,
    )
