"""When the evidence is too weak to answer, and what is said then."""

import pytest

from serving.answering.extractive import Evidence
from serving.answering.refusal import (
    LEAST_STRENGTH,
    LEAST_STRENGTH_ACROSS,
    RELATED_COVERAGE,
    RefusalReason,
    reason_to_refuse,
    refuse,
    says_no_answer,
    scores,
)


def evidence(strength: float, same_language: bool = True, coverage: float = 0.0) -> Evidence:
    """Half of the strength from the passage's score, half from the sentence's similarity."""
    return Evidence(strength / 2, strength / 2, coverage, same_language)


@pytest.mark.parametrize(
    ("same_language", "least"), [(True, LEAST_STRENGTH), (False, LEAST_STRENGTH_ACROSS)]
)
def test_evidence_is_passage_and_sentence_together(same_language: bool, least: float) -> None:
    assert reason_to_refuse(evidence(least + 0.01, same_language)) is None
    assert reason_to_refuse(evidence(least - 0.01, same_language)) == RefusalReason.OFF_TOPIC


def test_a_passage_of_another_language_needs_less() -> None:
    between = (LEAST_STRENGTH + LEAST_STRENGTH_ACROSS) / 2

    assert reason_to_refuse(evidence(between, same_language=False)) is None
    assert reason_to_refuse(evidence(between, same_language=True)) == RefusalReason.OFF_TOPIC


def test_many_words_in_common_are_a_related_passage() -> None:
    reason = reason_to_refuse(evidence(0.3, coverage=RELATED_COVERAGE))

    assert reason == RefusalReason.WEAK_EVIDENCE


def test_a_refusal_is_in_the_questions_language_and_shows_its_scores() -> None:
    shown = scores(Evidence(0.12344, 0.2, 0.25, True))

    refusal = refuse(RefusalReason.OFF_TOPIC, "谁赢了？", shown)

    assert refusal.message.startswith("这些文档")
    assert refusal.scores == {
        "score": 0.1234,
        "similarity": 0.2,
        "coverage": 0.25,
        "strength": 0.3234,
    }


@pytest.mark.parametrize(
    "text",
    [
        "Not known here.",
        "Unfortunately, the provided documents do not mention the old version.",
        "There is no information about ports in the passages provided.",
        "I'm sorry, but I could not find the port of Heron in the documents.",
        "文档中没有提及旧版本的端口。",
        "The documents do not mention the old version, so I cannot answer this question.",
        "抱歉，根据提供的资料没有相关信息。",
        "文档中没有提及旧版本，因此无法回答这个问题。",
        "很抱歉，上述文档里未提到默认端口！",
        "文档中没有提及 Heron 的端口，也没有提及主机。",
        "文档中没有提及旧版本，无法判断是否可用。",
        "The documents do not mention the port, the host or the password.",
        "The provided documents do not contain any information about Heron, its port or its configuration.",
        "Unfortunately, the documents do not mention this, so I don't know.",
        "I cannot find the port of Heron, or any port, in the documents.",
        "The documents do not mention it, so I can't answer your question, sorry.",
    ],
)
def test_a_text_that_only_says_there_is_no_answer(text: str) -> None:
    assert says_no_answer(text, "Not known here.")


@pytest.mark.parametrize(
    "text",
    [
        "文档中没有提及旧版本，默认端口是 9180。",
        "文档中没有提及旧版本,默认端口是 9180。",
        "文档中没有提及旧版本；默认端口是 9180。",
        "文档中没有提及旧版本;默认端口是 9180。",
        "文档中没有提及旧版本。默认端口是 9180。",
        "The documents do not mention the old version, the default port is 9180.",
        "The documents do not mention the old version; the default port is 9180.",
        "There is no information about 2.0, but 9180 is the port in the documents.",
        "I can't find the old version; 9180 is the port in the documents.",
        "The documents do not mention the old version, but Heron listens on all ports.",
        "文档中没有提及旧版本，但新版本默认监听所有端口。",
    ],
)
def test_a_text_that_goes_on_to_answer(text: str) -> None:
    assert not says_no_answer(text, "Not known here.")


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "unit", ["no answer ", " in the documents", "文档中没有相关", "a", " ", ","]
)
@pytest.mark.parametrize("start", ["", "I cannot find ", "No answer ", "文档中没有提及，"])
def test_a_long_text_takes_no_time(start: str, unit: str) -> None:
    """With a square in it each takes many minutes."""
    said = (start + unit * 300_000)[:300_000]

    assert not says_no_answer(said + "; it is 5.", "Not known here.")
