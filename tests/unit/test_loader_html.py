"""HTML and Markdown."""

from pathlib import Path

import pytest

from ingestion.loaders import LoadLimits, load
from ingestion.loaders.html import read_html
from ingestion.loaders.markdown import read_markdown
from kb.types import Block, BlockKind, ParsedDocument

LIMITS = LoadLimits(max_bytes=100_000_000, max_characters=100_000_000, max_expansion=200)


def html(source: str) -> list[tuple[str, int, str]]:
    return [_brief(block) for block in read_html(source)[1]]


def markdown(source: str) -> list[tuple[str, int, str]]:
    return [_brief(block) for block in read_markdown(source)[1]]


def _brief(block: Block) -> tuple[str, int, str]:
    return block.kind.value, block.level, block.text


def load_text(folder: Path, name: str, source: str | bytes) -> ParsedDocument:
    path = folder / name
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return load(path, LIMITS)


def test_headings_paragraphs_and_loose_text() -> None:
    assert html("loose<h2>A <b>bold</b>  title</h2><p>One<br>two</p>end<h7>x</h7>") == [
        ("paragraph", 0, "loose"),
        ("heading", 2, "A bold title"),
        ("paragraph", 0, "One\ntwo"),
        ("paragraph", 0, "endx"),
    ]


def test_noise_is_left_out_and_alternative_text_kept() -> None:
    source = """<nav>menu</nav><script>x()</script><style>p{}</style><template>t</template>
    <p hidden>no</p><p style="display: none">no</p><p>yes <img alt="a cat" src=x></p><!-- no -->"""
    assert html(source) == [("paragraph", 0, "yes a cat")]


def test_the_main_element_is_the_page_where_it_holds_most_of_it() -> None:
    body = "<main><p>" + "content " * 20 + "</p></main>"
    assert "aside" not in str(html(f"<body><div>aside</div>{body}</body>"))
    assert "aside" in str(html("<body><div>" + "aside " * 50 + "</div><main>x</main></body>"))


def test_nested_lists_and_code_within_a_list() -> None:
    source = "<ol start=3><li>a<ul><li>b</ul><li>c<pre>x = 1\n  y</pre><li>d</ol>"
    assert html(source) == [
        ("list", 0, "3. a\n  - b\n4. c"),
        ("code", 0, "x = 1\n  y"),
        ("list", 0, "5. d"),
    ]


def test_definition_lists() -> None:
    assert html("<dl><dt>Term</dt><dd>Meaning</dd></dl>") == [("list", 0, "- Term\n  Meaning")]


def test_tables_with_spans_pipes_and_captions() -> None:
    source = """<table><caption>Sales</caption><tr><th>Year<th colspan=2>Total
    <tr><td rowspan=2><i hidden>x</i>2024<td>1|2<td>a<br>b<tr><td>3<td>4</table>"""
    assert html(source) == [
        ("paragraph", 0, "Sales"),
        (
            "table",
            0,
            "| Year | Total | Total |\n| --- | --- | --- |\n"
            "| 2024 | 1\\|2 | a b |\n| 2024 | 3 | 4 |",
        ),
    ]


def test_layout_tables_are_read_through() -> None:
    source = "<table><tr><td><h1>T</h1><p>text</p><td><table><tr><td>a<td>b</table></table>"
    assert html(source) == [
        ("heading", 1, "T"),
        ("paragraph", 0, "text"),
        ("table", 0, "| a | b |\n| --- | --- |"),
    ]


def test_a_line_end_between_chinese_characters_is_no_space() -> None:
    assert html("<p>中文\n  换行，\nEnglish\nwords</p>") == [
        ("paragraph", 0, "中文换行， English words")
    ]


def test_declared_charset_and_title(tmp_path: Path) -> None:
    source = '<meta charset="gb2312"><title> 标题 &amp; 其他 </title><p>正文</p>'.encode("gb18030")
    parsed = load_text(tmp_path, "a.html", source)
    assert (parsed.title, parsed.text) == ("标题 & 其他", "正文")


@pytest.mark.timeout(60)
def test_a_hundred_thousand_levels(tmp_path: Path) -> None:
    parsed = load_text(tmp_path, "deep.html", "<div>" * 100_000 + "core" + "</div>" * 100_000)
    assert parsed.text == "core"
    assert "nested too deeply" in parsed.warnings[0]
    lists = load_text(tmp_path, "lists.html", "<ul><li>x" * 2000)
    assert lists.text.count("x") == 2000


def test_markdown_keeps_what_is_visible() -> None:
    source = (
        "# A `b` [link](http://x)\n\nText **bold** ![alt](i.png) <!-- no -->\n\n- one\n  - two\n"
    )
    assert markdown(source) == [
        ("heading", 1, "A b link"),
        ("paragraph", 0, "Text bold alt"),
        ("list", 0, "- one\n  - two"),
    ]


def test_markdown_tables_code_and_html() -> None:
    source = "|a|b|\n|-|-|\n|1|`x`|\n\n```py\n# not a heading <tag>\n```\n\n<details><summary>S</summary>D</details>"
    assert markdown(source) == [
        ("table", 0, "| a | b |\n| --- | --- |\n| 1 | x |"),
        ("code", 0, "# not a heading <tag>"),
        ("paragraph", 0, "S"),
        ("paragraph", 0, "D"),
    ]


def test_placeholders_are_text() -> None:
    assert markdown("Send <YOUR_KEY> to <your-host>.") == [
        ("paragraph", 0, "Send <YOUR_KEY> to <your-host>.")
    ]


def test_documentation_site_syntax() -> None:
    source = """---
title: "Install"
description: How to install.
---
import Tabs from '@theme/Tabs';

:::note Take care
Mind **this**.
:::

<Tabs>
<TabItem value="yaml" label="YAML" default>

```js
import x from 'y';
:::note
```

</TabItem>
</Tabs>
"""
    title, blocks, _ = read_markdown(source)
    assert title == "Install"
    assert [_brief(block) for block in blocks] == [
        ("paragraph", 0, "How to install."),
        ("paragraph", 0, "Take care"),
        ("paragraph", 0, "Mind this."),
        ("paragraph", 0, "YAML"),
        ("code", 0, "import x from 'y';\n:::note"),
    ]


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("---\ntitle: 前言\n---\n# Other", "前言"),
        ("# First\n# Second", "First"),
        ("words", "notes"),
    ],
)
def test_title_of_markdown(tmp_path: Path, source: str, title: str) -> None:
    assert load_text(tmp_path, "notes.md", source).title == title


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".md", ".txt", ".html", ".csv"])
def test_one_line_of_fifty_megabytes(tmp_path: Path, suffix: str) -> None:
    parsed = load_text(tmp_path, f"long{suffix}", b"word " * 10_000_000)
    assert parsed.text.count("word") == 10_000_000


@pytest.mark.parametrize("opening", ["[", "*a ", "> ", "- ", "`", "![", "<a>", "**", "|a"])
def test_pathological_markdown(opening: str) -> None:
    assert len(read_markdown(opening * 4_000)[1]) >= 0


def test_output_is_always_encodable(tmp_path: Path) -> None:
    source = "text " * 50 + "a\x00b\x08c\r\nd\u2028e &#xD800; &#0; \ufeff\u200bf"
    for name in ("a.md", "a.html", "a.txt", "a.csv"):
        parsed = load_text(tmp_path, name, source)
        text = parsed.text.encode("utf-8").decode("utf-8")
        assert not any(ch < " " and ch not in "\n\t" for ch in text), name


def test_kinds_are_the_products_own() -> None:
    assert {kind for kind, _, _ in html("<h1>a</h1><p>b</p>")} <= {kind.value for kind in BlockKind}
