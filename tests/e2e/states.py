"""What a collection has come to: for saying that two runs have come to the same."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from kb.ports import Catalog, ChunkIndex
from kb.settings import Settings
from retrieval.differences import differences
from serving.bootstrap import DEFAULT_COLLECTION, open_services

State = Mapping[str, tuple[str, str, tuple[str, ...]]]
"""By URI: status, content hash, and the hashes of the passages that the index has of the text."""


async def state_of(catalog: Catalog, index: ChunkIndex) -> State:
    """Fails where index and catalogue disagree, or where a text is not indexed exactly once.

    Which of several copies is the original may differ from run to run, so it is not told.
    """
    found = await differences(catalog, DEFAULT_COLLECTION, index)
    assert not found.documents
    documents = await catalog.documents(collection=DEFAULT_COLLECTION)
    originals = Counter(d.text_hash for d in documents if d.chunk_count)
    assert set(originals.values()) <= {1}
    assert (await index.count()).documents == len(originals)
    passages = {
        name: tuple(chunk.text_hash for chunk in await index.chunks(name))
        for name in await index.contents()
    }
    return {d.uri: (d.status, d.content_hash, passages.get(d.indexed_as, ())) for d in documents}


def indexed(data_dir: Path) -> State:
    """The state of the default collection of a data folder that no process is using."""

    async def read() -> State:
        async with open_services(Settings(data_dir=data_dir)) as services:
            return await state_of(services.catalog, await services.index(DEFAULT_COLLECTION))

    return asyncio.run(read())
