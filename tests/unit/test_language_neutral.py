from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kb.types import Vectors
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.embedders.language_neutral import (
    LanguageNeutralEmbedder,
    language_directions,
    without,
)
from retrieval.embedders.parallel_texts import PASSAGES, QUESTIONS


class BilingualEmbedder(HashingEmbedder):
    """The hashing fake with a large offset for Chinese and a smaller one for questions."""

    calls = 0

    async def passages(self, texts: Sequence[str]) -> Vectors:
        self.calls += 1
        return self._offset(await super().passages(texts), texts, question=0.0)

    async def queries(self, texts: Sequence[str]) -> Vectors:
        self.calls += 1
        return self._offset(await super().queries(texts), texts, question=1.0)

    def _offset(self, vectors: Vectors, texts: Sequence[str], question: float) -> Vectors:
        moved = vectors.copy()
        for row, text in enumerate(texts):
            moved[row, 0 if text.isascii() else 1] += 3
            moved[row, 2] += question
        unit: Vectors = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
        return unit


@pytest.fixture
def biased(tmp_path: Path) -> BilingualEmbedder:
    return BilingualEmbedder(tmp_path, dimensions=256)


async def test_a_question_finds_its_subject_rather_than_its_language(
    biased: BilingualEmbedder, tmp_path: Path
) -> None:
    # The same word is in the question and in the passage of the other language.
    question, right, wrong = "怎样安装 docker", "docker on linux", "猫在垫子上睡觉"
    before = await biased.queries([question]) @ (await biased.passages([right, wrong])).T
    assert before[0, 0] < before[0, 1]
    neutral = await LanguageNeutralEmbedder.over(biased, tmp_path)
    after = await neutral.queries([question]) @ (await neutral.passages([right, wrong])).T
    assert after[0, 0] > after[0, 1] + 0.1


async def test_vectors_keep_their_shape_and_norm(biased: BilingualEmbedder, tmp_path: Path) -> None:
    neutral = await LanguageNeutralEmbedder.over(biased, tmp_path)
    vectors = await neutral.passages(["one", "二", "", "one"])
    assert vectors.shape == (4, 256)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert (await neutral.queries([])).shape == (0, 256)
    assert np.array_equal(vectors[0], vectors[3])


async def test_directions_are_orthonormal_and_gone_afterwards(biased: BilingualEmbedder) -> None:
    directions = await language_directions(biased)
    assert directions.shape == (4, 256)
    assert directions @ directions.T == pytest.approx(np.eye(4), abs=1e-5)
    vectors = without(await biased.passages(["a b c", "甲乙丙"]), directions)
    assert np.abs(vectors @ directions.T).max() < 1e-5


def test_a_vector_of_nothing_but_the_removed_stays_a_unit_vector() -> None:
    directions = np.eye(4, 8, dtype=np.float32)
    vector = np.eye(1, 8, dtype=np.float32)
    assert np.array_equal(without(vector, directions), vector)


async def test_directions_are_learnt_once_and_kept(
    biased: BilingualEmbedder, tmp_path: Path
) -> None:
    first = await LanguageNeutralEmbedder.over(biased, tmp_path / "new")
    learnt = biased.calls
    assert learnt == 4
    again = await LanguageNeutralEmbedder.over(biased, tmp_path / "new")
    assert biased.calls == learnt
    assert np.array_equal(await first.passages(["x y"]), await again.passages(["x y"]))
    (kept,) = (tmp_path / "new").iterdir()
    biased.calls = 0
    for rest in (b"", b"\x93NUMPY broken"):
        kept.write_bytes(rest)
        await LanguageNeutralEmbedder.over(biased, tmp_path / "new")
    assert biased.calls == 2 * learnt
    assert np.load(kept).shape == (4, 256)


async def test_the_fingerprint_differs_from_the_plain_embedders(
    biased: BilingualEmbedder, tmp_path: Path
) -> None:
    neutral = await LanguageNeutralEmbedder.over(biased, tmp_path)
    assert neutral.fingerprint.startswith(biased.fingerprint + "+neutral-")
    assert neutral.dimensions == biased.dimensions
    assert neutral.max_tokens == biased.max_tokens
    assert neutral.tokenizer_file == biased.tokenizer_file


def test_texts_are_pairs_of_the_two_languages() -> None:
    for english, chinese in PASSAGES + QUESTIONS:
        assert english.isascii()
        assert any("一" <= character <= "鿿" for character in chinese)
