import math

import pytest

from retrieval.evaluate import (
    answer_f1,
    answer_tokens,
    auc,
    exact_match,
    hit_at,
    ndcg_at,
    ranking_metrics,
    recall_at,
    reciprocal_rank,
)

RANKING = ["a", "b", "c", "d", "e"]


def test_hit_needs_one_relevant_among_the_first() -> None:
    assert hit_at(RANKING, {"b", "x"}, 1) == 0
    assert hit_at(RANKING, {"b", "x"}, 2) == 1
    assert hit_at([], {"b"}, 10) == 0


def test_recall_is_a_share_of_all_relevant() -> None:
    assert recall_at(RANKING, {"b", "x"}, 5) == 0.5
    assert recall_at(RANKING, {"a", "e"}, 4) == 0.5
    assert recall_at(RANKING, {"a", "e"}, 5) == 1


def test_reciprocal_rank() -> None:
    assert reciprocal_rank(RANKING, {"c", "d"}) == pytest.approx(1 / 3)
    assert reciprocal_rank(RANKING, {"e"}, k=4) == 0
    assert reciprocal_rank(RANKING, {"x"}) == 0


def test_ndcg_by_hand() -> None:
    # relevant at ranks 2 and 4, ideally at 1 and 2
    expected = (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    assert ndcg_at(RANKING, {"b", "d"}) == pytest.approx(expected)
    assert ndcg_at(RANKING, {"a", "b"}) == 1
    assert ndcg_at(RANKING, {"x"}) == 0
    # more relevant than places: a full page is perfect
    assert ndcg_at(["a", "b"], {"a", "b", "c"}, k=2) == 1


def test_nothing_relevant_is_an_error() -> None:
    with pytest.raises(ValueError, match="relevant"):
        recall_at(RANKING, set(), 5)
    with pytest.raises(ValueError, match="relevant"):
        ndcg_at(RANKING, set())
    with pytest.raises(ValueError, match="questions"):
        ranking_metrics({}, {})


def test_ranking_metrics_are_means_over_the_questions() -> None:
    rankings = {"q1": ["a", "a", "b"], "q2": ["x", "a"], "unasked": ["a"]}
    relevant = {"q1": {"b"}, "q2": {"x", "y"}, "unanswered": {"z"}}
    metrics = ranking_metrics(rankings, relevant)
    assert list(metrics) == ["hit@1", "recall@5", "recall@10", "recall@20", "mrr@10", "ndcg@10"]
    assert metrics["hit@1"] == pytest.approx(1 / 3)
    assert metrics["recall@10"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert metrics["mrr@10"] == pytest.approx((0.5 + 1 + 0) / 3)  # the repeated "a" counts once
    ideal_q2 = 1 + 1 / math.log2(3)
    assert metrics["ndcg@10"] == pytest.approx((1 / math.log2(3) + 1 / ideal_q2) / 3)


def test_auc_counts_pairs() -> None:
    assert auc([0.9, 0.8], [0.1, 0.2]) == 1
    assert auc([0.1], [0.9]) == 0
    assert auc([0.5, 0.5], [0.5]) == 0.5
    assert auc([1, 2, 3], [0, 2]) == pytest.approx((1 + 1.5 + 2) / 6)
    with pytest.raises(ValueError, match="both sides"):
        auc([], [1.0])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The Eiffel  Tower!", ["eiffel", "tower"]),
        ("a $5 fee, an hour", ["5", "fee", "hour"]),
        ("1963年10月", ["1963", "年", "10", "月"]),
        ("《光荣》使命", ["光", "荣", "使", "命"]),
        ("ＡＰＩ 网关", ["api", "网", "关"]),
        ("theatre", ["theatre"]),
    ],
)
def test_answer_tokens(text: str, tokens: list[str]) -> None:
    assert answer_tokens(text) == tokens


def test_exact_match_ignores_case_articles_and_punctuation() -> None:
    assert exact_match("The Denver Broncos.", ["Carolina", "denver broncos"]) == 1
    assert exact_match("Denver", ["Denver Broncos"]) == 0
    assert exact_match("日本香川县。", ["日本香川县"]) == 1
    assert exact_match("", []) == 1
    assert exact_match("something", []) == 0


def test_f1_takes_the_best_accepted_answer() -> None:
    assert answer_f1("Denver", ["Denver Broncos", "x y z"]) == pytest.approx(2 / 3)
    assert answer_f1("香川县", ["日本香川县"]) == pytest.approx(2 * 3 / 8)
    assert answer_f1("a cat cat", ["cat"]) == pytest.approx(2 / 3)  # repeats count once each
    assert answer_f1("dog", ["cat"]) == 0
    assert answer_f1("", []) == 1
    assert answer_f1("the", ["dog"]) == 0
