"""Groups texts of like length, so that little of a model call is spent on padding."""

from collections.abc import Iterator, Sequence


def batches(
    lengths: Sequence[int], most: int, most_padded: int | None = None
) -> Iterator[list[int]]:
    """Indices of texts, longest first, each once.

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
