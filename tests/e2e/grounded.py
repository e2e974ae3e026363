"""Our server over made-up facts, with a real vLLM behind it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.kb_process import Server, data_folder, start_server, stop_server
from tests.models import sentences
from tests.models.sentences import Fact

_DOCUMENTS_OF_A_LANGUAGE = 12
_PATIENCE_S = 30


def made_up_facts() -> list[Fact]:
    """Half in English, half in Chinese, each about another name."""
    chance = random.Random(11)
    return [
        fact
        for language in ("en", "zh")
        for fact in sentences.facts(chance, language, _DOCUMENTS_OF_A_LANGUAGE)
    ]


@contextmanager
def grounded_server(url: str, facts: list[Fact], models: Path, folder: Path) -> Iterator[Server]:
    write_documents(folder / "documents", facts)
    running = start_server(
        ["up", "--docs", str(folder / "documents")],
        data_folder(folder / "data", models),
        folder,
        KB_GENERATION__URL=url,
        KB_GENERATION__FIRST_TOKEN_S=str(_PATIENCE_S),
        KB_GENERATION__MAX_TOKENS="128",
        KB_ANSWERS__PASSAGES="4",
    )
    try:
        yield running
    finally:
        stop_server(running)


def write_documents(folder: Path, facts: list[Fact]) -> None:
    """Beside the facts: one document that is much longer than the model's context."""
    folder.mkdir()
    for number, one in enumerate(facts):
        (folder / f"f{number}.md").write_text(one.sentence + "\n", "utf-8")
    rooms = "\n\n".join(
        f"## Room {n}\n\n"
        + f"The long corridor number {n} of the northern tower has room {n}. " * 30
        for n in range(12)
    )
    (folder / "corridors.md").write_text(rooms, "utf-8")
