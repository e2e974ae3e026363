"""What a generator is given of the hits: best first, duplicates dropped, neighbours joined, within a budget."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from kb.types import Hit
from serving.answering.sentences import blocks, split_sentences

CountTokens = Callable[[Sequence[str]], Awaitable[list[int]]]


@dataclass(frozen=True, slots=True)
class Passage:
    """What the model sees as number [n]: chunks of one document that follow each other, in its order.

    `cut` is the number of characters of the text that the model is given, where not all of it fits.
    """

    number: int
    hits: tuple[Hit, ...]
    cut: int | None = None

    @property
    def text(self) -> str:
        return "\n\n".join(hit.chunk.text for hit in self.hits)[: self.cut]

    @property
    def heading(self) -> str:
        """Title and headings of the first chunk, such as "Guide > Install"."""
        chunk = self.hits[0].chunk
        path = chunk.heading_path[chunk.heading_path[:1] == (chunk.title,) :]
        return " > ".join((chunk.title, *path))


def joined(hits: Sequence[Hit]) -> list[Passage]:
    """Passages in the order of their best hits. Of the same text only the first is kept."""
    seen: set[str] = set()
    groups: list[list[Hit]] = []
    for hit in hits:
        text = " ".join(hit.chunk.text.split())
        if text in seen:
            continue
        seen.add(text)
        near = [group for group in groups if any(_are_neighbours(hit, other) for other in group)]
        merged = [hit, *(other for group in near for other in group)]
        groups = [group for group in groups if group not in near[1:]]
        if near:
            groups[groups.index(near[0])] = merged
        else:
            groups.append(merged)
    return [
        Passage(number, tuple(sorted(group, key=lambda hit: hit.chunk.ordinal)))
        for number, group in enumerate(groups, 1)
    ]


def _are_neighbours(hit: Hit, other: Hit) -> bool:
    same_document = hit.chunk.document_id == other.chunk.document_id
    return same_document and abs(hit.chunk.ordinal - other.chunk.ordinal) == 1


async def pack(
    hits: Sequence[Hit],
    budget: int,
    count_tokens: CountTokens,
    render: Callable[[Passage], str],
) -> list[Passage]:
    """The passages of the best hits that fit into `budget` tokens as `render` shows them.

    A hit that does not fit is left out, and later, shorter ones are tried; if not even the best fits
    it is cut after a sentence. An empty list means: nothing fits.
    """
    alone = [Passage(1, (hit,)) for hit in hits]
    lengths = await count_tokens([render(passage) for passage in alone])
    chosen: list[Hit] = []
    left = budget
    for hit, tokens in zip(hits, lengths, strict=True):
        if tokens <= left:
            chosen.append(hit)
            left -= tokens
    if chosen or not hits:
        return joined(chosen)
    return await _beginning(alone[0], budget, count_tokens, render)


async def _beginning(
    passage: Passage, budget: int, count_tokens: CountTokens, render: Callable[[Passage], str]
) -> list[Passage]:
    """As many whole sentences of the best hit as fit."""
    text = passage.text
    ends = [end for block in blocks(text) for _, end in split_sentences(text, block)]
    shorter = [Passage(1, passage.hits, end) for end in ends]
    lengths = await count_tokens([render(candidate) for candidate in shorter])
    fitting = [c for c, tokens in zip(shorter, lengths, strict=True) if tokens <= budget]
    return fitting[-1:]
