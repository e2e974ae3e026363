"""The use case behind every chat, with the model-free embedder."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from kb.errors import IndexUnavailable
from kb.settings import AnswerSettings
from kb.types import Chunk, Hit
from retrieval.embedders.hashing import HashingEmbedder
from serving.answering.answer import Answer, Message, answer, quoting
from serving.answering.citations import markers
from serving.answering.rungs import deltas

OFFSET = 1000
"""Where the chunks begin in their parsed documents."""


def hit(name: str, text: str, score: float = 0.6) -> Hit:
    chunk = Chunk(name, f"doc-{name}", 0, name, (), None, OFFSET, OFFSET + len(text), text, "", 9)
    return Hit(chunk, f"{name}.md", "default", score, 0.8, 5.0)


HERON = hit(
    "heron", "Heron is a web server. Heron listens on port 5520 by default. Heron is free software."
)
QINGHE = hit("qinghe", "青禾是一套农业监测系统。青禾的默认端口是 6201。青禾每天凌晨三点备份。")
INSTALL = hit(
    "install",
    "Install Heron with this command:\n\ndocker run -d heron \\\n  -p 5520:5520\n\nIt takes long.",
)
TABLE = hit(
    "table", "| Setting | Default |\n| --- | --- |\n| heron workers | 4 |\n| heron timeout | 30 s |"
)


class Searched:
    """A search with fixed hits that remembers what it was asked."""

    def __init__(self, *hits: Hit) -> None:
        self.hits = list(hits)
        self.questions: list[str] = []

    async def __call__(self, question: str) -> list[Hit]:
        self.questions.append(question)
        return self.hits


@pytest.fixture
def embedder(tmp_path: Path) -> HashingEmbedder:
    return HashingEmbedder(tmp_path, dimensions=512)


async def ask(
    embedder: HashingEmbedder, search: Searched, *turns: str, sentences: int = 3
) -> Answer:
    return await answer(
        conversation(turns),
        search=search,
        embedder=embedder,
        answering=quoting(AnswerSettings(sentences=sentences)),
    )


def conversation(turns: Sequence[str]) -> list[Message]:
    return [Message("assistant" if i % 2 else "user", turn) for i, turn in enumerate(turns)]


async def test_the_sentence_that_answers_is_quoted_with_its_citation(
    embedder: HashingEmbedder,
) -> None:
    result = await ask(
        embedder, Searched(HERON, QINGHE), "Which port does Heron listen on?", sentences=1
    )

    assert result.text == "Heron listens on port 5520 by default. [1]"
    (citation,) = result.citations
    assert citation.quote == "Heron listens on port 5520 by default."
    assert HERON.chunk.text[citation.start - OFFSET : citation.end - OFFSET] == citation.quote
    assert (result.answered_by, result.refusal, result.degraded_because) == (
        "extractive",
        None,
        None,
    )
    assert result.hits == (HERON, QINGHE)


async def test_chinese_is_answered_in_chinese(embedder: HashingEmbedder) -> None:
    result = await ask(embedder, Searched(QINGHE, HERON), "青禾的默认端口是多少？", sentences=1)

    assert result.text == "青禾的默认端口是 6201。 [1]"


@pytest.mark.parametrize(
    ("question", "quote"),
    [
        ("出差住宿标准是多少？", "一线城市每晚不超过六百元。"),
        ("出差交通标准是什么？", "优先选择高铁二等座。"),
    ],
)
async def test_a_sentence_is_judged_with_the_heading_above_it(
    embedder: HashingEmbedder, question: str, quote: str
) -> None:
    """Small sections share a chunk, and a sentence rarely repeats its heading's words."""
    merged = hit(
        "travel",
        "国内出差须提前申请。\n\n交通标准\n\n优先选择高铁二等座。\n\n住宿标准\n\n一线城市每晚不超过六百元。",
    )

    result = await ask(embedder, Searched(merged), question, sentences=1)

    assert [citation.quote for citation in result.citations] == [quote]


async def test_citations_are_numbered_in_order_of_appearance(embedder: HashingEmbedder) -> None:
    result = await ask(
        embedder, Searched(HERON, INSTALL, TABLE), "heron default port heron workers"
    )

    assert [c.number for c in result.citations] == list(range(1, len(result.citations) + 1))
    assert [m.citation for m in markers(result.text, result.citations)] == list(result.citations)


async def test_code_comes_in_a_fence_with_its_explanation(embedder: HashingEmbedder) -> None:
    result = await ask(
        embedder, Searched(INSTALL), "Install Heron with which command?", sentences=1
    )

    assert result.text == (
        "Install Heron with this command:\n\n```\ndocker run -d heron \\\n  -p 5520:5520\n```\n\n[1]"
    )
    assert result.citations[0].quote == INSTALL.chunk.text.removesuffix("\n\nIt takes long.")


async def test_a_table_row_is_shown_under_its_header(embedder: HashingEmbedder) -> None:
    result = await ask(embedder, Searched(TABLE), "What is the heron timeout?", sentences=1)

    assert result.text == "| Setting | Default |\n| --- | --- |\n| heron timeout | 30 s |\n\n[1]"
    assert result.citations[0].quote == "| heron timeout | 30 s |"


async def test_what_stands_together_is_one_quote(embedder: HashingEmbedder) -> None:
    result = await ask(
        embedder,
        Searched(hit("a", "Heron workers run. Heron workers wait.")),
        "heron workers",
    )

    assert [c.quote for c in result.citations] == ["Heron workers run. Heron workers wait."]


async def test_the_same_words_in_two_documents_are_quoted_once(embedder: HashingEmbedder) -> None:
    copies = [hit("a", "Heron listens on port 5520."), hit("b", "Heron listens on port 5520.")]

    result = await ask(embedder, Searched(*copies), "Which port does Heron listen on?")

    assert [c.document_id for c in result.citations] == ["doc-a"]


async def test_numbers_in_brackets_of_a_quote_are_no_citations(embedder: HashingEmbedder) -> None:
    cited = hit("wiki", "The heron port is 5520 [7].")

    result = await ask(embedder, Searched(cited), "heron port")

    assert result.text == "The heron port is 5520 \\[7\\]. [1]"
    assert result.citations[0].quote == "The heron port is 5520 [7]."


@pytest.mark.parametrize(
    ("question", "beginning"),
    [
        ("Who won the football final in Madrid?", "The documents"),
        ("谁赢得了马德里的足球决赛？", "这些文档"),
    ],
)
async def test_an_off_topic_question_is_refused_in_its_language(
    embedder: HashingEmbedder, question: str, beginning: str
) -> None:
    result = await ask(
        embedder, Searched(hit("x", "Zebra stripes.", 0.1), hit("y", "斑马条纹", 0.1)), question
    )

    assert result.refusal is not None
    assert result.refusal.reason == "off_topic"
    assert result.text == result.refusal.message
    assert result.text.startswith(beginning)
    assert set(result.refusal.scores) == {"score", "similarity", "coverage", "strength"}
    assert (result.answered_by, result.citations) == ("refusal", ())
    assert len(result.hits) == 2


async def test_no_hits_are_refused_without_scores(embedder: HashingEmbedder) -> None:
    result = await ask(embedder, Searched(), "Which port?")

    assert result.refusal is not None
    assert (result.refusal.reason, dict(result.refusal.scores)) == ("nothing_found", {})


async def test_small_talk_searches_nothing(embedder: HashingEmbedder) -> None:
    search = Searched(HERON)

    result = await ask(embedder, search, "你好！")

    assert search.questions == []
    assert result.refusal is not None
    assert result.refusal.reason == "small_talk"
    assert result.text.startswith("你好")


async def test_a_follow_up_is_searched_with_its_context(embedder: HashingEmbedder) -> None:
    search = Searched(HERON)

    result = await ask(embedder, search, "Where is Heron installed?", "", "And its port?")

    assert search.questions == ["Where is Heron installed? And its port?"]
    assert result.question == search.questions[0]


async def test_a_short_question_is_searched_alone_and_in_context(embedder: HashingEmbedder) -> None:
    search = Searched(HERON)

    await ask(embedder, search, "How do I install Heron on Linux?", "", "Default port?")

    assert search.questions == ["How do I install Heron on Linux? Default port?", "Default port?"]


async def test_a_failing_search_is_not_an_answer(embedder: HashingEmbedder) -> None:
    async def failing(_: str) -> list[Hit]:
        raise IndexUnavailable("The index can't be reached.")

    with pytest.raises(IndexUnavailable):
        await answer(
            conversation(["Which port?"]),
            search=failing,
            embedder=embedder,
            answering=quoting(AnswerSettings()),
        )


@pytest.mark.parametrize(
    "text",
    [
        "Heron listens on 5520. [1]\n\n青禾的默认端口是 6201。 [2]\n\n```\nx = [3]\n```\n\n[3]",
        "",
        "a",
    ],
)
def test_deltas_join_to_the_text_and_cut_no_marker(text: str) -> None:
    parts = list(deltas(text))

    assert "".join(parts) == text
    assert all(part.count("[") == part.count("]") for part in parts)
    assert all(parts)
