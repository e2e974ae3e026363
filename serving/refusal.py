"""Honest refusals: why nothing is answered, said in the question's language, with the scores. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import regex

from serving.extractive import Evidence

OFF_TOPIC_SIMILARITY: Final = 0.80
"""Provisional: measured figures follow."""


class RefusalReason(StrEnum):
    """The machine-readable reason code of a refusal."""

    NOTHING_FOUND = "nothing_found"
    """The search brought no passage at all."""
    OFF_TOPIC = "off_topic"
    """The passages found are about something else."""
    WEAK_EVIDENCE = "weak_evidence"
    """Passages near the question, but none that answers it."""
    SMALL_TALK = "small_talk"
    """A greeting or thanks: nothing was searched."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """`message` is for the person who asked; `scores` are what the decision rests on, by name."""

    reason: RefusalReason
    message: str
    scores: Mapping[str, float] = field(default_factory=dict)


_MESSAGES: Final = {
    RefusalReason.NOTHING_FOUND: {
        "en": "I found nothing in the documents for this question.",
        "zh": "在文档中没有找到与这个问题相关的内容。",
    },
    RefusalReason.OFF_TOPIC: {
        "en": "The documents don't seem to cover this question, so I won't guess an answer.",
        "zh": "这些文档似乎没有涉及这个问题，因此不作猜测性的回答。",
    },
    RefusalReason.WEAK_EVIDENCE: {
        "en": "I found related passages, but none that clearly answers this question.",
        "zh": "找到了一些相关段落，但没有一段能明确回答这个问题。",
    },
    RefusalReason.SMALL_TALK: {
        "en": "Hello! Ask me something about the documents in this collection.",
        "zh": "你好！请就这个知识库中的文档向我提问。",
    },
}

_CJK = regex.compile(r"[\p{Han}]")
_LATIN_WORD = regex.compile(r"[\p{Latin}][\p{Latin}\p{N}'’._-]*")
_ENGLISH_FUNCTION_WORD = regex.compile(
    r"\b(?:the|an|is|are|was|were|do|does|did|what|who|whom|whose|when|where|why|which|how|of|in|on|to|and|for|can)\b",
    regex.IGNORECASE,
)
_OTHER_CJK = regex.compile(r"[\p{Hiragana}\p{Katakana}\p{Hangul}]")


def refuse(
    reason: RefusalReason, question: str, scores: Mapping[str, float] | None = None
) -> Refusal:
    return Refusal(reason, _MESSAGES[reason][language(question)], scores or {})


def language(text: str) -> str:
    """ "zh" or "en", by script: Chinese names in an English sentence leave it English, and vice versa."""
    han = len(_CJK.findall(text))
    if han == 0 or _OTHER_CJK.search(text):
        return "en"
    if not _ENGLISH_FUNCTION_WORD.search(text):
        return "zh"
    return "zh" if han > len(_LATIN_WORD.findall(text)) else "en"


def reason_to_refuse(evidence: Evidence) -> RefusalReason | None:
    """None when the evidence carries an answer."""
    if evidence.passage < OFF_TOPIC_SIMILARITY:
        return RefusalReason.OFF_TOPIC
    return None
