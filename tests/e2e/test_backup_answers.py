"""A backup made while others write, restored on an empty machine: the same answers, word for word.

TEST_QUESTION_SETS names folders in the layout of BEIR (with commas) instead of the made-up facts,
TEST_QUESTIONS how many of their questions are asked.
"""

import asyncio
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from kb.settings import IndexSettings, Settings
from kb.types import Citation
from serving.answering.answer import Message, answer
from serving.bootstrap import DEFAULT_COLLECTION, open_services
from serving.evaluation import write_passages
from serving.question_sets import load_question_set
from serving.searching import bound_search
from tests.conftest import throw_away_elasticsearch
from tests.e2e.kb_process import KB, START_TIMEOUT_S, data_folder, environment, printed_json
from tests.models import sentences

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

QUESTIONS = int(os.environ.get("TEST_QUESTIONS", "60"))
NOTES = 40
"""Documents of the collection that is written to meanwhile."""

Given = tuple[str, tuple[Citation, ...]]
"""An answer: text and citations, these without their scores, whose last digits are chance."""


@pytest.fixture
def documents(tmp_path: Path) -> tuple[Path, list[str]]:
    """A folder and questions about what is in it."""
    folder = tmp_path / "documents"
    folder.mkdir()
    if given := os.environ.get("TEST_QUESTION_SETS"):
        places = [Path(place) for place in given.split(",")]
        sets = [load_question_set(place, place, QUESTIONS // len(places)) for place in places]
        for one in sets:
            write_passages(one, folder / one.name)
        return folder, [question.text for one in sets for question in one.questions]
    chance = random.Random(5)
    facts = [
        f
        for language in ("en", "zh")
        for f in sentences.facts(chance, language, min(QUESTIONS // 2, 32))
    ]
    for number, fact in enumerate(facts):
        (folder / f"{number}.md").write_text(fact.sentence + "\n", "utf-8")
    return folder, [fact.question for fact in facts]


class Machine:
    """A data folder and, for Elasticsearch, a cluster of its own."""

    def __init__(self, folder: Path, models: Path, url: str) -> None:
        self._data = data_folder(folder, models)
        self._index = {"KB_INDEX__URL": url} if url else {}
        self.settings = Settings(
            data_dir=self._data, index=IndexSettings.model_validate({"url": url})
        )

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [KB, *map(str, arguments)],
            env=environment(self._data, **self._index),
            cwd=self._data,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return ended(self.start(*arguments))

    def answers(self, questions: list[str]) -> list[Given]:
        return asyncio.run(self._answers(questions))

    async def _answers(self, questions: list[str]) -> list[Given]:
        async with open_services(self.settings) as services:
            live = await services.live(DEFAULT_COLLECTION)
            found = []
            for question in questions:
                given = await answer(
                    [Message("user", question)],
                    search=bound_search(live, services),
                    embedder=live.embedder,
                    answering=services.answering(),
                )
                cited = tuple(replace(citation, score=0.0) for citation in given.citations)
                found.append((given.text, cited))
            return found


@pytest.fixture(params=["embedded", pytest.param("elasticsearch", marks=pytest.mark.elasticsearch)])
def machines(
    request: pytest.FixtureRequest, tmp_path: Path, models: Path
) -> Iterator[tuple[Machine, Machine]]:
    """One to be backed up and an empty one."""
    with ExitStack() as stack:
        urls = ["", ""]
        if request.param == "elasticsearch":
            urls = [stack.enter_context(throw_away_elasticsearch())[0] for _ in urls]
        yield (
            Machine(tmp_path / "old", models, urls[0]),
            Machine(tmp_path / "new", models, urls[1]),
        )


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    printed, errors = process.communicate(timeout=10 * START_TIMEOUT_S)
    return subprocess.CompletedProcess(process.args, process.returncode, printed, errors)


def write_notes(folder: Path, turn: int) -> None:
    """All of them anew, and one more each turn."""
    folder.mkdir(exist_ok=True)
    for number in range(NOTES + turn):
        (folder / f"{number}.md").write_text(f"# Note {number}\n\nTurn {turn} of note {number}.")


def test_the_same_answers(
    machines: tuple[Machine, Machine], documents: tuple[Path, list[str]], tmp_path: Path
) -> None:
    old, new = machines
    folder, questions = documents
    notes, backups = tmp_path / "notes", tmp_path / "backups"
    printed_json(old.run("ingest", folder, "--json"))
    expected = old.answers(questions)
    assert any(cited for _, cited in expected)

    write_notes(notes, 0)
    printed_json(old.run("ingest", notes, "--collection", "notes", "--json"))
    backing_up = old.start("backup", "create", "--folder", backups, "--json")
    turns = 0
    while backing_up.poll() is None:
        turns += 1
        write_notes(notes, turns)
        printed_json(old.run("ingest", notes, "--collection", "notes", "--json"))
    assert turns
    (made,) = printed_json(ended(backing_up))

    restored = new.run("backup", "restore", backups / made["name"], "--json")
    printed_json(restored)
    doctor = new.run("doctor")
    assert doctor.returncode == 0, doctor.stdout
    given = new.answers(questions)
    differing = [(q, e, g) for q, e, g in zip(questions, expected, given, strict=True) if e != g]
    assert differing == []
    told = sum(bool(cited) for _, cited in given)
    print(f"{len(given)} answers are the same, {told} of them with citations")  # noqa: T201
