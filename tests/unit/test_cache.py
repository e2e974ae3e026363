"""What is kept, under which key, and what is not."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

import pytest

from kb.errors import ModelUnavailable
from kb.generation import Message, Sampling
from kb.settings import AnswerSettings, GenerationSettings, Settings
from kb.types import UNRESTRICTED, Access, Chunk, Citation, Generation, Hit, IndexSchema
from serving.answering.events import Answer, Event, Finished, ReasoningDelta, TextDelta
from serving.answering.refusal import RefusalReason, refuse
from serving.answering.support import check
from serving.caching.cache import Cache, View, configuration_of
from serving.caching.stores import MemoryStore, StoreUnavailable

GENERATION = Generation(
    "default", 1, "kb-default.1", IndexSchema("fake", 4, 1, 1), live=True, stamp="s1"
)
VIEW = View(GENERATION, Access(groups=frozenset({"b", "a"})))
CHUNK = Chunk("c1", "d1", 0, "Kitchen", ("Kitchen",), None, 0, 20, "Descale it monthly.", "h", 4)
HIT = Hit(CHUNK, "file:///kitchen.md", "default", 0.1 + 0.2, None, 1.5, ("file:///copy.md",))
CITED = Citation(1, "d1", "c1", HIT.uri, "Kitchen", ("Kitchen",), None, CHUNK.text, 0, 20, 0.3)
ANSWER = Answer(
    "Descale it monthly. [1]",
    (CITED,),
    (HIT,),
    "extractive",
    None,
    None,
    "How often?",
    check("Descale it monthly. [1]", [CITED], {1: [HIT]}),
)
QUESTION = [Message("user", "How often?")]


@dataclass
class Counting:
    """Finds, or answers, and counts how often."""

    answer: Answer = ANSWER
    asked: list[str] = field(default_factory=list)

    async def find(self, question: str) -> list[Hit]:
        self.asked.append(question)
        return [HIT]

    async def events(self) -> AsyncGenerator[Event, None]:
        self.asked.append("")
        yield TextDelta(self.answer.text)
        yield Finished(self.answer)


class BrokenStore:
    async def get(self, key: str) -> bytes | None:
        raise StoreUnavailable

    async def put(self, key: str, value: bytes) -> None:
        raise StoreUnavailable

    async def close(self) -> None:
        return


class ForgedStore(BrokenStore):
    async def get(self, key: str) -> bytes | None:
        return b'[{"chunk": 1}]'


def cache(configuration: str = "one", temperature: float = 0.0) -> Cache:
    return Cache(MemoryStore(1 << 20, 600), configuration, temperature)


async def ask(
    some: Cache,
    counting: Counting,
    messages: list[Message] | None = None,
    sampling: Sampling | None = None,
    view: View = VIEW,
) -> list[Event]:
    events = some.answer_events(messages or QUESTION, sampling or Sampling(), view, counting.events)
    return [event async for event in events]


# --- Searches -----------------------------------------------------------------------------------


async def test_hits_come_back_as_they_were() -> None:
    some, counting = cache(), Counting()
    first = await some.search("how often", 5, VIEW, counting.find)
    second = await some.search("  how\n often ", 5, VIEW, counting.find)
    assert (first.cached, second.cached) == (False, True)
    assert second.hits == first.hits == [HIT]
    assert counting.asked == ["how often"]


@pytest.mark.parametrize(
    "view",
    [
        View(replace(GENERATION, stamp="s2"), VIEW.access),
        View(replace(GENERATION, index_name="kb-default.2"), VIEW.access),
        View(GENERATION, UNRESTRICTED),
        View(GENERATION, Access(groups=frozenset())),
        View(GENERATION, Access(groups=frozenset({"a"}))),
        View(GENERATION, Access(groups=frozenset({"a,b"}))),
        View(GENERATION, Access(groups=frozenset({"a", "b", "c"}))),
    ],
    ids=["stamp", "index", "all groups", "no group", "fewer", "a comma", "more"],
)
async def test_another_index_or_other_rights_find_nothing_kept(view: View) -> None:
    some, counting = cache(), Counting()
    await some.search("q", 5, VIEW, counting.find)
    assert not (await some.search("q", 5, view, counting.find)).cached
    await ask(some, counting)
    assert not _last(await ask(some, counting, view=view)).cached


async def test_another_limit_or_case_finds_nothing_kept() -> None:
    some, counting = cache(), Counting()
    await some.search("who", 5, VIEW, counting.find)
    assert not (await some.search("who", 6, VIEW, counting.find)).cached
    assert not (await some.search("WHO", 5, VIEW, counting.find)).cached


async def test_other_settings_find_nothing_kept_in_a_shared_store() -> None:
    store, counting = MemoryStore(1 << 20, 600), Counting()
    await Cache(store, "one").search("q", 5, VIEW, counting.find)
    assert not (await Cache(store, "other").search("q", 5, VIEW, counting.find)).cached
    assert (await Cache(store, "one").search("q", 5, VIEW, counting.find)).cached


def test_settings_that_shape_answers_are_part_of_the_configuration() -> None:
    settings = Settings()
    others = [
        settings.model_copy(update={"answers": AnswerSettings(sentences=2)}),
        settings.model_copy(update={"generation": GenerationSettings(url="http://a/v1")}),
        settings.model_copy(update={"generation": GenerationSettings(url="http://b/v1")}),
    ]
    assert len({configuration_of(each) for each in (settings, *others)}) == 4
    assert configuration_of(Settings(log={"level": "debug"})) == configuration_of(settings)


@pytest.mark.parametrize("store", [BrokenStore(), ForgedStore()])
async def test_a_store_that_fails_or_holds_something_else_only_costs_time(
    store: BrokenStore,
) -> None:
    some, counting = Cache(store, "one"), Counting()
    for _ in range(2):
        found = await some.search("q", 5, VIEW, counting.find)
        assert (found.hits, found.cached) == ([HIT], False)
    assert _last(await ask(some, counting)) == ANSWER


async def test_without_the_store_nothing_is_found_or_kept() -> None:
    some, counting = cache(), Counting()
    without = some.without_store()
    await without.search("q", 5, VIEW, counting.find)
    assert not (await some.search("q", 5, VIEW, counting.find)).cached
    assert not (await without.search("q", 5, VIEW, counting.find)).cached


async def test_failures_are_not_kept() -> None:
    some, counting = cache(), Counting()

    async def fails(question: str) -> list[Hit]:
        raise ModelUnavailable(question)

    with pytest.raises(ModelUnavailable):
        await some.search("q", 5, VIEW, fails)
    assert not (await some.search("q", 5, VIEW, counting.find)).cached


async def test_half_a_surrogate_pair_is_answered_and_not_kept() -> None:
    some, counting = cache(), Counting(replace(ANSWER, question="\ud800"))
    for _ in range(2):
        assert not _last(await ask(some, counting, [Message("user", "\ud800")])).cached


# --- Answers ------------------------------------------------------------------------------------


def _last(events: list[Event]) -> Answer:
    assert isinstance(events[-1], Finished)
    return events[-1].answer


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        replace(ANSWER, answered_by="generator", model="m", prompt="p 1", reasoning="Hm."),
        Answer("No.", (), (), "refusal", None, refuse(RefusalReason.OFF_TOPIC, "q"), "q"),
        Answer("", (), (HIT,), "refusal", None, refuse(RefusalReason.OFF_TOPIC, "q"), "q"),
    ],
    ids=["extractive", "generator", "refusal", "refusal of JSON"],
)
async def test_an_answer_comes_back_as_it_was_in_pieces(answer: Answer) -> None:
    some, counting = cache(), Counting(answer)
    assert _last(await ask(some, counting)) == answer
    events = await ask(some, counting)
    assert _last(events) == replace(answer, cached=True)
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == answer.text
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == answer.reasoning
    assert len(counting.asked) == 1


async def test_the_conversation_and_the_sampling_are_part_of_the_question() -> None:
    some, counting = cache(), Counting()
    conversations = [
        QUESTION,
        [Message("system", "Be brief."), *QUESTION],
        [Message("user", "The kettle?"), Message("assistant", "Yes."), *QUESTION],
        [Message("user", "The kettle?"), Message("assistant", "No."), *QUESTION],
    ]
    for messages in conversations:
        assert not _last(await ask(some, counting, messages)).cached
    assert not _last(await ask(some, counting, sampling=Sampling(max_tokens=5))).cached
    assert all([_last(await ask(some, counting, messages)).cached for messages in conversations])


@pytest.mark.parametrize(
    ("answer", "sampling"),
    [
        (replace(ANSWER, degraded_because="generator: model_unavailable"), Sampling()),
        (replace(ANSWER, model="m"), Sampling(temperature=0.7)),
        (ANSWER, Sampling(logprobs=True)),
    ],
    ids=["degraded", "drawn by chance", "log probabilities"],
)
async def test_what_would_not_be_given_again_is_not_kept(
    answer: Answer, sampling: Sampling
) -> None:
    some, counting = cache(), Counting(answer)
    for _ in range(2):
        assert not _last(await ask(some, counting, sampling=sampling)).cached
    assert len(counting.asked) == 2


async def test_the_settings_temperature_counts_where_the_question_names_none() -> None:
    warm, counting = cache(temperature=0.5), Counting(replace(ANSWER, model="m"))
    for sampling in (Sampling(), Sampling(), Sampling(temperature=0.0)):
        assert not _last(await ask(warm, counting, sampling=sampling)).cached
    assert _last(await ask(warm, counting, sampling=Sampling(temperature=0.0))).cached


async def test_an_answer_whose_client_left_is_not_kept() -> None:
    some, counting = cache(), Counting()
    events = some.answer_events(QUESTION, Sampling(), VIEW, counting.events)
    assert isinstance(await anext(events), TextDelta)
    await events.aclose()
    assert not _last(await ask(some, counting)).cached
