"""Gathers the commands and turns errors into one sentence and an exit status."""

import sys

import typer
from rich.markup import escape

from kb.disk import REMEDY, is_full
from kb.errors import BackendError, KBError
from serving.cli import (
    answers,
    backups,
    collections,
    configuration,
    documents,
    evaluation,
    generations,
    golden,
    health,
    ingestion,
    keys,
    migrating,
    models,
    runs,
    server,
    sources,
    syncing,
    worker,
)
from serving.cli.output import errors

COMMAND_WAS_WRONG = 2
"""Status of a command that can't work as it was given; 1 is: it was right, and it failed."""

app = typer.Typer(
    name="kb",
    help="A local knowledge base: indexes your documents and answers questions with citations.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
server.register(app)
ingestion.register(app)
syncing.register(app)
app.add_typer(sources.app, name="sources")
app.add_typer(runs.app, name="runs")
worker.register(app)
answers.register(app)
app.add_typer(documents.app, name="documents")
app.add_typer(collections.app, name="collections")
app.add_typer(keys.app, name="keys")
app.add_typer(backups.app, name="backup")
evaluation.register(app)
golden.register(app)
generations.register(app)
configuration.register(app)
migrating.register(app)
app.add_typer(models.app, name="model")
health.register(app)


def _say(message: str) -> None:
    """The message may quote a file's name or a user's words: brackets in it are no markup."""
    errors.print(f"[bold red]Error:[/] {escape(message)}", highlight=False)


def main() -> None:
    try:
        app()
    except KBError as error:
        _say(error.message)
        sys.exit(1 if isinstance(error, BackendError) else COMMAND_WAS_WRONG)
    except OSError as error:
        if not is_full(error):
            raise
        _say(f"A disk is full ({error}). {REMEDY}")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("Stopped. What was finished is kept; the same command goes on from here.")
        sys.exit(130)
