"""What every `Parser` does, on the one with processes and the one without."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestion.chunking import Chunker, token_counter
from ingestion.parsing import InlineParser, ProcessParser
from kb.errors import DocumentError
from kb.ports import Parser
from kb.settings import IngestSettings
from kb.types import FailureCategory
from retrieval.embedders.hashing import HashingEmbedder

SETTINGS = IngestSettings(parse_processes=1, max_file_mb=1)
MAX_TOKENS = 64


@pytest.fixture(params=["inline", pytest.param("processes", marks=pytest.mark.slow)])
async def parser(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Parser]:
    tokenizer_file = HashingEmbedder(tmp_path / "embedder").tokenizer_file
    parser: Parser
    if request.param == "inline":
        parser = InlineParser(SETTINGS, Chunker(token_counter(tokenizer_file), MAX_TOKENS))
    else:
        parser = ProcessParser(SETTINGS, MAX_TOKENS, tokenizer_file)
    yield parser
    await parser.close()


async def test_a_file_becomes_titled_chunks(parser: Parser, tmp_path: Path) -> None:
    path = tmp_path / "guide.md"
    path.write_text("# Guide\n\n## Install\n\n" + "Run it now. " * 40, encoding="utf-8")
    prepared = await parser.prepare(path, "document")
    assert (prepared.title, prepared.media_type) == ("Guide", "text/markdown")
    assert len(prepared.chunks) > 1
    assert {chunk.heading_path for chunk in prepared.chunks} == {("Guide", "Install")}
    assert {chunk.document_id for chunk in prepared.chunks} == {"document"}
    assert await parser.prepare(path, "document") == prepared


@pytest.mark.parametrize(
    ("name", "content", "category"),
    [
        ("absent.md", None, FailureCategory.UNREADABLE),
        ("large.txt", b"a" * (2 << 20), FailureCategory.TOO_LARGE),
        ("picture.png", b"\x89PNG\r\n\x1a\n", FailureCategory.UNSUPPORTED),
    ],
)
async def test_a_file_that_cannot_be_used_is_a_typed_failure(
    parser: Parser, tmp_path: Path, name: str, content: bytes | None, category: FailureCategory
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DocumentError) as caught:
        await parser.prepare(path, "document")
    assert caught.value.category is category


async def test_closing_twice_is_harmless(parser: Parser) -> None:
    await parser.close()
    await parser.close()
