"""Text, tables, JSON, e-mail, EPUB and XML."""

import json
import zipfile
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest

from ingestion.loaders import LoadLimits, load
from ingestion.loaders.csv_table import find_delimiter
from kb.errors import DocumentError, DocumentTooLarge
from kb.types import Block, FailureCategory, ParsedDocument

LIMITS = LoadLimits(max_bytes=100_000_000, max_characters=100_000_000, max_expansion=200)


def load_bytes(folder: Path, name: str, data: bytes | str) -> ParsedDocument:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return load(path, LIMITS)


def brief(parsed: ParsedDocument) -> list[tuple[str, int, str]]:
    return [(block.kind.value, block.level, block.text) for block in parsed.blocks]


def failure(folder: Path, name: str, data: bytes | str) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        load_bytes(folder, name, data)
    return caught.value


# --- Text ----------------------------------------------------------------------------------------


def test_paragraphs_and_chinese_chapters(tmp_path: Path) -> None:
    parsed = load_bytes(
        tmp_path, "合同.txt", "第一章 总则\n本合同由双方签订。\r\n\r\n第二章讲的是价格，很长。"
    )
    assert parsed.title == "合同"
    assert brief(parsed) == [
        ("heading", 2, "第一章 总则"),
        ("paragraph", 0, "本合同由双方签订。"),
        ("paragraph", 0, "第二章讲的是价格，很长。"),
    ]


def test_restructured_text_and_asciidoc_headings(tmp_path: Path) -> None:
    rst = load_bytes(tmp_path, "a.rst", "Guide\n=====\n\nText.\n\nPart\n----\nMore.\n")
    assert brief(rst) == [
        ("heading", 1, "Guide"),
        ("paragraph", 0, "Text."),
        ("heading", 2, "Part"),
        ("paragraph", 0, "More."),
    ]
    assert rst.title == "Guide"
    assert brief(load_bytes(tmp_path, "a.adoc", "== Part\ntext"))[0] == ("heading", 2, "Part")


def test_code_keeps_its_shape(tmp_path: Path) -> None:
    source = "def f():\n\n    return 1"
    assert brief(load_bytes(tmp_path, "a.py", source)) == [("code", 0, source)]


def test_subtitles_keep_what_is_said(tmp_path: Path) -> None:
    cues = "1\n00:01.000 --> 00:02.000\n<v Ann>Hello <i>all</i>\n\n00:03.000 --> 00:04.000\n你好\n"
    source = f"WEBVTT\n\nNOTE x\n\n{cues}"
    assert load_bytes(tmp_path, "a.vtt", source).text == "Ann: Hello all\n你好"


# --- Tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(delimiter: str) -> None:
    rows = [["name", "note"], ["a", "1,5; x"], ["b", "2"]]
    text = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in rows)
    assert find_delimiter(text) == delimiter


def test_ragged_quoted_and_encoded_table(tmp_path: Path) -> None:
    data = '姓名;备注\n张三;"第一行\n第二行|x"\n李四;a;b\n\n'.encode("gb18030")
    assert load_bytes(tmp_path, "a.csv", data).text == (
        "| 姓名 | 备注 |  |\n| --- | --- | --- |\n| 张三 | 第一行 第二行\\|x |  |\n| 李四 | a | b |"
    )


def test_a_long_table_repeats_its_header(tmp_path: Path) -> None:
    parsed = load_bytes(tmp_path, "a.csv", "id,word\n" + "".join(f"{n},w{n}\n" for n in range(100)))
    assert len(parsed.blocks) == 3
    assert all(block.text.startswith("| id | word |\n| --- | --- |\n| ") for block in parsed.blocks)
    assert "| 99 | w99 |" in parsed.blocks[-1].text


def test_a_quotation_mark_that_is_never_closed(tmp_path: Path) -> None:
    parsed = load_bytes(tmp_path, "a.csv", 'a,b\n1,"2\n' + "3,4\n" * 1000)
    assert "never closed" in parsed.warnings[0]
    assert parsed.text.count("| 3 | 4 |") == 1000


def test_excel_separator_line_and_long_cells(tmp_path: Path) -> None:
    parsed = load_bytes(tmp_path, "a.csv", "sep=;\na,x;b\n" + "z" * 200_000 + ";2\n")
    assert parsed.text.startswith("| a,x | b |")


# --- JSON ----------------------------------------------------------------------------------------


def test_records_become_sections(tmp_path: Path) -> None:
    records = [{"title": "标题", "text": "One.\n\nTwo.", "tags": ["a", "b"], "none": None}]
    assert brief(load_bytes(tmp_path, "a.json", json.dumps(records))) == [
        ("heading", 2, "标题"),
        ("paragraph", 0, "One."),
        ("paragraph", 0, "Two."),
        ("paragraph", 0, "tags: a, b"),
    ]


def test_other_json_becomes_lines(tmp_path: Path) -> None:
    value = {"server": {"port": 80, "on": True, "hosts": [{"name": "x"}]}}
    text = load_bytes(tmp_path, "a.json", json.dumps(value)).text
    assert text == "server.port: 80\nserver.on: true\nserver.hosts[1].name: x"


def test_broken_lines_are_named(tmp_path: Path) -> None:
    parsed = load_bytes(tmp_path, "a.jsonl", '{"text": "one"}\n{broken\n{"text": "two"}\n')
    assert parsed.text == "one\n\ntwo"
    assert parsed.warnings == ("1 lines are not valid JSON and were left out: 2.",)


def test_json_lines_under_another_name(tmp_path: Path) -> None:
    assert load_bytes(tmp_path, "a.json", '{"text": "one"}\n{"text": "two"}').text == "one\n\ntwo"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", "{broken"),
        ("a.jsonl", "{broken\n[\n"),
        ("a.ipynb", "[]"),
        ("a.json", "[" * 100_000),
        ("a.json", "[" * 100_000 + "]" * 100_000),
        ("a.jsonl", '{"a":' * 100_000 + "1" + "}" * 100_000),
        ("a.xml", "<a><b></a>"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "x">]><a>&b;</a>'),
        ("a.eml", "\n\nno headers"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, data: str) -> None:
    assert failure(tmp_path, name, data).category is FailureCategory.BROKEN


def test_lone_surrogates_never_reach_the_text(tmp_path: Path) -> None:
    parsed = load_bytes(tmp_path, "a.json", r'{"a": "x\ud800y", "b": "\u0000z"}')
    assert parsed.text == "a: xy\nb: z"


def test_notebook(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": "x = 1", "outputs": [{"text": "secret"}]},
    ]
    parsed = load_bytes(tmp_path, "a.ipynb", json.dumps({"cells": cells, "nbformat": 4}))
    assert parsed.title == "Title"
    assert brief(parsed)[1:] == [("paragraph", 0, "text"), ("code", 0, "x = 1")]


# --- E-mail --------------------------------------------------------------------------------------


def test_message_with_an_attachment(tmp_path: Path) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@x.org", "b@x.org", "会议通知"
    message.set_content("明天开会。\n\n请准时。")
    message.add_alternative("<p>not this one</p>", subtype="html")
    message.add_attachment(b"data", maintype="application", subtype="pdf", filename="议程.pdf")
    parsed = load_bytes(tmp_path, "a.eml", message.as_bytes())
    assert parsed.title == "会议通知"
    assert parsed.text == "会议通知\n\nFrom: a@x.org\nTo: b@x.org\n\n明天开会。\n\n请准时。"
    assert "议程.pdf was left out" in parsed.warnings[0]


def test_html_message_and_raw_chinese_headers(tmp_path: Path) -> None:
    data = "Subject: 报价单\nContent-Type: text/html; charset=gb2312\n\n<h2>价格</h2><p>十元</p>".encode(
        "gb18030"
    )
    parsed = load_bytes(tmp_path, "a.eml", data)
    assert parsed.title == "报价单"
    assert ("heading", 2, "价格") in brief(parsed)


def test_encrypted_message(tmp_path: Path) -> None:
    data = "Subject: x\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\n\nAAAA"
    assert failure(tmp_path, "a.eml", data).category is FailureCategory.ENCRYPTED


# --- EPUB ----------------------------------------------------------------------------------------

CONTAINER = '<container xmlns="urn:c"><rootfiles><rootfile full-path="OEBPS/p.opf"/></rootfiles></container>'
PACKAGE = """<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">
<metadata><dc:title>书名</dc:title></metadata><manifest>
<item id="two" href="two.xhtml" media-type="application/xhtml+xml"/>
<item id="one" href="a%20b.xhtml" media-type="application/xhtml+xml"/>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="gone" href="gone.xhtml" media-type="application/xhtml+xml"/></manifest>
<spine><itemref idref="nav"/><itemref idref="one"/><itemref idref="two"/><itemref idref="gone"/></spine>
</package>"""
PAGES = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": CONTAINER,
    "OEBPS/p.opf": PACKAGE,
    "OEBPS/a b.xhtml": "<html><body><h1>第一章</h1><p>开始</p></body></html>",
    "OEBPS/two.xhtml": "<html><body><p>end</p></body></html>",
    "OEBPS/nav.xhtml": "<html><body><p>contents</p></body></html>",
}


def book(folder: Path, **changes: str | bytes) -> Path:
    path = folder / "book.epub"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**PAGES, **changes}.items():
            archive.writestr(name, data)
    return path


def test_book_in_spine_order(tmp_path: Path) -> None:
    parsed = load(book(tmp_path), LIMITS)
    assert parsed.title == "书名"
    assert brief(parsed) == [
        ("heading", 1, "第一章"),
        ("paragraph", 0, "开始"),
        ("paragraph", 0, "end"),
    ]
    assert parsed.warnings == ("Pages that the book names and does not hold: OEBPS/gone.xhtml.",)


def test_protected_book(tmp_path: Path) -> None:
    scheme = (
        '<enc><EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/></enc>'
    )
    with pytest.raises(DocumentError) as caught:
        load(book(tmp_path, **{"META-INF/encryption.xml": scheme}), LIMITS)
    assert caught.value.category is FailureCategory.ENCRYPTED


def test_obfuscated_fonts_are_no_protection(tmp_path: Path) -> None:
    scheme = '<enc><EncryptionMethod Algorithm="http://www.idpf.org/2008/embedding"/></enc>'
    assert load(book(tmp_path, **{"META-INF/encryption.xml": scheme}), LIMITS).blocks


def test_zip_bomb(tmp_path: Path) -> None:
    with pytest.raises(DocumentTooLarge, match="MAX_EXPANSION"):
        load(book(tmp_path, **{"OEBPS/two.xhtml": bytes(50_000_000)}), LIMITS)


def test_a_page_named_without_end_is_read_once(tmp_path: Path) -> None:
    """And pages that are not there make no list without end."""
    items = "".join(
        f'<item id="i{number}" href="{href}" media-type="application/xhtml+xml"/>'
        for number, href in enumerate(("one.xhtml", "./a/../one.xhtml", *map(str, range(1000))))
    )
    spine = '<itemref idref="i0"/><itemref idref="i1"/>' * 50_000
    spine += "".join(f'<itemref idref="i{number}"/>' for number in range(1002))
    package = f"<package><manifest>{items}</manifest><spine>{spine}</spine></package>"
    path = book(
        tmp_path, **{"OEBPS/p.opf": package, "OEBPS/one.xhtml": "<html><p>Once.</p></html>"}
    )
    parsed = load(path, replace(LIMITS, max_expansion=100_000))
    assert [block.text for block in parsed.blocks] == ["Once."]
    (warning,) = parsed.warnings
    assert warning.endswith("and 995 more.")
    assert len(warning) < 200


@pytest.mark.parametrize("missing", ["META-INF/container.xml", "OEBPS/p.opf"])
def test_book_without_its_list_of_parts(tmp_path: Path, missing: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load(book(tmp_path, **{missing: "<broken"}), LIMITS)
    assert caught.value.category is FailureCategory.BROKEN


# --- XML -----------------------------------------------------------------------------------------


def test_xml_records_and_running_text(tmp_path: Path) -> None:
    source = """<?xml version="1.0" encoding="gb2312"?><doc><title>目录</title>
    <item><price>30</price><name>茶</name></item><p>A <b>bold</b> word.</p></doc>""".encode(
        "gb18030"
    )
    parsed = load_bytes(tmp_path, "a.xml", source)
    assert parsed.title == "目录"
    assert [block.text for block in parsed.blocks] == [
        "目录",
        "price: 30\nname: 茶",
        "A bold word.",
    ]


def test_xml_a_hundred_thousand_levels(tmp_path: Path) -> None:
    parsed = load_bytes(tmp_path, "a.xml", "<a>" * 100_000 + "core" + "</a>" * 100_000)
    assert parsed.blocks == (Block("a: core"),)
