"""Documents with the same text and the same rights: one of them, the *original*, is in the index.

Only the process that writes the catalogue decides this (decision 0015). A duplicate is indexed without
chunks of its own, and takes the original's place when that one gives up its text.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby

from ingestion.backends import Backends
from ingestion.indexing import Outcome, indexable, passage_vectors
from ingestion.progress import SyncProgress
from kb import ids
from kb.ports import Catalog, Embedder
from kb.types import Chunk, Document, passage_text

GIVE_WAY_BATCH = 500
"""Documents that give way together."""

Key = tuple[str, str, tuple[str, ...]]


class Originals:
    """Who brings a text to the index: by the catalogue, or as decided here and not saved yet."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._decided: dict[Key, str] = {}

    async def of(self, documents: Sequence[Document]) -> dict[str, str]:
        """The original's id for each of these that is a duplicate; the others are originals from now on."""
        known = await self._known(documents)
        found = {}
        for document in documents:
            if not document.text_hash:
                continue
            key = _key(document)
            if key in self._decided:
                known[key].add(self._decided[key])
            # Two syncs side by side may have made two originals: the lesser id stays one.
            original = min(known[key], default=document.id)
            if original == document.id:
                self._decided[key] = original
            else:
                found[document.id] = original
        return found

    async def _known(self, documents: Sequence[Document]) -> defaultdict[Key, set[str]]:
        hashes: defaultdict[str, set[str]] = defaultdict(set)
        for document in documents:
            if document.text_hash:
                hashes[document.collection].add(document.text_hash)
        known: defaultdict[Key, set[str]] = defaultdict(set)
        for collection, wanted in hashes.items():
            for original in await self._catalog.originals(collection, sorted(wanted)):
                known[_key(original)].add(original.id)
        return known


def _key(document: Document) -> Key:
    """Each set of rights has an original of its own: the index filters by those of the original."""
    return document.collection, document.text_hash, tuple(sorted(document.groups))


async def without_duplicates(outcomes: Sequence[Outcome], originals: Originals) -> list[Outcome]:
    """A document whose text another one brings, or has brought, to the index is left without chunks."""
    found = await originals.of([outcome.document for outcome in outcomes])
    return [
        as_duplicate(outcome, found[outcome.document.id])
        if outcome.document.id in found
        else outcome
        for outcome in outcomes
    ]


def as_duplicate(outcome: Outcome, original: str) -> Outcome:
    document = replace(outcome.document, duplicate_of=original, chunk_count=0)
    return replace(outcome, document=document, chunks=())


async def give_way(
    document_ids: Sequence[str], backends: Backends, progress: SyncProgress
) -> list[Document]:
    """Before these lose what the index holds of them: a duplicate of each takes its place.

    Gives the rows that this changed. Killed in between, it is made good by the next sync: those that
    gave way are pending, and duplicates without an original are read.
    """
    going = set(document_ids)
    changed: list[Document] = []
    for start in range(0, len(document_ids), GIVE_WAY_BATCH):
        batch = document_ids[start : start + GIVE_WAY_BATCH]
        left = [d for d in await backends.catalog.give_up(batch) if d.id not in going]
        changed += await _take_over(left, backends, progress)
    return changed


async def _take_over(
    duplicates: Iterable[Document], backends: Backends, progress: SyncProgress
) -> list[Document]:
    """The first duplicate of each original gets its chunks, and the others, as duplicates."""
    heirs: dict[str, Document] = {}
    chunks: dict[str, list[Chunk]] = {}
    others: list[Document] = []
    by_original = sorted(duplicates, key=lambda document: (document.indexed_as, document.id))
    for original, group in groupby(by_original, key=lambda document: document.indexed_as):
        heir, *rest = group
        held = await backends.index.chunks(original)
        if not held:  # Nothing to inherit: the next sync reads them.
            continue
        chunks[heir.id] = inherited(held, heir, backends.embedder)
        heirs[heir.id] = replace(
            heir, duplicate_of=None, chunk_count=len(held), indexed_at=datetime.now(UTC)
        )
        others += [replace(other, duplicate_of=heir.id) for other in rest]
    if not heirs:
        return []
    vectors = await passage_vectors(
        [chunk for held in chunks.values() for chunk in held],
        backends.index,
        backends.embedder,
        progress,
    )
    refused = await backends.index.replace(
        [
            indexable(heir, chunks[heir.id], vectors, backends.embedder.dimensions)
            for heir in heirs.values()
        ]
    )
    changed = [d for d in (*heirs.values(), *others) if d.indexed_as not in refused]
    await backends.catalog.save_documents(changed, backends.generation)
    return changed


def inherited(chunks: Sequence[Chunk], heir: Document, embedder: Embedder) -> list[Chunk]:
    """The chunks as they would be the heir's. Passages change only where its title differs."""
    title = " ".join(heir.title.split())
    seen: Counter[str] = Counter()
    found = []
    for chunk in chunks:
        passage = passage_text(title, chunk.heading_path, chunk.text)
        text_hash = ids.text_hash(passage)
        same = text_hash == chunk.text_hash
        found.append(
            replace(
                chunk,
                id=ids.chunk_id(heir.id, text_hash, seen[text_hash]),
                document_id=heir.id,
                title=title,
                text_hash=text_hash,
                tokens=chunk.tokens if same else embedder.count_tokens([passage])[0],
            )
        )
        seen[text_hash] += 1
    return found
