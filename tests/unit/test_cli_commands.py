"""Commands that end before any model is needed: help, and mistakes with a sentence that helps."""

import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from kb.settings import Settings, leaves, variable_name
from serving.cli.application import main

COMMANDS = [
    "up",
    "serve",
    "ingest",
    "search",
    "ask",
    "eval",
    "config",
    "doctor",
    "documents list",
    "documents show",
    "documents delete",
    "documents retry",
    "collections list",
    "collections delete",
    "sync",
    "sources add",
    "sources list",
    "sources show",
    "sources pause",
    "sources resume",
    "sources remove",
    "sources sync",
    "runs list",
    "runs show",
    "runs cancel",
    "worker",
    "migrate",
    "model export",
]
Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs `kb ...` in this process, in an empty folder; gives the exit status."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for path in leaves(Settings):
        monkeypatch.delenv(variable_name(path), raising=False)

    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["kb", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(run: Run, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run(*command.split(), "--help") == 0
    printed = capsys.readouterr().out
    assert "Example:" in printed
    assert command in ("up", "serve") or "--json" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ingest", "/nowhere/at/all"], "does not exist"),
        (["ingest", ".", "--collection", "Not A Name"], "Not A Name"),
        (["search", "anything"], "default"),
        (["ask", "anything"], "default"),
        (["documents", "show", "0123"], "0123"),
        (["documents", "list", "--collection", "nowhere"], "nowhere"),
        (["collections", "delete", "nowhere", "--yes"], "nowhere"),
        (["eval", "/nowhere"], "/nowhere"),
        (["sync", "--source", "0123"], "0123"),
        (["sync", "--collection", "nowhere"], "nowhere"),
        (["sources", "add", "/nowhere/at/all"], "is not a folder"),
        (["sources", "add"], "needs a path"),
        (["sources", "remove", "0123", "--yes"], "0123"),
        (["runs", "cancel", "0123"], "0123"),
    ],
)
def test_wrong_commands_say_what_to_do(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(*arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("KB_SERVER__PROT", "1", "KB_SERVER__PROT"),
        ("KB_SERVER__PORT", "many", "server.port"),
        ("KB_SERVER__HOST", "0.0.0.0", "127.0.0.1"),
        ("KB_CATALOG__URL", "mysql://localhost/kb", "catalog"),
        ("KB_DATA_DIR", "/proc/nowhere", "KB_DATA_DIR"),
    ],
)
def test_wrong_settings_say_what_to_do(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    words: str,
) -> None:
    monkeypatch.setenv(variable, value)
    assert run("serve") == 2
    assert words in capsys.readouterr().err


def test_port_that_is_taken_is_said(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("KB_SERVER__PORT", str(taken.getsockname()[1]))
        assert run("serve") == 2
    assert "KB_SERVER__PORT" in capsys.readouterr().err


def test_empty_lists_are_lists(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("documents", "list", "--json")
    run("collections", "list", "--json")
    assert capsys.readouterr().out.split() == ["[]", "[]"]
