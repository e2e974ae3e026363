"""`kb eval`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID

from ingestion.progress import SyncProgress
from kb.logs import configure_logs
from kb.settings import load_settings
from serving.cli.output import JsonOption, errors, print_json, print_table
from serving.cli.progress import shown
from serving.evaluation import MODES, Step, evaluate_set
from serving.question_sets import load_question_set


def register(app: typer.Typer) -> None:
    app.command(name="eval")(evaluate)


def evaluate(
    folder: Annotated[
        Path, typer.Argument(help="Holds queries.jsonl, qrels.tsv and corpus.jsonl.")
    ],
    corpus: Annotated[
        Path | None,
        typer.Option(help="Search the passages of this folder instead (across languages)."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many questions.")] = None,
    answers: Annotated[int, typer.Option(min=0, help="Questions that are answered too.")] = 200,
    json: JsonOption = False,
) -> None:
    """Measure retrieval and answers on a set of questions, in a throw-away collection.

    The folder is laid out as BEIR's sets are.

    Example: [bold]kb eval sets/questions_zh --corpus sets/passages_en --limit 200[/]
    """
    settings = load_settings()
    configure_logs(settings.log.model_copy(update={"level": "warning"}))
    question_set = load_question_set(folder, corpus or folder, limit)
    progress = SyncProgress()
    with shown(progress, quiet=json), steps_shown(quiet=json) as step:
        result = evaluate_set(question_set, settings, answers, progress, step)
    if json:
        print_json(result)
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    title = f"{result['set']}: {result['questions']} questions, {result['passages']} passages"
    metrics = list(result["hybrid"])
    print_table(
        title, ["", *metrics], [(m, *(f"{result[m][name]:.3f}" for name in metrics)) for m in MODES]
    )
    for part in ("answers", "no_answer"):
        if result[part]:
            print_table(part, list(result[part]), [[f"{v:.3f}" for v in result[part].values()]])


@contextmanager
def steps_shown(quiet: bool) -> Iterator[Step]:
    """A bar for each kind of step that is reported."""
    if quiet:
        yield lambda _what, _done, _total: None
        return
    with Progress(console=errors) as bars:
        tasks: dict[str, TaskID] = {}

        def step(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield step
