"""`kb golden`."""

import typer

from serving.bootstrap import DEFAULT_COLLECTION, Services
from serving.cli.output import CollectionOption, JsonOption, print_json
from serving.cli.running import run
from serving.golden import Accuracy, evaluate


def register(app: typer.Typer) -> None:
    app.command()(golden)


def golden(collection: CollectionOption = DEFAULT_COLLECTION, json: JsonOption = False) -> None:
    """Ask a collection its golden questions and say which are not answered rightly.

    They are in the file COLLECTION.jsonl of the folder [bold]evaluation.folder[/], and answers that readers
    found good; the worker asks them after every sync.

    Example: [bold]kb golden --collection handbook[/]
    """

    async def action(services: Services) -> Accuracy | None:
        return await evaluate(collection, services)

    accuracy = run(action) or Accuracy()
    if json:
        print_json(accuracy)
        return
    if not accuracy.questions:
        typer.echo(f"There are no golden questions for {collection}: see docs/evaluation.md.")
        return
    typer.echo(f"{accuracy.right} of {accuracy.questions} questions answered rightly.")
    for question in accuracy.missed:
        typer.echo(f"missed: {question}")
