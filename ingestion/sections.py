"""A document as sections: what stands under one heading, and the headings above it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kb.types import BLOCK_SEPARATOR, Block, BlockKind, ParsedDocument


@dataclass(frozen=True, slots=True)
class PlacedBlock:
    """A block and where it stands in the parsed text."""

    block: Block
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.block.text)


@dataclass(frozen=True, slots=True)
class Section:
    """`path` holds the headings from the outermost to its own; empty before the first heading."""

    path: tuple[str, ...]
    heading: PlacedBlock | None
    body: tuple[PlacedBlock, ...]

    @property
    def parent(self) -> tuple[str, ...]:
        return self.path[:-1]

    @property
    def page(self) -> int | None:
        return self.blocks[0].block.page

    @property
    def blocks(self) -> tuple[PlacedBlock, ...]:
        """The heading, if any, and the body; never empty."""
        return (self.heading, *self.body) if self.heading else self.body

    @property
    def start(self) -> int:
        return self.blocks[0].start

    @property
    def end(self) -> int:
        return self.blocks[-1].end


def sections(document: ParsedDocument) -> list[Section]:
    """The sections in order. A heading with only sub-headings below it is left out: their paths hold it."""
    found = list(_all_sections(document))
    following = [*found[1:], None]
    return [
        section
        for section, after in zip(found, following, strict=True)
        if section.body or (section.heading and not _contains(section, after))
    ]


def runs_of_siblings(found: Sequence[Section], small: Sequence[bool]) -> Iterator[list[Section]]:
    """Joins neighbouring small sections that stand under the same parent; every other one is alone."""
    run: list[Section] = []
    for section, is_small in zip(found, small, strict=True):
        joins = is_small and bool(section.path)
        if run and not (joins and run[-1].path and run[-1].parent == section.parent):
            yield run
            run = []
        run.append(section)
        if not joins:
            yield run
            run = []
    if run:
        yield run


def _contains(section: Section, after: Section | None) -> bool:
    return (
        after is not None
        and after.path[: len(section.path)] == section.path
        and (len(after.path) > len(section.path))
    )


def _all_sections(document: ParsedDocument) -> Iterator[Section]:
    open_headings: list[Block] = []
    heading: PlacedBlock | None = None
    body: list[PlacedBlock] = []
    for placed in _placed(document.blocks):
        if placed.block.kind is not BlockKind.HEADING:
            body.append(placed)
            continue
        yield Section(_path(open_headings), heading, tuple(body))
        while open_headings and open_headings[-1].level >= placed.block.level:
            open_headings.pop()
        open_headings.append(placed.block)
        heading, body = placed, []
    yield Section(_path(open_headings), heading, tuple(body))


def _path(headings: Sequence[Block]) -> tuple[str, ...]:
    return tuple(" ".join(heading.text.split()) for heading in headings)


def _placed(blocks: Sequence[Block]) -> Iterator[PlacedBlock]:
    start = 0
    for block in blocks:
        if block.text.strip():
            yield PlacedBlock(block, start)
        start += len(block.text) + len(BLOCK_SEPARATOR)
