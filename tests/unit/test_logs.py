"""Logs: one JSON line an event, without the text of questions and documents."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from kb.logs import configure_logs
from kb.settings import LogSettings


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_lines_from_both_kinds_of_logger(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(format="json"))
    configure_logs(LogSettings(format="json"))
    structlog.get_logger("ours").info("run_finished", documents=3)
    logging.getLogger("theirs").warning("disk is %s", "full")
    ours, theirs = map(json.loads, capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["documents"], ours["logger"]) == ("run_finished", 3, "ours")
    assert (theirs["event"], theirs["level"]) == ("disk is full", "warning")


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks_show_no_values(capsys: pytest.CaptureFixture[str], form: str) -> None:
    configure_logs(LogSettings.model_validate({"format": form}))

    def answer(question: str) -> int:
        return len(question) // 0

    try:
        answer("the secret " + "question")
    except ZeroDivisionError:
        structlog.get_logger("ours").exception("failed")
    printed = capsys.readouterr().err
    assert "ZeroDivisionError" in printed
    assert "the secret question" not in printed


def test_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(level="error", format="json"))
    structlog.get_logger("ours").warning("not said")
    assert capsys.readouterr().err == ""
