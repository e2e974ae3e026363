"""Word: structure, what python-docx's own walk leaves out, and damaged packages."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from ingestion.loaders import LoadLimits, load
from kb.errors import DocumentError
from kb.types import BlockKind, FailureCategory, ParsedDocument

LIMITS = LoadLimits(max_bytes=10_000_000, max_characters=1_000_000, max_expansion=200)
W = nsdecls("w")
STRICT = {
    b"http://schemas.openxmlformats.org/officeDocument/2006/": b"http://purl.oclc.org/ooxml/officeDocument/",
    b"http://schemas.openxmlformats.org/wordprocessingml/2006/": b"http://purl.oclc.org/ooxml/wordprocessingml/",
}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    def save(document: Any) -> Path:
        path = tmp_path / "report.docx"
        document.save(str(path))
        return path

    return save


def append(document: Any, xml: str) -> None:
    body = document.element.body
    body.insert(len(body) - 1, parse_xml(xml))


def texts(parsed: ParsedDocument) -> list[str]:
    return [block.text for block in parsed.blocks]


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    copy = path.with_name("changed.docx")
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return copy


def test_headings_lists_and_title(saved: Callable[[Any], Path]) -> None:
    document = docx.Document()
    document.add_paragraph("Annual report", style="Title")
    document.add_heading("Scope", level=2)
    document.add_paragraph("Plain words.")
    document.add_paragraph("first", style="List Number")
    document.add_paragraph("second", style="List Number")
    parsed = load(saved(document), LIMITS)
    assert parsed.title == "Annual report"
    assert [(block.kind, block.level) for block in parsed.blocks] == [
        (BlockKind.HEADING, 1),
        (BlockKind.HEADING, 2),
        (BlockKind.PARAGRAPH, 0),
        (BlockKind.LIST, 0),
    ]
    assert parsed.blocks[-1].text == "1. first\n2. second"


def test_chinese_numbers_that_word_counts_itself(saved: Callable[[Any], Path]) -> None:
    document = docx.Document()
    numbering = document.part.numbering_part.element
    numbering.insert(
        0,
        parse_xml(
            f'<w:abstractNum {W} w:abstractNumId="99"><w:lvl w:ilvl="0"><w:start w:val="11"/>'
            '<w:numFmt w:val="chineseCounting"/><w:lvlText w:val="第%1条"/></w:lvl></w:abstractNum>'
        ),
    )
    numbering.append(parse_xml(f'<w:num {W} w:numId="77"><w:abstractNumId w:val="99"/></w:num>'))
    for text in ("合同的生效", "合同的终止"):
        append(
            document,
            f'<w:p {W}><w:pPr><w:numPr><w:ilvl w:val="0"/><w:numId w:val="77"/></w:numPr></w:pPr>'
            f"<w:r><w:t>{text}</w:t></w:r></w:p>",
        )
    assert texts(load(saved(document), LIMITS)) == ["第十一条 合同的生效\n第十二条 合同的终止"]


def test_merged_cells_stand_at_each_place(saved: Callable[[Any], Path]) -> None:
    document = docx.Document()
    table = document.add_table(rows=3, cols=3)
    for row, values in zip(table.rows, ("abc", "def", "ghi"), strict=True):
        for cell, value in zip(row.cells, values, strict=True):
            cell.text = value
    table.cell(0, 1).merge(table.cell(0, 2)).text = "wide"
    table.cell(1, 0).merge(table.cell(2, 0)).text = "tall"
    lines = texts(load(saved(document), LIMITS))[0].split("\n")
    assert lines == [
        "| a | wide | wide |",
        "| --- | --- | --- |",
        "| tall | e | f |",
        "| tall | h | i |",
    ]


def test_inserted_text_stays_deleted_and_hidden_text_goes(saved: Callable[[Any], Path]) -> None:
    document = docx.Document()
    append(
        document,
        f"<w:p {W}><w:r><w:t>kept </w:t></w:r><w:ins><w:r><w:t>inserted</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r></w:p>",
    )
    assert texts(load(saved(document), LIMITS)) == ["kept inserted"]


def test_content_controls_and_text_boxes(saved: Callable[[Any], Path]) -> None:
    document = docx.Document()
    append(
        document,
        f"<w:sdt {W}><w:sdtContent><w:p><w:r><w:t>in a control</w:t></w:r></w:p></w:sdtContent></w:sdt>",
    )
    box = "<w:txbxContent><w:p><w:r><w:t>in a box</w:t></w:r></w:p></w:txbxContent>"
    append(
        document,
        f'<w:p {W} xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"><w:r>'
        f"<mc:AlternateContent><mc:Choice Requires='wps'>{box}</mc:Choice>"
        f"<mc:Fallback><w:pict>{box}</w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>",
    )
    assert texts(load(saved(document), LIMITS)) == ["in a control", "in a box"]


def test_equations_read_in_a_line(saved: Callable[[Any], Path]) -> None:
    document = docx.Document()
    m = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    append(
        document,
        f'<w:p {W} xmlns:m="{m}"><m:oMath><m:r><m:t>y=</m:t></m:r><m:f><m:num><m:r><m:t>a+b</m:t></m:r>'
        "</m:num><m:den><m:sSup><m:e><m:r><m:t>c</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup>"
        "</m:sSup></m:den></m:f></m:oMath></w:p>",
    )
    assert texts(load(saved(document), LIMITS)) == ["y=(a+b)/(c^2)"]


def test_strict_dialect(saved: Callable[[Any], Path]) -> None:
    document = docx.Document()
    document.add_heading("Strictly", level=1)

    def strict(_name: str, content: bytes) -> bytes:
        for transitional, other in STRICT.items():
            content = content.replace(transitional, other)
        return content

    parsed = load(rewritten(saved(document), strict), LIMITS)
    assert (parsed.blocks[0].kind, parsed.blocks[0].text) == (BlockKind.HEADING, "Strictly")


def test_relation_to_a_missing_part_costs_nothing(saved: Callable[[Any], Path]) -> None:
    document = docx.Document()
    document.add_paragraph("still here")

    def dangling(name: str, content: bytes) -> bytes:
        if name != "word/_rels/document.xml.rels":
            return content
        kind = b"http://schemas.openxmlformats.org/officeDocument/2006/relationships/image"
        link = (
            b'<Relationship Id="rId99" Type="' + kind + b'" Target="media/NULL"/></Relationships>'
        )
        return content.replace(b"</Relationships>", link)

    assert texts(load(rewritten(saved(document), dangling), LIMITS)) == ["still here"]


@pytest.mark.parametrize("depth", [60, 5000])
def test_deep_nesting_is_read_or_refused(saved: Callable[[Any], Path], depth: int) -> None:
    document = docx.Document()
    document.add_paragraph("DEEP")
    nested = (
        b"<w:tbl><w:tr><w:tc>" * depth
        + b"<w:p><w:r><w:t>x</w:t></w:r></w:p>"
        + b"</w:tc></w:tr></w:tbl>" * depth
    )

    def deep(name: str, content: bytes) -> bytes:
        return (
            content.replace(b"<w:sectPr", nested + b"<w:sectPr", 1)
            if name == "word/document.xml"
            else content
        )

    path = rewritten(saved(document), deep)
    if depth == 60:
        assert texts(load(path, LIMITS)) == ["DEEP", "x"]
    else:
        with pytest.raises(DocumentError) as raised:
            load(path, LIMITS)
        assert raised.value.category is FailureCategory.BROKEN


def test_truncated_package_is_broken(saved: Callable[[Any], Path]) -> None:
    document = docx.Document()
    document.add_paragraph("words")
    path = saved(document)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DocumentError) as raised:
        load(path, LIMITS)
    assert raised.value.category is FailureCategory.BROKEN


def test_entities_are_not_expanded(saved: Callable[[Any], Path]) -> None:
    document = docx.Document()
    document.add_paragraph("MARK")

    def bomb(name: str, content: bytes) -> bytes:
        if name != "word/document.xml":
            return content
        entities = (
            b'<!DOCTYPE d [<!ENTITY a "' + b"x" * 1000 + b'"><!ENTITY b "' + b"&a;" * 1000 + b'">]>'
        )
        declaration, _, rest = content.partition(b"?>")
        return declaration + b"?>" + entities + rest.replace(b"MARK", b"MARK &b;")

    path = rewritten(saved(document), bomb)
    try:
        assert len(load(path, LIMITS).text) < 100
    except DocumentError as error:
        assert error.category is FailureCategory.BROKEN  # noqa: PT017 (either outcome is safe)
