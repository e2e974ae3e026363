"""Questions that share a call, and vectors that are kept."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kb.errors import ModelUnavailable
from kb.types import Vectors
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.embedders.micro_batches import MicroBatchingEmbedder
from retrieval.embedders.remembered import RememberingEmbedder

BAD = "bad"


class HeldEmbedder(HashingEmbedder):
    """Notes the texts of each call, waits while it is held, and fails for one text."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, dimensions=256)
        self.calls: list[list[str]] = []
        self.begun = asyncio.Event()
        self.released = asyncio.Event()
        self.released.set()

    async def queries(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        self.begun.set()
        await self.released.wait()
        if BAD in texts:
            raise ModelUnavailable("it can't read this")
        return await super().queries(texts)


@pytest.fixture
def held(tmp_path: Path) -> HeldEmbedder:
    return HeldEmbedder(tmp_path)


def ask(embedder: MicroBatchingEmbedder, *texts: str) -> asyncio.Task[Vectors]:
    return asyncio.create_task(embedder.queries(texts))


async def busy(embedder: MicroBatchingEmbedder, held: HeldEmbedder) -> asyncio.Task[Vectors]:
    """A call that goes on until it is released."""
    held.released.clear()
    first = ask(embedder, "first")
    await held.begun.wait()
    return first


async def all_waiting() -> None:
    """Tasks made before have run until they wait."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_lone_question_goes_at_once(held: HeldEmbedder) -> None:
    embedder = MicroBatchingEmbedder(held, most=8)
    for text in ("one", "two"):
        await embedder.queries([text])
    assert held.calls == [["one"], ["two"]]


async def test_questions_gather_while_one_is_embedded(held: HeldEmbedder) -> None:
    embedder = MicroBatchingEmbedder(held, most=8)
    first = await busy(embedder, held)
    others = [ask(embedder, f"text {i}", "shared") for i in range(3)]
    await all_waiting()
    assert held.calls == [["first"]]
    held.released.set()
    found = await asyncio.gather(*others)
    await first
    assert held.calls[1:] == [["text 0", "shared", "text 1", "shared", "text 2", "shared"]]
    for i, vectors in enumerate(found):
        expected = await HashingEmbedder.queries(held, [f"text {i}", "shared"])
        np.testing.assert_array_equal(vectors, expected)


async def test_no_call_is_larger_than_wanted_and_no_request_is_cut(held: HeldEmbedder) -> None:
    embedder = MicroBatchingEmbedder(held, most=3)
    first = await busy(embedder, held)
    sizes = (2, 2, 1, 5, 1)
    others = [ask(embedder, *(f"{n}.{i}" for i in range(size))) for n, size in enumerate(sizes)]
    await all_waiting()
    held.released.set()
    await asyncio.gather(first, *others)
    assert [len(call) for call in held.calls] == [1, 2, 3, 5, 1]


async def test_who_gives_up_is_left_out_and_takes_nobody_along(held: HeldEmbedder) -> None:
    embedder = MicroBatchingEmbedder(held, most=8)
    first = await busy(embedder, held)
    stays, leaves = ask(embedder, "stays"), ask(embedder, "leaves")
    await all_waiting()
    for each in (first, leaves):
        each.cancel()
    await all_waiting()
    held.released.set()
    assert (await stays).shape == (1, 256)
    assert held.calls == [["first"], ["stays"]]
    assert first.cancelled()


async def test_a_failure_is_only_its_own(held: HeldEmbedder) -> None:
    embedder = MicroBatchingEmbedder(held, most=8)
    first = await busy(embedder, held)
    good, bad = ask(embedder, "good"), ask(embedder, BAD)
    await all_waiting()
    held.released.set()
    assert (await good).shape == (1, 256)
    with pytest.raises(ModelUnavailable):
        await bad
    await first
    assert (await embedder.queries(["later"])).shape == (1, 256)


async def test_closing_ends_what_goes_on_first(held: HeldEmbedder) -> None:
    embedder = MicroBatchingEmbedder(held, most=8)
    first = await busy(embedder, held)
    closing = asyncio.create_task(embedder.close())
    await all_waiting()
    held.released.set()
    await closing
    assert (await first).shape == (1, 256)
    with pytest.raises(ModelUnavailable):
        await embedder.queries(["late"])


async def test_a_text_is_embedded_once(held: HeldEmbedder) -> None:
    embedder = RememberingEmbedder(held, most=64)
    first = await embedder.queries(["a", "b", "a"])
    again = await embedder.queries(["b", "c"])
    assert held.calls == [["a", "b"], ["c"]]
    np.testing.assert_array_equal(again[0], first[1])
    again[0] = 0
    np.testing.assert_array_equal((await embedder.queries(["b"]))[0], first[1])


async def test_the_longest_unused_is_forgotten_and_large_requests_push_nothing_out(
    held: HeldEmbedder,
) -> None:
    embedder = RememberingEmbedder(held, most=16)
    await embedder.queries(["kept"])
    await embedder.queries([str(i) for i in range(100)])
    await embedder.queries(["kept"])
    assert len(held.calls) == 2
    for i in range(16):
        await embedder.queries([f"new {i}"])
    await embedder.queries(["kept"])
    assert held.calls[-1] == ["kept"]
