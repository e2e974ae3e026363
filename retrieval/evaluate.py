"""Measures of rankings, refusals and answers. Pure functions; every figure is 0 to 1, larger is better."""

import math
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import regex

CUTS: Final = (5, 10, 20)
"""Ranks at which recall is reported."""


# --- Rankings: ids best first, each once -------------------------------------------------------


def hit_at(ranking: Sequence[str], relevant: Collection[str], k: int) -> float:
    """1 when any of the first k is relevant, else 0 (success@k)."""
    return float(any(item in relevant for item in ranking[:k]))


def recall_at(ranking: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Share of the relevant that is among the first k. Raises ValueError when nothing is relevant."""
    if not relevant:
        raise ValueError("recall needs at least one relevant item")
    return len(set(ranking[:k]) & set(relevant)) / len(set(relevant))


def reciprocal_rank(ranking: Sequence[str], relevant: Collection[str], k: int = 10) -> float:
    """1 / rank of the first relevant, 0 beyond rank k; its mean is MRR@k (Voorhees, TREC-8, 1999)."""
    ranks = (rank for rank, item in enumerate(ranking[:k], start=1) if item in relevant)
    return 1 / next(ranks, math.inf)


def ndcg_at(ranking: Sequence[str], relevant: Collection[str], k: int = 10) -> float:
    """Discounted gain 1 / log2(rank + 1) over the best there could be, relevance being 0 or 1.

    Järvelin and Kekäläinen, TOIS 20(4), 2002, in trec_eval's form. Raises ValueError when nothing
    is relevant.
    """
    if not relevant:
        raise ValueError("nDCG needs at least one relevant item")
    gained = (r for r, item in enumerate(ranking[:k], start=1) if item in relevant)
    best = range(1, min(k, len(set(relevant))) + 1)
    return _discounted(gained) / _discounted(best)


def _discounted(ranks: Iterable[int]) -> float:
    return math.fsum(1 / math.log2(rank + 1) for rank in ranks)


def ranking_metrics(
    rankings: Mapping[str, Sequence[str]], relevant: Mapping[str, Collection[str]]
) -> dict[str, float]:
    """Means over the questions of `relevant`; a question without a ranking found nothing.

    Repeated ids count at their first place, so chunks may be given by their documents' ids.
    Keys: hit@1, recall@5, recall@10, recall@20, mrr@10, ndcg@10.
    Raises ValueError when there are no questions.
    """
    if not relevant:
        raise ValueError("there are no questions to measure")
    rows: list[dict[str, float]] = []
    for question, gold in relevant.items():
        ranking = list(dict.fromkeys(rankings.get(question, ())))
        row = {"hit@1": hit_at(ranking, gold, 1)}
        row |= {f"recall@{k}": recall_at(ranking, gold, k) for k in CUTS}
        row |= {"mrr@10": reciprocal_rank(ranking, gold), "ndcg@10": ndcg_at(ranking, gold)}
        rows.append(row)
    return {name: math.fsum(row[name] for row in rows) / len(rows) for name in rows[0]}


# --- Refusals ----------------------------------------------------------------------------------


def auc(answerable: Iterable[float], unanswerable: Iterable[float]) -> float:
    """Chance that an answerable question scores above an unanswerable one, ties counting half.

    The area under the ROC curve as the Mann-Whitney statistic (Hanley and McNeil, Radiology 143,
    1982). Raises ValueError when either side is empty.
    """
    positive, negative = Counter(answerable), Counter(unanswerable)
    if not positive or not negative:
        raise ValueError("AUC needs scores on both sides")
    won, below = 0.0, 0
    for score in sorted(positive.keys() | negative.keys()):
        won += positive[score] * (below + negative[score] / 2)
        below += negative[score]
    return won / (positive.total() * negative.total())


# --- Answers -----------------------------------------------------------------------------------

_ARTICLES = regex.compile(r"\b(?:a|an|the)\b")
_SIGNS = regex.compile(r"[\p{P}\p{S}]")
# A CJK character is a token by itself; anything else is split by white space.
_TOKENS = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]|[^\s\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]+"
)


def answer_tokens(text: str) -> list[str]:
    """SQuAD's normalisation (Rajpurkar et al., EMNLP 2016): no case, punctuation or articles.

    CJK characters are tokens of their own, as in MLQA's and CMRC 2018's scripts.
    """
    plain = _SIGNS.sub("", unicodedata.normalize("NFKC", text).casefold())
    return _TOKENS.findall(_ARTICLES.sub(" ", plain))


def exact_match(answer: str, accepted: Sequence[str]) -> float:
    """1 when the normalised answer equals an accepted one. No accepted answer: 1 for an empty one."""
    given = answer_tokens(answer)
    return float(any(given == answer_tokens(gold) for gold in accepted or ("",)))


def answer_f1(answer: str, accepted: Sequence[str]) -> float:
    """Harmonic mean of the tokens' precision and recall, for the accepted answer that fits best."""
    given = Counter(answer_tokens(answer))
    return max(_f1(given, Counter(answer_tokens(gold))) for gold in accepted or ("",))


def _f1(given: Counter[str], gold: Counter[str]) -> float:
    if not given or not gold:
        return float(given == gold)
    return 2 * (given & gold).total() / (given.total() + gold.total())
