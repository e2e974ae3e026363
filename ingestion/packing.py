"""Packing units of text into chunks at boundaries that the text itself chooses. Pure.

Filling each chunk to the brim would let one edit move every later boundary. Instead the cut is
made, among the places where a chunk may end, at the one that looks best: the end of a block before
the end of a sentence, and among equals the one whose text has the lowest checksum. Two versions of
a text therefore find the same cut again soon after an edit (content-defined chunking).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

SMALLEST_FILL = 0.4
"""Share of the budget a chunk has at least, where it can: docs/decisions/0004-chunking.md."""


class Boundary(IntEnum):
    """How good it is to cut after a unit; lower is better."""

    BLOCK = 0
    SENTENCE = 1
    """Also a line of a list, table or code, and a block that announces the next one ("as follows:")."""
    CLAUSE = 2
    """Within a sentence too long for one chunk."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Text that stays together. `cost` is in tokens; `checksum` depends on the text alone."""

    start: int
    end: int
    cost: int
    checksum: int
    boundary: Boundary = Boundary.BLOCK
    page: int | None = None


def pack(units: Sequence[Unit], budget: int) -> Iterator[Sequence[Unit]]:
    """Groups the units, in order, so that no group of several costs more than `budget` tokens."""
    rest = sum(unit.cost for unit in units)
    first = 0
    while first < len(units):
        last = _cut(units, first, budget, rest)
        group = units[first:last]
        rest -= sum(unit.cost for unit in group)
        yield group
        first = last


def _cut(units: Sequence[Unit], first: int, budget: int, rest: int) -> int:
    """The index after the last unit of the group that begins at `first`."""
    if rest <= budget:
        return len(units)
    smallest = SMALLEST_FILL * budget
    fill, last, candidates = 0, first, []
    while last < len(units) and (last == first or fill + units[last].cost <= budget):
        fill += units[last].cost
        last += 1
        # Neither this group nor what is left of the section may be a crumb.
        if fill >= smallest and rest - fill >= smallest:
            candidates.append(last)
    if not candidates:
        return last
    return min(candidates, key=lambda end: (units[end - 1].boundary, units[end - 1].checksum, -end))
