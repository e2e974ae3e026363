"""txtai: Textractor with Chonkie's recursive chunker, Embeddings (Faiss)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.rivals.contest import FOUND, Job, main


class Txtai:
    def __init__(self, job: Job) -> None:
        from tokenizers import Tokenizer
        from txtai import Embeddings
        from txtai.pipeline import Textractor

        batch = {"encodebatch": job.batch} if job.batch else {}
        self._textractor = Textractor(
            chunker="recursive",
            tokenizer=Tokenizer.from_file(f"{job.model}/tokenizer.json"),
            chunk_size=job.chunk_tokens,
        )
        self._embeddings = Embeddings(
            path=job.model, instructions={"query": "query: ", "data": "passage: "}, **batch
        )
        self._chunks: list[str] = []

    def ingest(self, folder: Path) -> None:
        self._chunks.clear()
        self._embeddings.index(self._rows(sorted(folder.rglob("*.md"))))

    def _rows(self, files: Sequence[Path]) -> Iterator[tuple[str, str, None]]:
        for file in files:
            for number, text in enumerate(self._textractor(str(file))):
                self._chunks.append(text)
                yield f"{file.name}#{number}", text, None

    def chunks(self) -> Sequence[str]:
        return self._chunks

    def search(self, question: str) -> Sequence[str]:
        return [name.rpartition("#")[0] for name, _ in self._embeddings.search(question, FOUND)]

    def close(self) -> None:
        self._embeddings.close()


if __name__ == "__main__":
    main(Txtai)
