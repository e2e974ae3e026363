"""PDF: structure from places and sizes, tables from rules, and files that can't be read."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from ingestion.loaders import LoadLimits, load
from ingestion.loaders.pdf_layout import across_pages, grouped
from ingestion.loaders.pdf_lines import Line
from ingestion.loaders.pdf_text import joined
from kb.errors import DocumentError
from kb.types import BlockKind, FailureCategory

LIMITS = LoadLimits(max_bytes=10_000_000, max_characters=1_000_000, max_expansion=200)
LEFT, TOP, PITCH = 72.0, 720.0, 14.0
PROSE = (
    "The first line of this paragraph goes on to the right margin and then it conti-",
    "nues on the second line of the very same paragraph up to the right margin, too.",
    "It ends here.",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "paper.pdf"


def write(
    canvas: Canvas,
    lines: Sequence[str],
    top: float = TOP,
    font: str = "Helvetica",
    size: float = 11,
) -> None:
    canvas.setFont(font, size)
    for number, line in enumerate(lines):
        canvas.drawString(LEFT, top - number * PITCH * size / 11, line)


def line(text: str, top: float = 0, left: float = 0, right: float = 100, page: int = 1) -> Line:
    return Line(text, page, left, top, right, top + 12, 12)


def test_paragraphs_flow_and_headings_stand_out(path: Path) -> None:
    canvas = Canvas(str(path), A4)
    write(canvas, ["A study of ducks"], 770, size=22)
    write(canvas, ["Where they live"], 745, "Helvetica-Bold", 15)
    write(canvas, PROSE)
    canvas.save()
    parsed = load(path, LIMITS)
    assert parsed.title == "A study of ducks"
    assert [(b.kind, b.level, b.page) for b in parsed.blocks] == [
        (BlockKind.HEADING, 1, 1),
        (BlockKind.HEADING, 2, 1),
        (BlockKind.PARAGRAPH, 0, 1),
    ]
    assert parsed.blocks[2].text.startswith("The first line of this paragraph")
    assert "it continues on the second" in parsed.blocks[2].text
    assert "\n" not in parsed.blocks[2].text


def test_chinese_lines_are_joined_without_spaces(path: Path) -> None:
    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    canvas = Canvas(str(path), A4)
    write(
        canvas,
        ["知识库服务器可以在本地运行并且回答关于文档的各种", "问题，每个回答都附有引用。"],
        font="STSong-Light",
    )
    canvas.save()
    parsed = load(path, LIMITS)
    assert (
        parsed.text == "知识库服务器可以在本地运行并且回答关于文档的各种问题，每个回答都附有引用。"
    )


def test_running_lines_and_page_numbers_are_dropped(path: Path) -> None:
    canvas = Canvas(str(path), A4)
    for number in range(1, 6):
        write(canvas, [f"Handbook, edition {number}"], 810)
        write(canvas, [f"Chapter text number {number} is not repeated."])
        write(canvas, [f"- {number} -"], 30)
        canvas.showPage()
    canvas.save()
    parsed = load(path, LIMITS)
    assert "Handbook" not in parsed.text
    assert [(b.text, b.page) for b in parsed.blocks] == [
        (f"Chapter text number {number} is not repeated.", number) for number in range(1, 6)
    ]


def test_outline_gives_levels(path: Path) -> None:
    canvas = Canvas(str(path), A4)
    for level, title in enumerate(("Installation", "On Windows")):
        canvas.bookmarkPage(title)
        canvas.addOutlineEntry(title, title, level)
        write(canvas, [title], 760 - level * 60)
        write(canvas, ["This is body text below the heading."], 735 - level * 60)
    canvas.save()
    headings = [(b.text, b.level) for b in load(path, LIMITS).blocks if b.kind is BlockKind.HEADING]
    assert headings == [("Installation", 1), ("On Windows", 2)]


def test_ruled_table(path: Path) -> None:
    canvas = Canvas(str(path), A4)
    write(canvas, ["Text before the table."], 780)
    xs, ys = [72, 172, 272, 372], [740, 720, 700, 680]
    canvas.grid(xs, ys)
    canvas.setFont("Helvetica", 11)
    rows = (("name", "year", "ducks"), ("lake", "2024", "7"), ("pond", "2025", "9"))
    for y, row in zip(ys, rows, strict=False):
        for x, text in zip(xs, row, strict=False):
            canvas.drawString(x + 4, y - 14, text)
    write(canvas, ["Text after the table."], 640)
    canvas.save()
    assert [block.text for block in load(path, LIMITS).blocks] == [
        "Text before the table.",
        "| name | year | ducks |\n| --- | --- | --- |\n| lake | 2024 | 7 |\n| pond | 2025 | 9 |",
        "Text after the table.",
    ]


def test_frame_around_text_is_no_table(path: Path) -> None:
    canvas = Canvas(str(path), A4)
    canvas.grid([60, 65, 530, 540], [740, 735, 660, 650])
    write(canvas, PROSE)
    canvas.save()
    assert all(block.kind is BlockKind.PARAGRAPH for block in load(path, LIMITS).blocks)


def test_turned_page_reads_like_an_upright_one(path: Path) -> None:
    canvas = Canvas(str(path), A4)
    canvas.setPageRotation(90)
    canvas.translate(A4[0], 0)
    canvas.rotate(90)
    write(canvas, ["Sideways title"], 500, size=22)
    write(canvas, PROSE, 470)
    canvas.save()
    parsed = load(path, LIMITS)
    assert parsed.blocks[0].kind is BlockKind.HEADING
    assert "it continues on the second" in parsed.blocks[1].text


@pytest.mark.parametrize(("user_password", "readable"), [("secret", False), ("", True)])
def test_passwords(path: Path, user_password: str, readable: bool) -> None:
    encryption = StandardEncryption(user_password, ownerPassword="owner", canModify=0, strength=128)
    canvas = Canvas(str(path), A4, encrypt=encryption)
    write(canvas, PROSE)
    canvas.save()
    if readable:
        assert "second line" in load(path, LIMITS).text
    else:
        with pytest.raises(DocumentError) as raised:
            load(path, LIMITS)
        assert raised.value.category is FailureCategory.ENCRYPTED


def test_pages_without_text_say_what_to_do(path: Path) -> None:
    canvas = Canvas(str(path), A4)
    canvas.rect(100, 100, 200, 200, fill=1)
    canvas.save()
    with pytest.raises(DocumentError, match="ocrmypdf") as raised:
        load(path, LIMITS)
    assert raised.value.category is FailureCategory.NO_TEXT


def test_one_page_without_text_is_a_warning(path: Path) -> None:
    canvas = Canvas(str(path), A4)
    write(canvas, PROSE)
    canvas.showPage()
    canvas.rect(100, 100, 200, 200, fill=1)
    canvas.save()
    assert load(path, LIMITS).warnings[0].startswith("No text on page 2.")


def test_damaged_file_is_broken(path: Path) -> None:
    path.write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 20)
    with pytest.raises(DocumentError) as raised:
        load(path, LIMITS)
    assert raised.value.category is FailureCategory.BROKEN


def test_hyphens_at_line_ends_follow_the_documents_own_words() -> None:
    known = frozenset({"firming", "chat-optimised", "multi", "agent"})
    assert joined([line("con-"), line("firming", 14)], known) == "confirming"
    assert joined([line("chat-"), line("optimised", 14)], known) == "chat-optimised"
    assert joined([line("multi-"), line("agent", 14)], known) == "multi-agent"


def test_line_ends_that_were_meant_stay() -> None:
    address = [
        line("Duck Lane 5", 0, right=40),
        line("12345 Pondtown", 14, right=50),
        line("a longer line", 28),
    ]
    assert joined(address, frozenset()).split("\n")[:2] == ["Duck Lane 5", "12345 Pondtown"]


def test_paragraph_across_two_pages_is_whole() -> None:
    groups = [*grouped([line("it goes on", 700, page=1)]), *grouped([line("and on.", 50, page=2)])]
    assert [len(group.lines) for group in across_pages(groups, 12)] == [2]
    separate = [*grouped([line("It ends.", 700, page=1)]), *grouped([line("New one.", 50, page=2)])]
    assert len(across_pages(separate, 12)) == 2


def test_rows_of_figures_keep_their_lines() -> None:
    rows = [line("year ducks geese", 0), line("2024 17 3", 14), line("2025 12 9", 28)]
    assert joined(rows, frozenset()) == "year ducks geese\n2024 17 3\n2025 12 9"
