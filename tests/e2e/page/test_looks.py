"""For everybody: both languages, light and dark, a phone, the keyboard, a screen reader."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.e2e.kb_process import Server
from tests.e2e.page.conftest import ask, upload

pytestmark = [pytest.mark.slow, pytest.mark.browser]

QUESTION = "How many days of leave does an employee have?"
VIEWS = ("chat", "documents", "admin")
PHONE = {"width": 360, "height": 740}


def show(page: Page, view: str) -> None:
    """The view with something in it."""
    page.goto(f"/#{view}")
    if view == "chat":
        ask(page, QUESTION)
    elif view == "documents":
        expect(page.get_by_role("row").filter(has_text="Annual leave").first).to_be_visible()
    else:
        expect(page.get_by_role("row").filter(has_text="kb-default.1").first).to_be_visible()
        expect(page.get_by_role("row").filter(has_text="embedder").first).to_be_visible()


def serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_nothing_serious_for_axe(page: Page, leave_pdf: Path, colours: str) -> None:
    page.goto("/")
    page.get_by_label("Colours").select_option(colours)
    upload(page, leave_pdf)
    for view in VIEWS:
        show(page, view)
        assert serious(page) == [], view
    page.goto("/#chat")
    ask(page, QUESTION)
    page.get_by_role("button", name="Source 1:").first.click()
    expect(page.get_by_role("dialog").locator("mark")).to_be_visible()
    assert serious(page) == []


def test_chosen_colours_and_language_stay(page: Page) -> None:
    page.goto("/")
    ground = "getComputedStyle(document.body).backgroundColor"
    page.get_by_label("Colours").select_option("light")
    light = page.evaluate(ground)
    page.get_by_label("Colours").select_option("dark")
    assert page.evaluate(ground) != light
    page.get_by_label("Language").select_option("zh")
    expect(page.get_by_role("link", name="文档")).to_be_visible()
    page.reload()
    expect(page.get_by_label("您的问题")).to_be_visible()
    assert page.evaluate(ground) != light
    assert page.evaluate("document.documentElement.lang") == "zh-CN"


def test_both_languages_have_the_same_words(page: Page) -> None:
    page.goto("/")
    words = "import('/web/{}.js').then((module) => Object.keys(module.default).sort())"
    english, chinese = (page.evaluate(words.format(language)) for language in ("en", "zh"))
    assert english == chinese
    assert len(english) > 60


def test_a_reader_of_chinese_is_greeted_in_chinese(chromium: Browser, server: Server) -> None:
    page = chromium.new_page(base_url=server.url, locale="zh-CN")
    page.goto("/")
    expect(page.get_by_role("button", name="提问")).to_be_visible()
    page.close()


def test_a_phone_needs_no_sideways_scrolling(page: Page, leave_pdf: Path) -> None:
    upload(page, leave_pdf)
    page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
    for view in VIEWS:
        show(page, view)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], view


def test_by_keyboard_alone(page: Page, leave_pdf: Path) -> None:
    upload(page, leave_pdf)
    page.goto("/")
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    answer = page.get_by_role("article", name="Answer")
    expect(answer.get_by_role("button", name="Good answer")).to_be_visible()
    chip = answer.get_by_role("button", name="Source 1:").first
    chip.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").locator("mark")).to_be_visible()
    page.keyboard.press("Escape")
    expect(chip).to_be_focused()


def test_an_administrator_sees_figures_runs_and_generations(page: Page, leave_pdf: Path) -> None:
    upload(page, leave_pdf)
    show(page, "admin")
    expect(page.get_by_text("Everything is as it should be.")).to_be_visible()
    expect(page.get_by_role("img", name="Requests a second: now")).to_be_visible()
    runs = page.get_by_role("region", name="Runs")
    expect(runs.get_by_role("row").filter(has_text="upload").first).to_contain_text("done")
    page.get_by_role("button", name="Index anew").click()
    reindex = runs.get_by_role("row").filter(has_text="reindex")
    expect(reindex.first).to_contain_text("done")
    generations = page.get_by_role("region", name="Index generations")
    expect(generations.get_by_role("row").filter(has_text="kb-default.2")).to_contain_text("live")
    page.get_by_role("button", name="Go back to the one before").click()
    expect(generations.get_by_role("row").filter(has_text="kb-default.1")).to_contain_text("live")
