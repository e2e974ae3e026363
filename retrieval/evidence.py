"""Whether a search found anything that is about the question. Pure.

It tells questions about something else from questions the documents cover. It can't tell whether a
passage that is about the question also answers it: that needs a look at the answer.
"""

from collections.abc import Iterable
from typing import Final

import regex

from kb.types import Hit

# A best hit below these refuses. Measured on public sets, answerable questions refused / questions
# about something else caught, mean over sets (docs/decisions/0002-fusion.md):
# same language .8% (worst set 2.8%) / 84%; across languages .6% (worst 1.5%) / 41%.
SAME_LANGUAGE_SCORE: Final = 0.22
ACROSS_LANGUAGES_SCORE: Final = 0.14

_CJK = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")
_OTHER_WORD = regex.compile(r"[\p{L}--[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]]+", regex.V1)


def has_evidence(question: str, hits: Iterable[Hit]) -> bool:
    """Whether any hit is good enough to answer from."""
    return any(is_evidence(question, hit) for hit in hits)


def is_evidence(question: str, hit: Hit) -> bool:
    return hit.score >= least_score(question, hit.chunk.text)


def least_score(question: str, passage: str) -> float:
    """The score that a passage needs: lower across languages, where no words can be in common."""
    if is_cjk(question) == is_cjk(passage):
        return SAME_LANGUAGE_SCORE
    return ACROSS_LANGUAGES_SCORE


def is_cjk(text: str) -> bool:
    """Whether a text is written in Chinese, Japanese or Korean, foreign names and code aside."""
    return len(_CJK.findall(text)) > len(_OTHER_WORD.findall(text))
