"""Chunks: exact spans, nothing lost, nothing over budget, and stable under edits elsewhere."""

import json
import random
import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from ingestion.chunking import PREFIX_TOKENS, Chunker, token_counter
from ingestion.packing import Boundary, Unit, pack
from ingestion.sentences import sentence_spans
from kb.types import Block, BlockKind, Chunk, ParsedDocument
from retrieval.embedders.hashing import HashingEmbedder

MAX_TOKENS = 128
DATA = Path(__file__).parents[3] / "shared" / "data"
Count = Callable[[str], int]


@pytest.fixture(scope="module")
def count(tmp_path_factory: pytest.TempPathFactory) -> Count:
    return token_counter(HashingEmbedder(tmp_path_factory.mktemp("tokenizer")).tokenizer_file)


@pytest.fixture
def chunker(count: Count) -> Chunker:
    return Chunker(count, MAX_TOKENS)


def heading(text: str, level: int = 1) -> Block:
    return Block(text, BlockKind.HEADING, level)


def document(*blocks: Block | str, title: str = "Guide") -> ParsedDocument:
    placed = tuple(Block(block) if isinstance(block, str) else block for block in blocks)
    return ParsedDocument(title, placed, "text/plain")


def words(count: int, word: str = "word") -> str:
    return " ".join(f"{word}{number}" for number in range(count))


def sentences(count: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return " ".join(
        f"Sentence {rng.randrange(10**6)} says {words(rng.randrange(3, 15))}." for _ in range(count)
    )


def assert_sound(parsed: ParsedDocument, chunks: tuple[Chunk, ...], count: Count) -> None:
    """What holds for every document."""
    text = parsed.text
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text.strip()
        assert chunk.tokens == count(chunk.passage)
        assert chunk.tokens + PREFIX_TOKENS <= MAX_TOKENS
    for one, following in pairwise(chunks):
        assert one.end <= following.start
    assert_nothing_lost(parsed, chunks)


def assert_nothing_lost(parsed: ParsedDocument, chunks: tuple[Chunk, ...]) -> None:
    covered = bytearray(len(parsed.text))
    for chunk in chunks:
        covered[chunk.start : chunk.end] = b"\x01" * (chunk.end - chunk.start)
    paths = {part for chunk in chunks for part in chunk.heading_path}
    start = 0
    for block in parsed.blocks:
        lost = "".join(
            character
            for place, character in enumerate(block.text, start)
            if not covered[place] and not character.isspace()
        )
        in_a_path = block.kind is BlockKind.HEADING and " ".join(block.text.split()) in paths
        assert not lost or in_a_path, f"lost: {lost[:80]!r}"
        start += len(block.text) + 2


# --- Headings ---


def test_each_section_has_its_own_chunk_with_its_path(chunker: Chunker) -> None:
    parsed = document(
        heading("Guide"), words(70, "intro"), heading("Install", 2), heading("Docker", 3),
        words(70, "docker"), heading("Use", 2), words(70, "use"),
    )  # fmt: skip
    chunks = chunker.chunks(parsed, "d")
    assert [chunk.heading_path for chunk in chunks] == [
        ("Guide",), ("Guide", "Install", "Docker"), ("Guide", "Use"),
    ]  # fmt: skip
    assert chunks[1].text == words(70, "docker")
    assert chunks[1].passage.startswith("Guide\nInstall > Docker\ndocker0 ")


def test_small_siblings_share_a_chunk_under_their_parent(chunker: Chunker) -> None:
    parsed = document(
        heading("Options"), heading("host", 2), "The address.", heading("port", 2), "The port.",
        heading("Notes"), words(80),
    )  # fmt: skip
    first, second = chunker.chunks(parsed, "d")
    assert first.text == "host\n\nThe address.\n\nport\n\nThe port."
    assert first.heading_path == ("Options",)
    assert second.heading_path == ("Notes",)


def test_sections_under_different_parents_are_not_merged(chunker: Chunker) -> None:
    parsed = document(heading("A"), heading("a", 2), "One.", heading("B"), heading("b", 2), "Two.")
    assert [c.heading_path for c in chunker.chunks(parsed, "d")] == [("A", "a"), ("B", "b")]


def test_a_document_of_headings_only_has_a_chunk(chunker: Chunker, count: Count) -> None:
    parsed = document(heading("Agenda"), heading("Welcome", 2), heading("Questions", 2))
    chunks = chunker.chunks(parsed, "d")
    assert [chunk.text for chunk in chunks] == ["Welcome\n\nQuestions"]
    assert chunks[0].heading_path == ("Agenda",)
    assert_sound(parsed, chunks, count)


def test_an_empty_document_has_no_chunks(chunker: Chunker) -> None:
    assert chunker.chunks(document(), "d") == ()
    assert chunker.chunks(document("  \n "), "d") == ()


def test_endless_headings_leave_room_for_the_text(chunker: Chunker, count: Count) -> None:
    deep = [heading(words(10, f"level{level}-"), min(level, 6)) for level in range(1, 7)]
    parsed = document(*deep, sentences(40), title=words(500, "title"))
    chunks = chunker.chunks(parsed, "d")
    assert all(chunk.title.endswith("…") for chunk in chunks)
    assert all(chunk.heading_path[0] == "…" for chunk in chunks)
    assert max(count(chunk.text) for chunk in chunks) > MAX_TOKENS / 3
    for chunk in chunks:
        assert chunk.tokens + PREFIX_TOKENS <= MAX_TOKENS


# --- Blocks ---


def test_a_table_that_fits_stays_whole(chunker: Chunker) -> None:
    table = "| Name | Price |\n| --- | --- |\n| tea | 2 |\n| coffee | 3 |"
    parsed = document(words(70), Block(table, BlockKind.TABLE), words(70))
    assert any(table in chunk.text for chunk in chunker.chunks(parsed, "d"))


def test_later_parts_of_a_long_table_name_the_columns(chunker: Chunker, count: Count) -> None:
    rows = [f"| item{number} | {number} |" for number in range(80)]
    table = "\n".join(["| Name | Price |", "| --- | --- |", *rows])
    parsed = document(heading("Prices"), "All in euro:", Block(table, BlockKind.TABLE))
    chunks = chunker.chunks(parsed, "d")
    assert len(chunks) > 3
    for chunk in chunks[1:]:
        assert chunk.heading_path == ("Prices", "Name | Price")
        assert all(line.startswith("|") and line.endswith("|") for line in chunk.text.split("\n"))
    assert_sound(parsed, chunks, count)


def test_code_is_cut_between_lines(chunker: Chunker, count: Count) -> None:
    code = "\n".join(f"    value_{number} = compute({number})" for number in range(60))
    parsed = document(Block(code, BlockKind.CODE))
    chunks = chunker.chunks(parsed, "d")
    lines = set(code.split("\n"))
    assert len(chunks) > 1
    assert all(line in lines for chunk in chunks for line in chunk.text.split("\n"))
    assert_sound(parsed, chunks, count)


def test_a_page_number_is_that_of_the_first_block(chunker: Chunker) -> None:
    parsed = document(Block(words(70), page=3), Block(words(70), page=4))
    assert [chunk.page for chunk in chunker.chunks(parsed, "d")] == [3, 4]


def test_equal_passages_have_different_ids_and_equal_hashes(chunker: Chunker) -> None:
    parsed = document(words(100), words(100), words(100))
    chunks = chunker.chunks(parsed, "d")
    assert len({chunk.id for chunk in chunks}) == 3
    assert len({chunk.text_hash for chunk in chunks}) == 1


# --- Sentences ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("他说：“好。”然后走了。真的？是；对", ["他说：“好。”", "然后走了。", "真的？", "是；", "对"]),
        ("「走吧！」他说。『不。』", ["「走吧！」", "他说。", "『不。』"]),
        ("Dr. Smith met J. Doe, e.g. here. End.", ["Dr. Smith met J. Doe, e.g. here.", "End."]),
        ("Version 1.2.3 is out. See kb.toml now.", ["Version 1.2.3 is out.", "See kb.toml now."]),
        ("See Fig. 3 or No. 4. Done.", ["See Fig. 3 or No. 4.", "Done."]),
        ('He said "no." Then left.', ['He said "no."', "Then left."]),
        ("هل هذا صحيح؟ نعم.", ["هل هذا صحيح؟", "نعم."]),
        ("no end\n\nnew one", ["no end", "new one"]),
    ],
)  # fmt: skip
def test_sentences(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == expected


def test_a_long_paragraph_is_cut_after_sentences(chunker: Chunker, count: Count) -> None:
    parsed = document("".join(f"这是第{number}句话，它说明了一些事情。" for number in range(60)))
    chunks = chunker.chunks(parsed, "d")
    assert len(chunks) > 3
    assert all(chunk.text.endswith("。") for chunk in chunks)
    assert_sound(parsed, chunks, count)


# --- Anything at all ---

ALPHABETS = [
    "abc XYZ ,.!? ", "中文字符，。！？；「」 ", "ab中文。. \n", "😀👩‍👩‍👧🇩🇪👍🏽 .", "שלום עולם. ", "مرحبا؟ ",
    "e\u0301o\u0308\u0323 ", "|- \n", "aaaaaaaaaaaaaaaa", "..........!a ", "\t \n \u3000x",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_any_text_is_cut_soundly(chunker: Chunker, count: Count, alphabet: str) -> None:
    rng = random.Random(alphabet)
    for _ in range(8):
        blocks = []
        for _ in range(rng.randrange(1, 12)):
            kind = rng.choice(list(BlockKind))
            size = rng.choice((3, 40, 400, 2000)) if kind is not BlockKind.HEADING else 5
            text = "".join(rng.choices(alphabet, k=size))
            blocks.append(Block(text, kind, rng.randrange(1, 4) if size == 5 else 0))
        parsed = ParsedDocument("Title", tuple(blocks), "text/plain")
        chunks = chunker.chunks(parsed, "d")
        assert_sound(parsed, chunks, count)
        assert chunker.chunks(parsed, "d") == chunks


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["QUJD" * 250_000, "我们的系统使用方法" * 50_000, "x" * 100 + ", " + "ab" * 200_000, "." * 300_000 + "a"],
    ids=["base64", "chinese", "one comma", "dots"],
)  # fmt: skip
def test_a_giant_line_is_cut_in_seconds(chunker: Chunker, count: Count, text: str) -> None:
    parsed = document(text)
    chunker.chunks(document("a" * 5000), "d")  # LlamaIndex is imported now
    started = time.process_time()
    chunks = chunker.chunks(parsed, "d")
    assert time.process_time() - started < 60  # CPU; quadratic work would take hours
    assert_sound(parsed, chunks, count)
    assert max(len(chunk.text) for chunk in chunks) <= 16 * MAX_TOKENS


# --- Packing and stability ---


def test_packing_prefers_the_end_of_a_block() -> None:
    boundaries = [Boundary.SENTENCE, Boundary.SENTENCE, Boundary.BLOCK, Boundary.SENTENCE] * 4
    units = [Unit(i, i + 1, 10, i, boundary) for i, boundary in enumerate(boundaries)]
    groups = list(pack(units, 45))
    # The last but one gives way, so that the last is no crumb.
    assert [group[-1].boundary for group in groups[:-2]] == [Boundary.BLOCK] * 3
    assert [unit for group in groups for unit in group] == units


def test_packing_keeps_the_budget_and_leaves_no_crumb() -> None:
    units = [Unit(i, i + 1, 10, i * 37 % 11) for i in range(11)]
    groups = list(pack(units, 100))
    assert all(sum(unit.cost for unit in group) <= 100 for group in groups)
    assert min(len(group) for group in groups) >= 4


def edited(paragraphs: list[str], where: int, edit: str) -> list[str]:
    before, after = paragraphs[:where], paragraphs[where:]
    if edit == "insert":
        return [*before, sentences(4, seed=99), *after]
    if edit == "delete":
        return [*before, *after[1:]]
    return [*before, f"A new beginning. {after[0]}", *after[1:]]


def unchanged(chunker: Chunker, old: list[str], new: list[str]) -> float:
    """The share of chunks that an edit leaves as they were."""
    before = [chunk.text_hash for chunk in chunker.chunks(document(*old), "d")]
    after = {chunk.text_hash for chunk in chunker.chunks(document(*new), "d")}
    assert len(before) >= 100
    return sum(text in after for text in before) / len(before)


@pytest.mark.parametrize("edit", ["insert", "delete", "modify"])
@pytest.mark.parametrize("where", [1, 90])
def test_an_edit_changes_only_chunks_near_it(chunker: Chunker, edit: str, where: int) -> None:
    paragraphs = [sentences(1 + number % 6, seed=number) for number in range(200)]
    assert unchanged(chunker, paragraphs, edited(paragraphs, where, edit)) >= 0.95


def test_an_edit_in_one_endless_paragraph_stays_local(chunker: Chunker) -> None:
    text = sentences(1500)
    first_end = text.index(".") + 1
    assert unchanged(chunker, [text], [text[first_end:]]) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squad_v1_dev", "cmrc2018_dev"])
@pytest.mark.parametrize("edit", ["insert", "delete", "modify"])
def test_an_edit_of_real_text_stays_local(chunker: Chunker, name: str, edit: str) -> None:
    corpus = DATA / name / "corpus.jsonl"
    if not corpus.is_file():
        pytest.skip(f"{corpus} is absent")
    with corpus.open(encoding="utf-8") as lines:
        texts = [re.sub(r"\s+", " ", json.loads(line)["text"]).strip() for line in lines]
    paragraphs = list(dict.fromkeys(texts))[:200]
    assert unchanged(chunker, paragraphs, edited(paragraphs, 3, edit)) >= 0.95
