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
