"""What every generator must do: the scripted one, one behind a real server, one in this process."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kb.generation import Message, ModelDelta, Sampling
from kb.ports import Generator
from serving.generators.openai_compatible import OpenAICompatibleGenerator
from serving.generators.transformers_generator import TransformersGenerator
from tests.misbehaving import Misbehaving, misbehaving_server
from tests.scripted import ScriptedGenerator

QUESTION = [Message("system", "Be brief."), Message("user", "What is the port of Heron?")]
KINDS = [
    "scripted",
    "openai",
    pytest.param("transformers", marks=[pytest.mark.slow, pytest.mark.torch]),
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Misbehaving]:
    with misbehaving_server() as found:
        yield found


@pytest.fixture(params=KINDS)
async def generator(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: Misbehaving
) -> AsyncIterator[Generator]:
    found: Generator
    if request.param == "scripted":
        found = ScriptedGenerator("The port ", "is ", "5520.")
    elif request.param == "openai":
        found = OpenAICompatibleGenerator(f"{upstream.url}/v1")
    else:
        from tests.models.tiny_model import make_tiny_model

        found = TransformersGenerator(str(make_tiny_model(tmp_path)), device="cpu")
    yield found
    await found.close()


async def said(generator: Generator, sampling: Sampling) -> list[ModelDelta]:
    return [delta async for delta in generator.stream(QUESTION, sampling)]


async def test_it_is_ready_and_named(generator: Generator) -> None:
    await generator.ready()

    assert generator.name


async def test_it_says_something_in_pieces_and_ends_once(generator: Generator) -> None:
    deltas = await said(generator, Sampling(temperature=0.0, max_tokens=20))

    assert len([delta for delta in deltas if delta.text]) > 1
    assert ModelDelta() not in deltas
    assert len([delta for delta in deltas if delta.finish]) == 1
    assert len([delta for delta in deltas if delta.usage]) == 1


async def test_longer_texts_have_more_tokens_and_none_more_than_bytes(generator: Generator) -> None:
    texts = ["port", "the port of Heron is 5520, as everybody knows", "青禾的端口是多少？"]

    counted = await generator.count_tokens(texts)

    assert 0 < counted[0] < counted[1]
    assert all(n <= len(text.encode()) for n, text in zip(counted, texts, strict=True))
    assert await generator.count_tokens([]) == []


async def test_it_knows_its_context(generator: Generator) -> None:
    assert await generator.context_tokens() > 100


async def test_it_can_be_left_early_and_asked_again(generator: Generator) -> None:
    stream = generator.stream(QUESTION, Sampling(temperature=0.0, max_tokens=300))
    await anext(stream)
    await stream.aclose()

    assert await said(generator, Sampling(temperature=0.0, max_tokens=5))


async def test_closing_twice_is_harmless(generator: Generator) -> None:
    await generator.close()
    await generator.close()
