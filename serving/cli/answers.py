"""`kb ask` and `kb search`."""

from typing import Annotated

import typer
from rich.markup import escape

from kb.types import Hit
from serving.answering.answer import Answer, Message, answer
from serving.bootstrap import DEFAULT_COLLECTION, Services
from serving.cli.output import CollectionOption, JsonOption, console, print_json, print_table
from serving.cli.running import run
from serving.searching import bound_search

PREVIEW_CHARACTERS = 160


def register(app: typer.Typer) -> None:
    app.command()(ask)
    app.command()(search)


def ask(
    question: str, collection: CollectionOption = DEFAULT_COLLECTION, json: JsonOption = False
) -> None:
    """Answer a question from the documents, with citations.

    Example: [bold]kb ask "How long is the warranty?"[/]
    """

    async def action(services: Services) -> Answer:
        live = await services.live(collection)
        return await answer(
            [Message("user", question)],
            search=bound_search(live, services),
            embedder=live.embedder,
            answering=services.answering(),
        )

    result = run(action)
    if json:
        print_json(result)
        return
    console.print(escape(result.text), soft_wrap=True)
    if result.degraded_because:
        console.print(
            f"[dim]Answered by {result.answered_by}, because {result.degraded_because}.[/]"
        )
    if result.support and result.citations and not result.support.is_supported:
        console.print("[yellow]The passages do not carry all of this: look at them.[/]")
    if result.citations:
        print_table(
            "Citations",
            ["", "document", "section", "page", "score", "where"],
            [
                (
                    f"[{c.number}]",
                    c.title,
                    " > ".join(c.heading_path),
                    c.page,
                    f"{c.score:.2f}",
                    "\n".join([c.uri, *c.also_at]),
                )
                for c in result.citations
            ],
        )


def search(
    question: str,
    collection: CollectionOption = DEFAULT_COLLECTION,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Number of passages.")] = 5,
    json: JsonOption = False,
) -> None:
    """List the passages that fit a question best, with their scores.

    Example: [bold]kb search "expense report" --limit 3[/]
    """

    async def action(services: Services) -> list[Hit]:
        live = await services.live(collection)
        return await bound_search(live, services, limit=limit)(question)

    hits = run(action)
    if json:
        print_json(hits)
        return
    rows = [
        (
            f"{hit.score:.3f}",
            "" if hit.similarity is None else f"{hit.similarity:.3f}",
            f"{hit.bm25:.1f}",
            hit.chunk.title,
            " > ".join(hit.chunk.heading_path),
            " ".join(hit.chunk.text.split())[:PREVIEW_CHARACTERS],
        )
        for hit in hits
    ]
    print_table("Passages", ["score", "cosine", "BM25", "document", "section", "text"], rows)
