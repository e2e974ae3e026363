import pytest

from kb.types import Chunk, Hit
from retrieval.evidence import (
    ACROSS_LANGUAGES_SCORE,
    SAME_LANGUAGE_SCORE,
    has_evidence,
    is_cjk,
    is_evidence,
    least_score,
)

ENGLISH, CHINESE = "The Admin API listens on port 9180.", "Admin API 监听 9180 端口。"


def hit(score: float, text: str) -> Hit:
    chunk = Chunk("c", "d", 0, "", (), None, 0, len(text), text, "h", 1)
    return Hit(chunk, "file:///d", "docs", score, similarity=score, bm25=0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ENGLISH, False),
        (CHINESE, True),
        ("如何修改 Apache APISIX 的默认端口？", True),
        ("What does 端口 mean in the guide?", False),
        ("ポートを変更する", True),
        ("포트 변경", True),
        ("9180?", False),
        ("", False),
    ],
)
def test_is_cjk(text: str, expected: bool) -> None:
    assert is_cjk(text) is expected


def test_a_passage_of_another_language_needs_less() -> None:
    assert ACROSS_LANGUAGES_SCORE < SAME_LANGUAGE_SCORE
    assert least_score("Which port?", ENGLISH) == SAME_LANGUAGE_SCORE
    assert least_score("哪个端口？", CHINESE) == SAME_LANGUAGE_SCORE
    assert least_score("哪个端口？", ENGLISH) == ACROSS_LANGUAGES_SCORE
    assert least_score("Which port?", CHINESE) == ACROSS_LANGUAGES_SCORE


def test_evidence_is_a_score_that_reaches_the_least() -> None:
    assert is_evidence("Which port?", hit(SAME_LANGUAGE_SCORE, ENGLISH))
    assert not is_evidence("Which port?", hit(SAME_LANGUAGE_SCORE - 0.01, ENGLISH))
    assert is_evidence("哪个端口？", hit(SAME_LANGUAGE_SCORE - 0.01, ENGLISH))


def test_one_good_hit_is_enough() -> None:
    weak, good = hit(0.05, ENGLISH), hit(0.6, CHINESE)
    assert has_evidence("Which port?", [weak, good])
    assert not has_evidence("Which port?", [weak])
    assert not has_evidence("Which port?", [])
