"""Haystack: converters by type, cleaner, splitter, embedder, writer, InMemoryDocumentStore."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.rivals.contest import FOUND, Job, main

SEPARATORS = ["\n\n", "\n", ". ", "。", " "]
"""The default's, but for sentences by a package that wants a download and knows no Chinese."""


class Haystack:
    def __init__(self, job: Job) -> None:
        from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
        from haystack.document_stores.in_memory import InMemoryDocumentStore
        from haystack_integrations.components.embedders.sentence_transformers import (
            SentenceTransformersTextEmbedder,
        )

        self._store = InMemoryDocumentStore(embedding_similarity_function="dot_product")
        self._pipeline = self._indexing(job)
        self._question = SentenceTransformersTextEmbedder(
            model=job.model, prefix="query: ", progress_bar=False
        )
        self._question.warm_up()
        self._retriever = InMemoryEmbeddingRetriever(self._store, top_k=FOUND)

    def _indexing(self, job: Job) -> Any:
        from haystack import Pipeline
        from haystack.components.converters import MarkdownToDocument
        from haystack.components.preprocessors import DocumentCleaner, RecursiveDocumentSplitter
        from haystack.components.writers import DocumentWriter
        from haystack_integrations.components.embedders.sentence_transformers import (
            SentenceTransformersDocumentEmbedder,
        )

        batch = {"batch_size": job.batch} if job.batch else {}
        embedder = SentenceTransformersDocumentEmbedder(
            model=job.model, prefix="passage: ", progress_bar=False, **batch
        )
        splitter = RecursiveDocumentSplitter(
            split_length=job.chunk_characters, split_unit="char", separators=SEPARATORS
        )
        pipeline = Pipeline()
        pipeline.add_component("converter", MarkdownToDocument(progress_bar=False))
        pipeline.add_component("cleaner", DocumentCleaner())
        pipeline.add_component("splitter", splitter)
        pipeline.add_component("embedder", embedder)
        pipeline.add_component("writer", DocumentWriter(self._store))
        for first, then in [
            ("converter", "cleaner"),
            ("cleaner", "splitter"),
            ("splitter", "embedder"),
            ("embedder", "writer"),
        ]:
            pipeline.connect(first, then)
        pipeline.warm_up()
        return pipeline

    def ingest(self, folder: Path) -> None:
        self._store.delete_documents([document.id for document in self._store.filter_documents()])
        self._pipeline.run({"converter": {"sources": sorted(folder.rglob("*.md"))}})

    def chunks(self) -> Sequence[str]:
        return [document.content or "" for document in self._store.filter_documents()]

    def search(self, question: str) -> Sequence[str]:
        embedding = self._question.run(question)["embedding"]
        found = self._retriever.run(query_embedding=embedding)["documents"]
        return [Path(document.meta["file_path"]).name for document in found]

    def close(self) -> None:
        pass


if __name__ == "__main__":
    main(Haystack)
