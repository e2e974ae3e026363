"""Real Chromium in front of a real server."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import SCRIPTS
from tests.e2e.kb_process import Server, data_folder, start_server, stop_server

PATIENCE_MS = 60_000
LEAVE = """<title>Annual leave</title><h1>Annual leave</h1>
<p>Every employee of Heron Works has 27 days of leave a year. Leave is asked for in the staff portal.</p>
<h1>Expenses</h1>
<p>Receipts are handed in until the fifth day of the next month.</p>"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Not longer than a module: Playwright's loop runs as long, and asyncio's tests need their own."""
    path = subprocess.run(
        [SCRIPTS / "chromium" / "install"], check=True, capture_output=True, text=True
    ).stdout.strip()
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not work as root.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    running = start_server(["serve"], data_folder(folder / "data", models), folder)
    yield running
    stop_server(running)


@pytest.fixture
def page(chromium: Browser, server: Server) -> Iterator[Page]:
    """In English; whatever the page itself logs as an error fails the test."""
    context = chromium.new_context(base_url=server.url, locale="en-GB")
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    yield opened
    context.close()
    assert errors == []


@pytest.fixture(scope="module")
def leave_pdf(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pdf") / "leave.pdf"
    drawn = chromium.new_page()
    drawn.set_content(LEAVE)
    drawn.pdf(path=path)
    drawn.close()
    return path


def upload(page: Page, *files: Path) -> None:
    page.goto("/#documents")
    page.get_by_label("choose files").set_input_files(files)
    for file in files:
        row = (
            page.get_by_role("status", name="Uploads")
            .get_by_role("listitem")
            .filter(has_text=file.name)
        )
        expect(row).to_contain_text("Indexed")


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your question").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(
        page.get_by_role("article", name="Answer").last.get_by_role("button", name="Good answer")
    ).to_be_visible()
