"""Bytes to text, above all short Chinese."""

import json
from pathlib import Path

import pytest

from ingestion.loaders.encoding import decode, looks_binary

SIMPLIFIED = [
    "你好", "中文", "报告", "目录", "合同", "测试", "北京", "价格表", "会议纪要", "联系我们",
    "产品说明书", "年度总结.docx", "你好，世界", "姓名,年龄\n张三,20",
    "本公司的产品质量保证期为十二个月。", "第一章　总则", "API 接口文档 v2.1",
]  # fmt: skip
TRADITIONAL = [
    "你好", "報告", "目錄", "合約", "臺北", "香港", "價格表", "會議紀要", "聯絡我們",
    "產品說明書", "你好，世界", "姓名,年齡\n張三,20", "本公司的產品品質保證期為十二個月。",
]  # fmt: skip
OTHERS = [
    ("cp932", "日本語のテキストです。"), ("cp932", "東京都"), ("euc_jp", "こんにちは世界"),
    ("iso2022_jp", "会議の議事録"), ("cp949", "한국어 문서입니다"), ("cp949", "안녕하세요"),
    ("cp1252", "café"), ("cp1252", "Größe"), ("cp1252", "Der Müller aß Äpfel für fünf Euro."),
    ("cp1252", "Informações não são só opções"), ("cp1251", "Отчёт о продажах за год"),
]  # fmt: skip
XQUAD = Path(__file__).parents[3] / "shared" / "data" / "xquad_zh" / "corpus.jsonl"


@pytest.mark.parametrize("text", SIMPLIFIED)
@pytest.mark.parametrize("encoding", ["gb18030", "utf-8", "utf-8-sig", "utf-16"])
def test_simplified_chinese(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)).text == text


@pytest.mark.parametrize("text", TRADITIONAL)
@pytest.mark.parametrize("encoding", ["big5", "utf-8", "utf-16"])
def test_traditional_chinese(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)).text == text


@pytest.mark.parametrize(("encoding", "text"), OTHERS)
def test_other_languages(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)).text == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text", ["Hello, world.\nSecond line.", "今天我们讨论的问题，是怎样使用这个系统。"]
)
def test_utf_16_without_a_mark(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)).text == text


def test_what_the_file_declares_is_believed_where_it_fits() -> None:
    data = "中文".encode("big5")
    assert decode(data, "big5").text == "中文"
    assert decode("中文和英文".encode(), "gb2312").text == "中文和英文"
    assert decode("我们".encode("gb18030"), "utf-8").text == "我们"


@pytest.mark.parametrize("declared", ["no-such-encoding", "rot13", "base64", "", "\0", "x" * 500])
def test_a_senseless_declaration_is_ignored(declared: str) -> None:
    assert decode("plain 文字".encode(), declared).text == "plain 文字"


def test_damage_is_marked_and_counted() -> None:
    data = ("数据库的索引每天都要检查一次。" * 20).encode() + b"\xff\xfe\xff"
    decoded = decode(data)
    assert decoded.encoding == "utf-8"
    assert decoded.broken == 3
    assert "3 places" in decoded.warnings()[0]


def test_binary_is_told_from_text() -> None:
    import random

    assert looks_binary(random.Random(7).randbytes(4000))
    assert looks_binary(b"\0\0\0\1" * 1000)
    assert not looks_binary("文字".encode("gb18030") * 500)
    assert not looks_binary(("中文" * 5000).encode()[:-1])  # cut within a character
    assert not looks_binary("Some text\n".encode("utf-16-le") * 50)
    assert not looks_binary(b"\x1b[31mred\x1b[0m log line\n" * 50)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "length", "floor"),
    [
        # Measured: .997 at 8 characters, .998 at 100; floors leave room for the random draw.
        ("gb18030", 8, 0.97),
        ("gb18030", 100, 0.99),
        # Measured: .997 and 1.000; without a mark UTF-16 of less than 8 characters is a gamble.
        ("utf-16-le", 16, 0.97),
        ("utf-16-be", 100, 0.97),
    ],
)
def test_share_of_real_sentences_read_rightly(encoding: str, length: int, floor: float) -> None:
    if not XQUAD.is_file():
        pytest.skip(f"public test data is absent: {XQUAD}")
    texts = [json.loads(line)["text"] for line in XQUAD.read_text(encoding="utf-8").splitlines()]
    pieces = [text[start : start + length] for text in texts for start in (0, 37)]
    right = sum(decode(piece.encode(encoding)).text == piece for piece in pieces)
    assert right / len(pieces) >= floor
