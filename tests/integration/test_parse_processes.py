"""The parsing processes are really killed: on time, on memory, by crashes, with their parent."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from ingestion.parsing import ProcessParser
from kb.errors import DocumentError, ModelUnavailable, ParseTimeout
from kb.settings import IngestSettings
from kb.types import FailureCategory
from retrieval.embedders.hashing import HashingEmbedder
from tests.integration import hostile_loaders

pytestmark = pytest.mark.slow
SETTINGS = IngestSettings(parse_processes=2, parse_timeout_s=4, parse_memory_mb=512)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    return HashingEmbedder(tmp_path / "embedder").tokenizer_file


@pytest.fixture
async def parser(tokenizer_file: Path) -> AsyncIterator[ProcessParser]:
    parser = ProcessParser(SETTINGS, 128, tokenizer_file, hostile_loaders.load)
    yield parser
    await parser.close()


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def named(stem: str) -> Path:
        path = tmp_path / f"{stem}.txt"
        path.write_text(f"The text of {stem}.")
        return path

    return named


def workers() -> list[psutil.Process]:
    """Our parsing processes; the fork server that starts them stays until we end."""
    children = psutil.Process().children(recursive=True)
    servers = [child for child in children if child.ppid() == os.getpid()]
    return [child for child in children if child not in servers]


@pytest.mark.parametrize(
    ("deed", "category", "words"),
    [
        ("sleep", FailureCategory.TIMEOUT, "KB_INGEST__PARSE_TIMEOUT_S"),
        ("spin", FailureCategory.TIMEOUT, "4 seconds"),
        ("allocate", FailureCategory.OUT_OF_MEMORY, "KB_INGEST__PARSE_MEMORY_MB"),
        ("killed", FailureCategory.OUT_OF_MEMORY, "512 MiB"),
        ("abort", FailureCategory.OUT_OF_MEMORY, "512 MiB"),
        ("segfault", FailureCategory.BROKEN, "SIGSEGV"),
        ("exit", FailureCategory.BROKEN, "exit status 3"),
        ("encrypted", FailureCategory.ENCRYPTED, "encrypted"),
        ("bug", FailureCategory.BROKEN, "KeyError"),
    ],
)
async def test_a_hostile_file_is_a_typed_failure_and_the_next_is_read(
    parser: ProcessParser, file: Callable[[str], Path], deed: str, category: str, words: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        await parser.prepare(file(deed), "d")
    assert caught.value.category is category
    assert words in caught.value.message
    assert (caught.type is ParseTimeout) == (category is FailureCategory.TIMEOUT)
    prepared = await parser.prepare(file("good"), "d")
    assert prepared.chunks[0].text == "The text of good."


async def test_others_in_flight_are_neither_lost_nor_blamed(
    parser: ProcessParser, file: Callable[[str], Path]
) -> None:
    crashes = ("segfault", "exit", "killed", "allocate", "sleep")
    stems = [stem for crash in crashes for stem in (crash, "slow", "good", "slow")]
    outcomes = await asyncio.gather(
        *(parser.prepare(file(stem), stem) for stem in stems), return_exceptions=True
    )
    for stem, outcome in zip(stems, outcomes, strict=True):
        assert isinstance(outcome, DocumentError) == (stem in crashes), (stem, outcome)
        assert isinstance(outcome, DocumentError) or outcome.title == stem  # type: ignore[union-attr]


async def test_no_process_before_the_first_file_nor_after_close(
    tokenizer_file: Path, file: Callable[[str], Path]
) -> None:
    parser = ProcessParser(SETTINGS, 128, tokenizer_file, hostile_loaders.load)
    assert workers() == []
    await parser.prepare(file("good"), "d")
    assert len(workers()) == 1
    hanging = asyncio.create_task(parser.prepare(file("sleep"), "d"))
    await until(lambda: file("sleep").with_suffix(".pid").exists())
    await parser.close()
    await asyncio.sleep(0.2)
    assert workers() == []
    with pytest.raises(asyncio.CancelledError):
        await hanging
    await parser.close()


async def test_a_caller_that_gives_up_frees_its_process(
    tokenizer_file: Path, file: Callable[[str], Path]
) -> None:
    settings = SETTINGS.model_copy(update={"parse_processes": 1, "parse_timeout_s": 60})
    parser = ProcessParser(settings, 128, tokenizer_file, hostile_loaders.load)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(parser.prepare(file("sleep"), "d"), 3)
    prepared = await asyncio.wait_for(parser.prepare(file("good"), "d"), 20)
    assert prepared.title == "good"
    await parser.close()


async def test_a_process_killed_between_two_files_is_replaced(
    parser: ProcessParser, file: Callable[[str], Path]
) -> None:
    for _ in range(3):
        await parser.prepare(file("good"), "d")
        for worker in workers():
            worker.kill()
    assert (await parser.prepare(file("good"), "d")).title == "good"


async def test_a_missing_tokenizer_is_not_the_files_fault(
    tmp_path: Path, file: Callable[[str], Path]
) -> None:
    parser = ProcessParser(SETTINGS, 128, tmp_path / "absent.json", hostile_loaders.load)
    with pytest.raises(ModelUnavailable):
        await parser.prepare(file("good"), "d")
    await parser.close()


SCRIPT = """
import asyncio, sys
from pathlib import Path
from ingestion.parsing import ProcessParser
from kb.settings import IngestSettings
from tests.integration import hostile_loaders

async def main(tokenizer, file):
    parser = ProcessParser(IngestSettings(parse_processes=1), 128, Path(tokenizer), hostile_loaders.load)
    try:
        print("RESULT", (await parser.prepare(Path(file), "d")).title, flush=True)
    finally:
        await parser.close()

if __name__ == "__main__":
    print("MAIN", flush=True)
    asyncio.run(main(*sys.argv[1:]))
"""


def script(tmp_path: Path, *arguments: object, module: bool = False) -> list[str]:
    path = tmp_path / "console_script.py"
    path.write_text(SCRIPT)
    how = ["-m", "console_script"] if module else [str(path)]
    return [sys.executable, *how, *map(str, arguments)]


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, tmp_path)))}


@pytest.mark.parametrize("module", [False, True], ids=["console script", "python -m"])
def test_the_entry_point_runs_once(
    tmp_path: Path, tokenizer_file: Path, file: Callable[[str], Path], module: bool
) -> None:
    done = subprocess.run(
        script(tmp_path, tokenizer_file, file("good"), module=module),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "MAIN\nRESULT good\n", "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_no_process_outlives_its_parent(
    tmp_path: Path, tokenizer_file: Path, file: Callable[[str], Path], number: signal.Signals
) -> None:
    path = file("sleep")
    parent = subprocess.Popen(  # noqa: ASYNC220 - it is waited for below
        script(tmp_path, tokenizer_file, path),
        env=environment(tmp_path),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A shell's background job, as CI may be, has Ctrl-C ignored, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    written = path.with_suffix(".pid")
    try:
        await until(lambda: written.exists() and bool(written.read_text()))
        family = psutil.Process(parent.pid).children(recursive=True)
        assert int(written.read_text()) in {child.pid for child in family}
        if number is signal.SIGINT:
            os.killpg(parent.pid, number)  # as Ctrl-C does
        else:
            parent.kill()
        parent.wait(30)
    finally:
        parent.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
    assert alive == []


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
