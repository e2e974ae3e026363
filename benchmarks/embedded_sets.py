"""Question sets with their vectors from the real embedder, which are worked out once and kept."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kb import ids
from kb.ports import Embedder
from kb.types import Vectors, passage_text
from serving.question_sets import Passage, Question, load_question_set


@dataclass(frozen=True, slots=True)
class EmbeddedSet:
    """`vectors` belong to the passages, one row each; `question_vectors` to the questions."""

    name: str
    passages: tuple[Passage, ...]
    vectors: Vectors
    questions: tuple[Question, ...]
    question_vectors: Vectors


def passage_of(passage: Passage) -> str:
    """What is embedded of a passage: the same as of a chunk, though passages are not cut here."""
    return passage_text(passage.title, (), passage.text)


async def embedded_set(folder: Path, questions: int, embedder: Embedder, kept: Path) -> EmbeddedSet:
    """A set with `questions` of its questions, evenly spread. Vectors are kept in the folder `kept`."""
    found = load_question_set(folder, folder, questions)
    of_passages = [passage_of(passage) for passage in found.passages]
    of_questions = [question.text for question in found.questions]
    key = ids.text_hash("\n".join([embedder.fingerprint, *of_passages, *of_questions]))
    file = kept / f"{found.name}-{key}.npz"
    if not await asyncio.to_thread(file.exists):
        save(file, await embedder.passages(of_passages), await embedder.queries(of_questions))
    with np.load(file) as arrays:
        return EmbeddedSet(
            found.name,
            found.passages,
            arrays["passages"],
            found.questions,
            arrays["questions"],
        )


def save(file: Path, passages: Vectors, questions: Vectors) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, passages=passages, questions=questions)
