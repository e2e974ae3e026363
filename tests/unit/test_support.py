"""How far what an answer says is in its passages."""

import pytest

from kb.types import Chunk, Hit
from serving.answering import citations
from serving.answering.support import best_span, check, compare, numbers_in, statements


def hit(text: str, title: str = "Heron") -> Hit:
    chunk = Chunk("c", "d", 0, title, (), None, 100, 100 + len(text), text, "", 9)
    return Hit(chunk, "d.md", "default", 0.6, 0.8, 5.0)


PORT = hit("Heron is a web server. Heron listens on port 5520 by default. It costs 1,200 euros.")
ZH = hit(
    "一线城市每晚不超过六百元，其他城市每晚不超过四百元。市内交通每天上限为一百五十元。", "差旅"
)


@pytest.mark.parametrize(
    ("statement", "source", "is_high", "missing"),
    [
        ("Heron listens on port 5520.", PORT, True, ()),
        ("By default, Heron uses port 5520.", PORT, True, ()),
        ("Heron listens on port 5521.", PORT, True, ("5521",)),
        ("Heron costs 1200 euros.", PORT, True, ()),
        ("The server of Caspian listens on port 5520.", PORT, True, ("Caspian",)),
        ("Bananas grow in warm countries near rivers.", PORT, False, ()),
        ("一线城市每晚不超过600元。", ZH, True, ()),
        ("一线城市每晚不超过七百元。", ZH, False, ("700",)),
        ("香蕉生长在温暖的河边国家。", ZH, False, ()),
    ],
)
def test_words_numbers_and_names_are_compared(
    statement: str, source: Hit, is_high: bool, missing: tuple[str, ...]
) -> None:
    score, lacking = compare(statement, source.chunk.passage)

    assert score is not None
    assert (score >= 0.5) is is_high
    assert lacking == missing


def test_across_languages_only_numbers_and_names_tell() -> None:
    assert compare("The limit is 150 per day.", ZH.chunk.passage) == (1.0, ())
    assert compare("The limit is 160 per day.", ZH.chunk.passage) == (0.0, ("160",))
    assert compare("It is paid later.", ZH.chunk.passage) == (None, ())


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1,200 and 3.5", {"1200", "3.5"}),
        ("六百元，一千二百，十五天", {"600", "1200", "15"}),
        ("三万五千", {"35000"}),
        ("二〇二四年", {"2024"}),
        ("一个统一的规定", set()),
        ("十二亿", {"1200000000"}),
    ],
)
def test_numbers_are_read_in_both_scripts(text: str, numbers: set[str]) -> None:
    assert numbers_in(text) == numbers


def test_markers_belong_to_the_sentence_before_them() -> None:
    text = "It listens. [1] It waits [2][1]. It ends.\n\n- An item [2]\n- Another"
    cited = [citations.cite(n, PORT, (0, 5)) for n in (1, 2)]

    found = statements(text, cited)

    assert [(text[slice(*span)].strip(), numbers) for span, numbers in found] == [
        ("It listens.", (1,)),
        ("It waits [2][1].", (2, 1)),
        ("It ends.", ()),
        ("- An item", (2,)),
        ("- Another", ()),
    ]


def test_an_answer_is_supported_when_every_cited_sentence_is() -> None:
    cited = [citations.cite(1, PORT, (0, 5))]

    good = check("Heron listens on port 5520. [1]", cited, {1: [PORT]})
    wrong = check("Heron listens on port 5520. [1] It costs 999 euros. [1]", cited, {1: [PORT]})
    uncited = check("Heron listens on port 5520.", [], {})

    assert (good.is_supported, good.score) == (True, 1.0)
    assert not wrong.is_supported
    assert [s.missing for s in wrong.statements] == [(), ("999",)]
    assert (uncited.is_supported, uncited.score) == (False, None)


def test_the_quote_is_the_sentence_that_says_it() -> None:
    found, span = best_span("Heron uses port 5520", [hit("Nothing."), PORT])

    assert found is PORT
    assert PORT.chunk.text[slice(*span)] == "Heron listens on port 5520 by default."


def test_the_whole_passage_is_quoted_where_no_sentence_says_it() -> None:
    found, span = best_span("香蕉", [PORT])

    assert (found, span) == (PORT, (0, len(PORT.chunk.text)))
