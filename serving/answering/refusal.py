"""Honest refusals: why nothing is answered, said in the question's language, with the scores. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import regex

from serving.answering.extractive import Evidence
from serving.answering.question_words import language

# Measured by benchmarks/answers.py with language-neutral vectors; docs/answers.md has the figures.
LEAST_STRENGTH: Final = 0.62
"""Within a language: refuses 90% of off-topic questions (mean of seven sets) and 0-4% of answerable ones."""
LEAST_STRENGTH_ACROSS: Final = 0.40
"""Across languages: refuses 49% of off-topic questions (mean of eight sets) and 2-5% of answerable ones."""
RELATED_COVERAGE: Final = 0.5
"""With this share of the question's words in one passage, it is near the topic at least."""


class RefusalReason(StrEnum):
    """The machine-readable reason code of a refusal."""

    NOTHING_FOUND = "nothing_found"
    """The search brought no passage at all."""
    OFF_TOPIC = "off_topic"
    """The passages found are about something else."""
    WEAK_EVIDENCE = "weak_evidence"
    """Passages near the question, but none that answers it."""
    NOT_IN_PASSAGES = "not_in_passages"
    """A generator read the passages and found no answer in them."""
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
    RefusalReason.NOT_IN_PASSAGES: {
        "en": "The documents do not answer this question.",
        "zh": "文档中没有这个问题的答案。",
    },
    RefusalReason.SMALL_TALK: {
        "en": "Hello! Ask me something about the documents in this collection.",
        "zh": "你好！请就这个知识库中的文档向我提问。",
    },
}


def refuse(
    reason: RefusalReason, question: str, scores: Mapping[str, float] | None = None
) -> Refusal:
    return Refusal(reason, _MESSAGES[reason][language(question)], scores or {})


def reason_to_refuse(evidence: Evidence) -> RefusalReason | None:
    """None when the evidence carries an answer."""
    least = LEAST_STRENGTH if evidence.same_language else LEAST_STRENGTH_ACROSS
    if strength(evidence) >= least:
        return None
    related = evidence.coverage >= RELATED_COVERAGE
    return RefusalReason.WEAK_EVIDENCE if related else RefusalReason.OFF_TOPIC


def strength(evidence: Evidence) -> float:
    """What the thresholds are compared with: how near the best passage and the nearest sentence are.

    Both have their zero at unrelated texts, in any pair of languages (0002-fusion.md).
    """
    return evidence.score + evidence.similarity


def scores(evidence: Evidence) -> dict[str, float]:
    """What a refusal shows of the evidence."""
    return {
        "score": round(evidence.score, 4),
        "similarity": round(evidence.similarity, 4),
        "coverage": round(evidence.coverage, 4),
        "strength": round(strength(evidence), 4),
    }


# What follows a comma may be the answer: it has a number, or says what something is. Atomic, so that a
# long text takes no time.
_CLAUSE: Final = (
    r"[^.,;]*+(?:[,;](?![^.]*\b(?:is|are|was|were|has|have|but|listens?|uses?)\b)[^.\d]*+)?"
)
_CHINESE_CLAUSE: Final = (
    r"[^。，,；;]*+(?:[，,；;](?![^。]*(?:是(?!否)|为|默认|但|使用))[^。\d]*+)?"
)
_IN_THE_PASSAGES: Final = rf"(?>[^.;\d]*?\ in\ the\ (?:documents?|passages?|context)){_CLAUSE}"
_SAYS_NO_ANSWER: Final = regex.compile(
    rf"""(?:i['’]?m\ sorry|sorry|unfortunately|抱歉|很抱歉|对不起)?[,，。.!！\s]*(?:but\s|但)?(?:
        (?:the\ (?:provided\ |given\ )?(?:documents?|passages?|context|texts?|sources?)\ (?:provided\ |given\ )?
            (?:do(?:es)?\ not|don['’]t|doesn['’]t|cannot|can['’]t)
            \ (?:answer|contain|hold|mention|provide|include|state|say|specify|cover|give)\b{_CLAUSE}
          | (?:there\ is\ )?no\ (?:answer|information){_IN_THE_PASSAGES}
          | i\ (?:can(?:no|['’])t|could\ not|couldn['’]t)\ find\ {_IN_THE_PASSAGES})
      | (?:在|根据)?(?:所?提供的?|给出的?|这些|以上|上述)?(?:文档|段落|资料|文本|材料|信息)(?:中|里|内)?(?:都|均)?
          (?:没有|未|并未|并没有|无)(?:这个问题的答案|提及|提到|包含|说明|涉及|给出|相关){_CHINESE_CLAUSE}
      )[.。!！\s]*""",
    regex.VERBOSE | regex.IGNORECASE,
)


def says_no_answer(text: str, wording: str) -> bool:
    """Whether a generated text, whole, says that the passages hold no answer.

    `wording` is the sentence that the prompt asks for; other usual ones are known too. A text that
    goes on to answer is none.
    """
    said = " ".join(text.split())
    return said.rstrip(".。!！ ") == wording.rstrip(".。!！ ") or bool(
        _SAYS_NO_ANSWER.fullmatch(said)
    )
