"""The way of a new user: upload, ask, look at the source, say what one thinks of it."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.kb_process import RunKB, Server, printed_json, start_server, stop_server
from tests.e2e.page.conftest import ask, upload

pytestmark = [pytest.mark.slow, pytest.mark.browser]

QUESTION = "How many days of leave does an employee have?"


def test_from_an_upload_to_the_passage_that_an_answer_rests_on(
    page: Page, server: Server, leave_pdf: Path
) -> None:
    upload(page, leave_pdf)
    row = page.get_by_role("row").filter(has_text="indexed")
    expect(row).to_contain_text("Annual leave")
    page.get_by_role("link", name="Chat").click()
    ask(page, QUESTION)
    answer = page.get_by_role("article", name="Answer")
    expect(answer).to_contain_text("27 days of leave")
    answer.get_by_role("button", name="Source 1:").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".cited mark")).to_contain_text("27 days of leave")
    with page.expect_popup() as opened:
        dialog.get_by_role("link", name="Open the whole document").click()
    expect(opened.value.locator("section:target")).to_contain_text("27 days of leave")
    opened.value.close()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    answer.get_by_role("button", name="Good answer").click()
    expect(answer).to_contain_text("Thank you")
    (kept,) = httpx.get(f"{server.url}/v1/admin/feedback").json()["data"]
    assert (kept["question"], kept["rating"]) == (QUESTION, "up")
    assert kept["cited"]
    page.reload()
    page.get_by_text("Conversations", exact=True).click()
    page.get_by_role("button", name=QUESTION).click()
    expect(page.get_by_role("article", name="Answer")).to_contain_text("27 days of leave")


def test_a_refusal_is_marked_in_words(page: Page, leave_pdf: Path) -> None:
    upload(page, leave_pdf)
    page.goto("/")
    ask(page, "Who composed the opera Fidelio?")
    expect(page.get_by_role("article", name="Answer")).to_contain_text("Not in the documents")


def test_a_file_that_cannot_be_read_says_why(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7 and then nothing")
    page.goto("/#documents")
    page.get_by_label("choose files").set_input_files(broken)
    uploads = page.get_by_role("status", name="Uploads")
    expect(uploads.locator(".problem")).not_to_be_empty()
    row = page.get_by_role("row").filter(has_text="failed")
    expect(row).to_contain_text("broken")
    page.on("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)


@pytest.mark.parametrize("away", ["**/v1/runs/*/events", "**/v1/documents?*"])
def test_what_the_server_refuses_is_said(
    chromium: Browser, server: Server, tmp_path: Path, away: str
) -> None:
    (tmp_path / "tea.md").write_text("# Tea")
    page = chromium.new_page(base_url=server.url, locale="en-GB")
    body = '{"error": {"message": "The catalogue is away."}}'
    page.route(away, lambda route: route.fulfill(status=503, body=body))
    page.goto("/#documents")
    if "runs" in away:
        page.get_by_label("choose files").set_input_files(tmp_path / "tea.md")
    expect(page.locator(".problem")).to_contain_text("The catalogue is away.")
    page.close()


def test_names_and_texts_of_documents_stay_text(page: Page, tmp_path: Path) -> None:
    evil = tmp_path / "<img src=x onerror=document.title='gone'>.md"
    evil.write_text(
        "# <script>document.title='gone'</script>\n\n"
        "The <img src=x onerror=\"document.title='gone'\"> wombat digs <b>cubic</b> burrows.",
        "utf-8",
    )
    upload(page, evil)
    page.goto("/")
    ask(page, "What does the wombat dig?")
    answer = page.get_by_role("article", name="Answer")
    expect(answer).to_contain_text("burrows")
    answer.get_by_role("button", name="Source 1:").first.click()
    expect(page.get_by_role("dialog").locator(".cited")).to_contain_text("burrows")
    assert page.title() == "kb"
    assert page.locator("main img, main script, dialog img, dialog script").count() == 0


def test_with_keys_the_page_asks_for_one_and_shows_what_it_may(
    chromium: Browser, data_dir: Path, tmp_path: Path, run_kb: RunKB
) -> None:
    key = printed_json(run_kb("keys", "create", "reader", "--scope", "query", "--json"))["key"]
    server = start_server(["serve"], data_dir, tmp_path)
    try:
        page = chromium.new_page(base_url=server.url, locale="en-GB")
        page.goto("/")
        page.get_by_role("textbox", name="API key").fill("kb-0123456789ab-wrong")
        page.get_by_role("button", name="OK").click()
        page.get_by_role("textbox", name="This API key is not valid").fill(key)
        page.get_by_role("button", name="OK").click()
        expect(page.get_by_label("Your question")).to_be_visible()
        expect(page.get_by_role("link", name="Administration")).to_be_hidden()
        page.get_by_role("link", name="Documents").click()
        expect(page.get_by_label("choose files")).to_have_count(0)
        page.close()
    finally:
        stop_server(server)
