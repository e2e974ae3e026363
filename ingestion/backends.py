"""What a synchronisation works with, and the vectors it gets from that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ingestion.progress import SyncProgress
from kb.ports import Catalog, ChunkIndex, Embedder, Parser
from kb.types import Chunk, Generation, Vector

EMBED_SLICE = 32
"""Chunks of one embedder call: the progress moves and a cancellation is heard between calls."""


@dataclass(frozen=True, slots=True)
class Backends:
    """What a synchronisation works with. `parsers` is how many documents are parsed at a time.

    `index` is that of the live `generation`, `embedder` the one that it was built with.
    """

    catalog: Catalog
    generation: Generation
    index: ChunkIndex
    embedder: Embedder
    parser: Parser
    parsers: int


async def passage_vectors(
    chunks: Sequence[Chunk], backends: Backends, progress: SyncProgress
) -> Mapping[str, Vector]:
    """By text hash: those the index already has, and each missing passage embedded once."""
    passages = {chunk.text_hash: chunk.passage for chunk in chunks}
    vectors = dict(await backends.index.vectors(list(passages)))
    missing = [text_hash for text_hash in passages if text_hash not in vectors]
    missing.sort(key=lambda text_hash: len(passages[text_hash]))
    progress.reused += len(chunks) - len(missing)
    for start in range(0, len(missing), EMBED_SLICE):
        hashes = missing[start : start + EMBED_SLICE]
        embedded = await backends.embedder.passages([passages[name] for name in hashes])
        vectors.update(zip(hashes, embedded, strict=True))
        progress.embedded += len(hashes)
    return vectors
