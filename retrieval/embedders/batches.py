"""Texts made ready for a model: such as can be tokenised, grouped by length."""

from collections.abc import Iterator, Sequence
from itertools import groupby


def encodable(text: str) -> str:
    """Half a surrogate pair (from a broken file name, say) can't be tokenised."""
    return text.encode("utf-8", "replace").decode()


def batches(
    lengths: Sequence[int], most: int, most_padded: int | None = None
) -> Iterator[list[int]]:
    """Indices of texts, longest first, each once: little of a model call is spent on padding.

    A batch has at most `most` texts and, unless it is a single text, at most `most_padded` tokens
    (in the unit of `lengths`) when all are padded to the longest.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        padded = lengths[batch[0]] * (len(batch) + 1) if batch else 0
        if len(batch) == most or (most_padded is not None and padded > most_padded):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def unpadded_batches(lengths: Sequence[int], most: int, most_tokens: int) -> Iterator[list[int]]:
    """Indices of texts, longest first, each once; those of a batch have the same length.

    A batch has at most `most` texts and, unless it is a single text, at most `most_tokens` tokens.
    """
    longest_first = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    for length, group in groupby(longest_first, key=lambda i: lengths[i]):
        alike = list(group)
        size = max(1, min(most, most_tokens // max(1, length)))
        for start in range(0, len(alike), size):
            yield alike[start : start + size]
