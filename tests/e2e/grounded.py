"""Our server over made-up facts, with a real vLLM behind it."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openai import OpenAI

from tests.e2e.kb_process import Server, data_folder, start_server, stop_server
from tests.models import sentences
from tests.models.sentences import Fact
from tests.vllm_process import VLLM

_DOCUMENTS_OF_A_LANGUAGE = 12
_PATIENCE_S = 30
_LONG_TOKENS = 900
"""Some seconds of work for vLLM on a processor core."""


def made_up_facts() -> list[Fact]:
    """Half in English, half in Chinese, each about another name."""
    chance = random.Random(11)
    return [
        fact
        for language in ("en", "zh")
        for fact in sentences.facts(chance, language, _DOCUMENTS_OF_A_LANGUAGE)
    ]


def rambling(client: OpenAI, question: str) -> dict[str, Any]:
    """Parameters with which the model goes on and on: it ends its answers after a dozen tokens, unless
    it is rewarded for repeating itself and drawn at random into doing so."""
    messages: Any = [{"role": "user", "content": question}]
    for seed in range(40):
        wild: dict[str, Any] = {
            "seed": seed,
            "temperature": 2.0,
            "frequency_penalty": -2.0,
            "presence_penalty": -2.0,
        }
        completion = client.chat.completions.create(
            model="kb", messages=messages, max_tokens=_LONG_TOKENS, **wild
        )
        text = completion.choices[0].message.content or ""
        # With words at its beginning: brackets and spaces are held back, for they may be a citation.
        words = sum(character.isalpha() for character in text[:60])
        if completion.choices[0].finish_reason == "length" and words > 30:
            return wild | {"max_tokens": _LONG_TOKENS}
    raise AssertionError("the model ends its answers, whatever it is sampled with")


def wait_until_at_work(vllm: VLLM, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not vllm.running_requests():
        assert time.monotonic() < end, "vLLM was given nothing to do"
        time.sleep(0.02)


@contextmanager
def grounded_server(vllm: VLLM, facts: list[Fact], models: Path, folder: Path) -> Iterator[Server]:
    write_documents(folder / "documents", facts)
    running = start_server(
        ["up", "--docs", str(folder / "documents")],
        data_folder(folder / "data", models),
        folder,
        KB_GENERATION__URL=vllm.url,
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
