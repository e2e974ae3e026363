"""LlamaIndex: SimpleDirectoryReader, IngestionPipeline (SentenceSplitter, embedding), VectorStoreIndex."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.rivals.contest import FOUND, Job, main


def named(path: str) -> dict[str, str]:
    """Its own default has the whole path as well, which would be embedded with every chunk."""
    return {"file_name": Path(path).name}


class LlamaIndex:
    def __init__(self, job: Job) -> None:
        from llama_index.core.ingestion import IngestionPipeline
        from llama_index.core.node_parser import SentenceSplitter
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding
        from transformers import AutoTokenizer

        batch = {"embed_batch_size": job.batch} if job.batch else {}
        self._embedding = HuggingFaceEmbedding(
            job.model, query_instruction="query: ", text_instruction="passage: ", **batch
        )
        tokenizer = AutoTokenizer.from_pretrained(job.model)
        splitter = SentenceSplitter(
            chunk_size=job.chunk_tokens, chunk_overlap=0, tokenizer=tokenizer.tokenize
        )
        self._pipeline = IngestionPipeline(transformations=[splitter, self._embedding])
        self._nodes: Sequence[Any] = ()

    def ingest(self, folder: Path) -> None:
        from llama_index.core import SimpleDirectoryReader, VectorStoreIndex

        documents = SimpleDirectoryReader(folder, recursive=True, file_metadata=named).load_data()
        self._nodes = self._pipeline.run(documents=documents)
        index = VectorStoreIndex(list(self._nodes), embed_model=self._embedding)
        self._retriever = index.as_retriever(similarity_top_k=FOUND)

    def chunks(self) -> Sequence[str]:
        from llama_index.core.schema import MetadataMode

        return [node.get_content(MetadataMode.EMBED) for node in self._nodes]

    def search(self, question: str) -> Sequence[str]:
        return [found.node.metadata["file_name"] for found in self._retriever.retrieve(question)]

    def close(self) -> None:
        pass


if __name__ == "__main__":
    main(LlamaIndex)
