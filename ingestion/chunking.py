"""Documents into chunks: headings first, then blocks, then sentences, packed to a token budget.

docs/decisions/0004-chunking.md tells why the boundaries lie where they do.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from zlib import crc32

from ingestion.long_text import long_text_spans
from ingestion.packing import Boundary, Unit, pack
from ingestion.sections import PlacedBlock, Section, runs_of_siblings, sections
from ingestion.sentences import line_spans, sentence_spans
from kb.ids import chunk_id, text_hash
from kb.types import BlockKind, Chunk, ParsedDocument, passage_text

CHUNKER_VERSION = 1

PREFIX_TOKENS = 8
"""Room for what an embedder adds to a passage: "passage: " and two special tokens are 6 for e5."""
MERGE_TOKENS = 64
"""Neighbouring sections of at most this many tokens share a chunk: docs/decisions/0004-chunking.md."""
CHARACTERS_PER_TOKEN = 16
"""Longer text counts as more tokens than its tokenizer says: some call any long word one unknown
token, and a chunk must not become a megabyte."""
HEADING_SHARE = 6
"""Title, heading path and a table's columns may each take one part in this many of the budget."""

TokenCounter = Callable[[str], int]


def token_counter(tokenizer_file: Path) -> TokenCounter:
    """Counts tokens by a `tokenizers` JSON file, special tokens left out."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


@dataclass(frozen=True, slots=True)
class _Place:
    """What stands above a chunk's text, shortened to its share, and the tokens that leaves."""

    title: str
    path: tuple[str, ...]
    budget: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk before it has an id."""

    place: _Place
    start: int
    end: int
    page: int | None


class Chunker:
    """Cuts documents for one embedder. Deterministic; the same text gives the same chunks anywhere.

    `max_tokens` bounds the passage (title, headings and text) plus `prefix_tokens`, which stands for
    the embedder's prefix and special tokens. `count_tokens` leaves special tokens out.
    """

    def __init__(
        self,
        count_tokens: TokenCounter,
        max_tokens: int,
        prefix_tokens: int = PREFIX_TOKENS,
        merge_tokens: int = MERGE_TOKENS,
    ) -> None:
        # Whether a text fits is asked before it is placed; the second question is free.
        self._count = lru_cache(maxsize=256)(count_tokens)
        self._max_tokens = max_tokens - prefix_tokens
        self._merge_tokens = merge_tokens

    def chunks(self, document: ParsedDocument, document_id: str) -> tuple[Chunk, ...]:
        """The document's chunks in order. Spans don't overlap and hold all text but headings, which
        are in the heading path unless nothing stands under them."""
        text = document.text
        title = self._shortened(" ".join(document.title.split()))
        seen: Counter[str] = Counter()
        found: list[Chunk] = []
        for piece in self._pieces(document, text, title):
            chunk = self._chunk(piece, text, document_id, len(found))
            found.append(
                replace(chunk, id=chunk_id(document_id, chunk.text_hash, seen[chunk.text_hash]))
            )
            seen[chunk.text_hash] += 1
        return tuple(found)

    def _chunk(self, piece: _Piece, text: str, document_id: str, ordinal: int) -> Chunk:
        span = text[piece.start : piece.end]
        passage = passage_text(piece.place.title, piece.place.path, span)
        return Chunk(
            id="",
            document_id=document_id,
            ordinal=ordinal,
            title=piece.place.title,
            heading_path=piece.place.path,
            page=piece.page,
            start=piece.start,
            end=piece.end,
            text=span,
            text_hash=text_hash(passage),
            tokens=self._count(passage),
        )

    # --- From sections to pieces ---

    def _pieces(self, document: ParsedDocument, text: str, title: str) -> Iterator[_Piece]:
        found = sections(document)
        small = [self._is_small(text[section.start : section.end]) for section in found]
        for run in runs_of_siblings(found, small):
            for group in self._groups(run, text, title) if len(run) > 1 else [run]:
                yield from self._section_pieces(group, text, title)

    def _groups(self, run: Sequence[Section], text: str, title: str) -> Iterator[Sequence[Section]]:
        """Which sections of a run of small ones share a chunk."""
        by_start = {section.start: section for section in run}
        units = [self._unit(text, s.start, s.end, Boundary.BLOCK, s.page) for s in run]
        for group in pack(units, self._place(title, run[0].parent).budget):
            yield [by_start[unit.start] for unit in group]

    def _section_pieces(self, group: Sequence[Section], text: str, title: str) -> Iterator[_Piece]:
        first = group[0]
        if len(group) > 1:  # their headings are part of the text
            blocks = [placed for section in group for placed in section.blocks]
            yield from self._packed(blocks, self._place(title, first.parent), text)
        elif not first.body:  # a heading with nothing under it
            yield from self._packed(first.blocks, self._place(title, first.parent), text)
        else:
            yield from self._body_pieces(first, text, title)

    def _body_pieces(self, section: Section, text: str, title: str) -> Iterator[_Piece]:
        """A table that must be split is packed alone: its column names join the heading path."""
        place = self._place(title, section.path)
        blocks: list[PlacedBlock] = []
        for placed in section.body:
            columns = _columns(placed)
            if columns and self._cost(placed.block.text) > place.budget:
                yield from self._packed(blocks, place, text)
                blocks = []
                yield from self._packed(
                    [placed], self._place(title, (*section.path, columns)), text
                )
            else:
                blocks.append(placed)
        yield from self._packed(blocks, place, text)

    def _packed(self, blocks: Sequence[PlacedBlock], place: _Place, text: str) -> Iterator[_Piece]:
        units = [unit for placed in blocks for unit in self._units(placed, place.budget, text)]
        for group in pack(units, place.budget):
            yield from self._checked(group, place, text)

    def _checked(self, group: Sequence[Unit], place: _Place, text: str) -> Iterator[_Piece]:
        """The group as one piece; as several where the costs of its units did not quite add up."""
        start, end = group[0].start, group[-1].end
        span = text[start:end]
        if self._cost(passage_text(place.title, place.path, span)) <= self._max_tokens:
            yield _Piece(place, start, end, group[0].page)
        elif len(group) > 1:
            middle = len(group) // 2
            yield from self._checked(group[:middle], place, text)
            yield from self._checked(group[middle:], place, text)
        else:
            half = self._cost(span) // 2 + 1
            for first, last in long_text_spans(span, half, self._cost):
                yield _Piece(place, start + first, start + last, group[0].page)

    # --- Units ---

    def _units(self, placed: PlacedBlock, budget: int, text: str) -> Iterator[Unit]:
        """The block whole where it fits, else its sentences or lines."""
        block = placed.block
        if self._cost(block.text) <= budget:
            announces = block.text.rstrip().endswith((":", "："))
            boundary = Boundary.SENTENCE if announces else Boundary.BLOCK
            yield from self._trimmed_unit(placed, boundary, text)
            return
        parts = list(self._parts(block.text, block.kind, budget))
        for number, (start, end, boundary) in enumerate(parts, 1):
            if number == len(parts):
                boundary = Boundary.BLOCK
            yield self._unit(text, placed.start + start, placed.start + end, boundary, block.page)

    def _trimmed_unit(self, placed: PlacedBlock, boundary: Boundary, text: str) -> Iterator[Unit]:
        block = placed.block
        start = placed.start + len(block.text) - len(block.text.lstrip())
        end = placed.start + len(block.text.rstrip())
        yield self._unit(text, start, end, boundary, block.page)

    def _parts(
        self, block: str, kind: BlockKind, budget: int
    ) -> Iterator[tuple[int, int, Boundary]]:
        in_lines = kind in (BlockKind.TABLE, BlockKind.LIST, BlockKind.CODE)
        for start, end in line_spans(block) if in_lines else sentence_spans(block):
            part = block[start:end]
            if self._cost(part) <= budget:
                yield start, end, Boundary.SENTENCE
                continue
            for first, last in long_text_spans(part, budget, self._cost):
                yield start + first, start + last, Boundary.CLAUSE

    def _unit(self, text: str, start: int, end: int, boundary: Boundary, page: int | None) -> Unit:
        span = text[start:end]
        checksum = crc32(span.encode("utf-8", "surrogatepass"))
        return Unit(start, end, self._cost(span), checksum, boundary, page)

    # --- Tokens ---

    def _is_small(self, section: str) -> bool:
        longest = self._merge_tokens * CHARACTERS_PER_TOKEN  # beyond it there is no need to count
        return len(section) <= longest and self._cost(section) <= self._merge_tokens

    def _cost(self, text: str) -> int:
        by_length = len(text) // CHARACTERS_PER_TOKEN
        if by_length > self._max_tokens:
            return by_length  # far too long for a chunk: no need to count
        return max(self._count(text), by_length)

    def _place(self, title: str, headings: Sequence[str]) -> _Place:
        path = self._shortened_path(title, headings)
        budget = self._max_tokens - self._cost(passage_text(title, path, ""))
        return _Place(title, path, budget)

    def _shortened_path(self, title: str, headings: Sequence[str]) -> tuple[str, ...]:
        """The innermost headings that fit into their share; "…" stands for those left out."""
        limit = self._max_tokens // HEADING_SHARE
        kept: list[str] = []
        for heading in reversed([self._shortened(heading) for heading in headings]):
            if kept and self._cost(" > ".join([heading, *kept])) > limit:
                return ("…", *kept)
            kept.insert(0, heading)
        return tuple(kept)

    def _shortened(self, text: str) -> str:
        limit = self._max_tokens // HEADING_SHARE
        if self._cost(text) <= limit:
            return text
        kept = text[: limit * CHARACTERS_PER_TOKEN]
        while kept and self._cost(f"{kept}…") > limit:
            kept = kept[: len(kept) * 3 // 4].rstrip()
        return f"{kept}…"


def _columns(placed: PlacedBlock) -> str:
    """The column names of a Markdown table, such as "Name | Price"; empty where it has none."""
    if placed.block.kind is not BlockKind.TABLE:
        return ""
    cells = placed.block.text.partition("\n")[0].strip().strip("|").split("|")
    return " | ".join(cell.strip() for cell in cells if cell.strip())
