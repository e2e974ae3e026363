"""Grouping texts of like length into model calls."""

import random

from retrieval.embedders.batches import batches, unpadded_batches


def test_every_text_is_in_one_batch_within_both_bounds() -> None:
    lengths = [random.Random(seed).randint(1, 512) for seed in range(500)]
    made = list(batches(lengths, most=8, most_padded=2048))
    assert sorted(index for batch in made for index in batch) == list(range(500))
    for batch in made:
        assert len(batch) <= 8
        assert len(batch) * max(lengths[i] for i in batch) <= 2048


def test_little_is_padding() -> None:
    lengths = [random.Random(seed).randint(1, 512) for seed in range(500)]
    padded = sum(
        len(batch) * max(lengths[i] for i in batch)
        for batch in batches(lengths, most=8, most_padded=2048)
    )
    assert padded < 1.05 * sum(lengths)


def test_a_text_longer_than_the_bound_goes_alone() -> None:
    assert list(batches([10, 3000, 10], most=8, most_padded=2048)) == [[1], [0, 2]]


def test_no_texts_no_batches() -> None:
    assert list(batches([], most=8)) == []


def test_without_a_bound_on_tokens_only_the_number_counts() -> None:
    assert list(batches([5, 9, 7], most=2)) == [[1, 2], [0]]


def test_unpadded_batches_hold_texts_of_one_length_within_both_bounds() -> None:
    lengths = [random.Random(seed).randint(1, 60) for seed in range(500)] + [700, 700, 0]
    made = list(unpadded_batches(lengths, most=8, most_tokens=128))
    assert sorted(index for batch in made for index in batch) == list(range(len(lengths)))
    for batch in made:
        assert len({lengths[index] for index in batch}) == 1
        assert len(batch) <= 8
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= 128
    assert max(map(len, made)) > 1
