"""`kb model ...`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from kb.errors import ConfigError
from kb.settings import load_settings
from retrieval.embedders.model_repository import MODEL_NAME
from retrieval.embedders.model_repository import export as write_repository
from serving.cli.output import JsonOption, print_json

app = typer.Typer(help="The embedding model, for servers of models.", no_args_is_help=True)


@app.callback()
def models() -> None:
    """The embedding model, for servers of models."""


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Model repository: made where it is missing.")],
    instances: Annotated[
        int, typer.Option(min=0, help="Calls at a time; 0: one for each core here.")
    ] = 0,
    queue_delay_us: Annotated[
        int, typer.Option(min=0, help="Microseconds that Triton waits for a fuller batch.")
    ] = 2000,
    json: JsonOption = False,
) -> None:
    """Write the embedding model as a model repository of Triton, with its tokenizer.

    Example: [bold]kb model export /srv/models[/]
    """
    built = load_settings().data_dir / "models" / MODEL_NAME
    try:
        place = write_repository(built, folder, instances or os.cpu_count() or 1, queue_delay_us)
    except OSError as error:
        raise ConfigError(f"{folder} can't be written to: {error.strerror}.") from error
    if json:
        print_json({"model": place.name, "folder": str(place.resolve())})
        return
    typer.echo(f"{place}\n\nWhere it is served, at http://HOST:8000 say:")
    typer.echo(
        "KB_EMBEDDER__KIND=open-inference KB_EMBEDDER__URL=http://HOST:8000 "
        f"KB_EMBEDDER__MODEL={place.name} KB_EMBEDDER__TOKENIZER={place.resolve()}/tokenizer.json"
    )
