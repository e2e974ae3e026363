"""Every public test file gives text or a typed failure, and none of them hangs."""

import re
import time
from collections import Counter
from pathlib import Path

import pytest

from ingestion.loaders import LoadLimits, load
from kb.errors import DocumentError
from kb.types import FailureCategory

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "data" / "fixtures"
LIMITS = LoadLimits(max_bytes=100 << 20, max_characters=20_000_000, max_expansion=200)
SLOWEST_S = 60.0
"""Far above the slowest file (a few seconds); a hang is what this is to find."""
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")

READ = (
    ".docx",
    ".pptx",
    ".xlsx",
    ".xlsm",
    ".html",
    ".md",
    ".csv",
    ".eml",
    ".epub",
    ".json",
    ".ipynb",
)
# A presentation of pictures only, and an empty rendering of a scan.
WITHOUT_TEXT = {"pptx_multiple_images.pptx", "MEDRPT-2024-PAT-3847_medical_report_scan.md"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"the test files are not at {FIXTURES}"),
]


def files() -> list[Path]:
    return sorted(
        path for path in FIXTURES.rglob("*") if path.is_file() and path.parent != FIXTURES
    )


def outcome(path: Path) -> str:
    """The category of the failure, or "text"."""
    try:
        parsed = load(path, LIMITS)
    except DocumentError as error:
        return error.category
    assert parsed.title, path.name
    assert parsed.text.strip(), path.name
    assert not CONTROLS.search(parsed.text), path.name
    parsed.text.encode("utf-8")
    return "text"


def timed_outcome(path: Path) -> str:
    start = time.monotonic()
    found = outcome(path)
    assert time.monotonic() - start < SLOWEST_S, path.name
    return found


@pytest.mark.timeout(900)
def test_each_file_gives_text_or_a_typed_failure() -> None:
    outcomes = {path: timed_outcome(path) for path in files()}
    print(Counter(f"{path.suffix} {found}" for path, found in sorted(outcomes.items())))  # noqa: T201
    assert len(outcomes) >= 300
    lost = {
        path.name: found
        for path, found in outcomes.items()
        if path.suffix in READ and found != "text" and path.name not in WITHOUT_TEXT
    }
    assert not lost
    unread = {
        found for path, found in outcomes.items() if path.suffix in (".doc", ".xls", ".png", ".msg")
    }
    assert unread <= {FailureCategory.UNSUPPORTED}
