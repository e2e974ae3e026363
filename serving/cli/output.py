"""What commands print: tables for people, JSON for programs. Messages go to standard error."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

console = Console()
errors = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
CollectionOption = Annotated[
    str, typer.Option("--collection", "-c", help="Name of the collection.")
]


def print_json(value: Any) -> None:
    """Dataclasses, enums, paths and times included."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_DATACLASS | orjson.OPT_SERIALIZE_NUMPY
    typer.echo(orjson.dumps(value, default=str, option=options).decode())


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Cells are data: square brackets in them are no markup. None prints as nothing."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    console.print(table)
