"""The model in this process: loaded when asked, one answer at a time, its memory given back."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kb.errors import ModelUnavailable
from kb.generation import Message, ModelDelta, Sampling
from serving.generators.transformers_generator import TransformersGenerator
from tests.models.tiny_model import make_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.torch]

QUESTION = [Message("system", "Be brief."), Message("user", "What is the port of Heron?")]
SHORT = Sampling(temperature=0.0, max_tokens=8)
LONG = Sampling(temperature=0.0, max_tokens=400)
STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{{ m['content'] }}<|end|>{% endfor %}"
)
"""As those of Gemma and of Mistral's first models."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: what it says is nonsense, but it is said as any model would."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
async def generator(model: Path) -> AsyncIterator[TransformersGenerator]:
    found = TransformersGenerator(str(model), device="cpu")
    yield found
    await found.close()


async def said(generator: TransformersGenerator, sampling: Sampling = SHORT) -> list[ModelDelta]:
    return [delta async for delta in generator.stream(QUESTION, sampling)]


async def test_it_streams_and_counts(generator: TransformersGenerator) -> None:
    *deltas, last = await said(generator, Sampling(temperature=0.0, max_tokens=40))

    assert len(deltas) > 1
    assert (last.finish, last.usage and last.usage.completion_tokens) == ("length", 40)
    assert last.usage
    assert last.usage.prompt_tokens > 10


async def test_the_same_seed_says_the_same(generator: TransformersGenerator) -> None:
    sampling = Sampling(temperature=1.0, seed=3, max_tokens=12)
    first, second = [await said(generator, sampling) for _ in range(2)]
    other = await said(generator, Sampling(temperature=1.0, seed=4, max_tokens=12))

    assert first == second
    assert first != other


async def test_penalties_lower_what_was_said_before(generator: TransformersGenerator) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=30, presence_penalty=2.0, frequency_penalty=2.0)

    assert await said(generator, sampling) != await said(
        generator, Sampling(temperature=0.0, max_tokens=30)
    )


async def test_it_counts_tokens_and_knows_its_context(generator: TransformersGenerator) -> None:
    short, long = await generator.count_tokens(["port", "the port of Heron is 5520"])

    assert 0 < short < long
    assert await generator.context_tokens() == 512


async def test_leaving_early_ends_the_work(generator: TransformersGenerator) -> None:
    await said(generator)
    stream = generator.stream(QUESTION, LONG)
    await anext(stream)
    started = time.monotonic()

    await stream.aclose()
    await said(generator)

    assert time.monotonic() - started < 1.0


async def test_the_loop_goes_on_while_it_thinks(generator: TransformersGenerator) -> None:
    await said(generator)
    longest = 0.0

    async def ticks() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    ticking = asyncio.create_task(ticks())
    await said(generator, LONG)
    ticking.cancel()

    assert longest < 0.25


async def test_answers_come_one_after_another(generator: TransformersGenerator) -> None:
    answers = await asyncio.gather(*(said(generator) for _ in range(4)))

    assert all(answer == answers[0] for answer in answers)


async def test_memory_is_given_back_when_nobody_asks(model: Path) -> None:
    generator = TransformersGenerator(str(model), device="cpu", idle_s=0.2)
    await said(generator)
    assert generator.is_loaded

    await asyncio.sleep(0.5)
    assert not generator.is_loaded
    assert await said(generator)
    await generator.close()
    assert not generator.is_loaded


async def test_a_warm_one_keeps_its_memory(model: Path) -> None:
    generator = TransformersGenerator(str(model), device="cpu", idle_s=0.1, keep=True)
    await generator.ready()

    await asyncio.sleep(0.3)

    assert generator.is_loaded
    await generator.close()


async def test_who_gives_up_waiting_does_not_stop_the_loading(model: Path) -> None:
    generator = TransformersGenerator(str(model), device="cpu")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await generator.ready()

    assert await said(generator)
    await generator.close()


async def test_a_missing_model_is_said_to_be_missing(tmp_path: Path) -> None:
    generator = TransformersGenerator(str(tmp_path / "nowhere"))

    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="nowhere"):
            await generator.ready()
    await generator.close()


async def test_too_little_memory_is_an_error_of_the_model(model: Path, tmp_path: Path) -> None:
    """Its configuration asks for 400 TB, which no machine has."""
    huge = tmp_path / "huge"
    shutil.copytree(model, huge)
    config = json.loads((huge / "config.json").read_text())
    config |= {"intermediate_size": 10**12}
    (huge / "config.json").write_text(json.dumps(config))
    generator = TransformersGenerator(str(huge), device="cpu")

    with pytest.raises(ModelUnavailable, match="can't be loaded"):
        await generator.ready()
    await generator.close()


def with_template(model: Path, folder: Path, template: str) -> TransformersGenerator:
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(template)
    return TransformersGenerator(str(folder), device="cpu")


async def test_a_template_without_system_role_is_given_its_text(
    model: Path, tmp_path: Path
) -> None:
    generator = with_template(model, tmp_path / "strict", STRICT)
    with_system = await said(generator)
    without = [delta async for delta in generator.stream(QUESTION[1:], SHORT)]
    await generator.close()

    assert with_system[-1].usage
    assert without[-1].usage
    assert with_system[-1].usage.prompt_tokens > without[-1].usage.prompt_tokens


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('No chats.') }}", "{% for %}"], ids=["refuses", "broken"]
)
async def test_a_template_that_fails_is_an_error_of_the_model(
    model: Path, tmp_path: Path, template: str
) -> None:
    generator = with_template(model, tmp_path / "failing", template)

    with pytest.raises(ModelUnavailable, match="failed"):
        await said(generator)
    await generator.close()
