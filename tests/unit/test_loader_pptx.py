"""PowerPoint: slides as pages, shapes of every kind, and shapes that can't be read."""

from pathlib import Path
from typing import Any

import pptx
import pytest
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from ingestion.loaders import LoadLimits, load
from kb.types import BlockKind, ParsedDocument

LIMITS = LoadLimits(max_bytes=10_000_000, max_characters=1_000_000, max_expansion=200)
TITLE_AND_BODY = 1
TITLE_ONLY = 5


@pytest.fixture
def presentation() -> Any:
    return pptx.Presentation()


def add_slide(presentation: Any, title: str, layout: int = TITLE_ONLY) -> Any:
    slide = presentation.slides.add_slide(presentation.slide_layouts[layout])
    slide.shapes.title.text = title
    return slide


def chart_data(*points: tuple[str, float]) -> Any:
    data: Any = CategoryChartData()  # type: ignore[no-untyped-call]
    data.categories = [name for name, _ in points]
    data.add_series("Ducks", [value for _, value in points])
    return data


def loaded(presentation: Any, folder: Path) -> ParsedDocument:
    path = folder / "talk.pptx"
    presentation.save(str(path))
    return load(path, LIMITS)


def test_titles_bullets_and_pages(presentation: Any, tmp_path: Path) -> None:
    add_slide(presentation, "First")
    body = add_slide(presentation, "Second", TITLE_AND_BODY).placeholders[1].text_frame
    body.text = "one"
    paragraph = body.add_paragraph()
    paragraph.text, paragraph.level = "two", 1
    parsed = loaded(presentation, tmp_path)
    assert parsed.title == "First"
    assert [(b.kind, b.text, b.page) for b in parsed.blocks] == [
        (BlockKind.HEADING, "First", 1),
        (BlockKind.HEADING, "Second", 2),
        (BlockKind.LIST, "- one\n  - two", 2),
    ]


def test_tables_charts_groups_and_notes(presentation: Any, tmp_path: Path) -> None:
    slide = add_slide(presentation, "Numbers")
    box = (Inches(1), Inches(1), Inches(4), Inches(2))
    table = slide.shapes.add_table(2, 2, *box).table
    for number, text in enumerate(("year", "sales", "2025", "7")):
        table.cell(number // 2, number % 2).text = text
    data = chart_data(("Q1", 4.4), ("Q2", 2))
    slide.shapes.add_chart(XL_CHART_TYPE.BAR_CLUSTERED, *box, data)
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(*box).text_frame.text = "within a group"
    slide.notes_slide.notes_text_frame.text = "say this slowly"
    text = loaded(presentation, tmp_path).text
    assert "| year | sales |" in text
    assert "| Q1 | 4.4 |" in text
    assert "within a group" in text
    assert "Notes: say this slowly" in text


def test_hidden_slide_is_left_out_with_a_warning(presentation: Any, tmp_path: Path) -> None:
    add_slide(presentation, "Shown")
    add_slide(presentation, "Not shown").element.set("show", "0")
    parsed = loaded(presentation, tmp_path)
    assert parsed.text == "Shown"
    assert parsed.warnings == ("Slide 2 is hidden and was left out.",)


def test_broken_shape_costs_itself_only(presentation: Any, tmp_path: Path) -> None:
    slide = add_slide(presentation, "Title")
    data = chart_data(("Q1", 1))
    box = (Inches(1), Inches(1), Inches(4), Inches(2))
    frame = slide.shapes.add_chart(XL_CHART_TYPE.BAR_CLUSTERED, *box, data)
    slide.shapes.add_textbox(*box).text_frame.text = "after it"
    reference = next(e for e in frame._element.iter() if e.tag.endswith("}chart"))
    reference.set(next(iter(reference.attrib)), "rIdNowhere")
    parsed = loaded(presentation, tmp_path)
    assert [block.text for block in parsed.blocks] == ["Title", "after it"]
    assert "Slide 1" in parsed.warnings[0]
