"""What a synchronisation works with."""

from dataclasses import dataclass

from ingestion.indexing import Engine
from kb.ports import Catalog, ChunkIndex, Embedder
from kb.types import Generation


@dataclass(frozen=True, slots=True)
class Backends:
    """`index` is that of the live `generation`, built with `embedder`; `engine` fills it."""

    catalog: Catalog
    generation: Generation
    index: ChunkIndex
    embedder: Embedder
    engine: Engine
