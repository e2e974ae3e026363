"""`kb eval`."""

from pathlib import Path
from typing import Annotated

import typer

from kb.settings import load_settings
from serving.cli.output import JsonOption, console, print_json, print_table


def register(app: typer.Typer) -> None:
    app.command(name="eval")(evaluate)


def evaluate(
    folder: Annotated[
        Path, typer.Argument(help="BEIR-like: queries.jsonl, qrels.tsv, corpus.jsonl.")
    ],
    corpus: Annotated[
        Path | None,
        typer.Option(help="Take the passages of this folder instead (across languages)."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many questions.")] = None,
    json: JsonOption = False,
) -> None:
    """Measure retrieval and answers on a set of questions, through the real ingest and search.

    The passages go into a throw-away collection.

    Example: [bold]kb eval ../shared/data/xquad_zh --corpus ../shared/data/xquad_en --limit 200[/]
    """
    from serving.evaluation import evaluate_set, load_set

    question_set = load_set(folder, corpus or folder, limit)
    with shown_evaluation(json) as steps:
        result = evaluate_set(question_set, load_settings(), steps)
    if json:
        print_json(result)
        return
    sides = ("lexical", "dense", "hybrid")
    metrics = list(result["hybrid"])
    print_table(
        f"{result['set']}: {result['questions']} questions, {result['passages']} passages",
        ["", *metrics],
        [(side, *(f"{result[side][name]:.3f}" for name in metrics)) for side in sides],
    )
    if result["answers"]:
        names = list(result["answers"])
        print_table("Answers", names, [[f"{result['answers'][name]:.3f}" for name in names]])
    console.print(result["kb"])
