"""From a conversation to the question that is searched. Pure, without a language model.

A follow-up ("and on Windows?", "它的默认端口呢？") is put together with the question it leans on; a
question that stands alone is searched as it is. System messages are never searched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import regex

from kb.errors import InvalidQueryError
from serving.question_words import content_terms

# "Leaning": what the signs of a follow-up are. Each pattern is a fact about English or Chinese.
_LEAD: Final = regex.compile(
    r"""\s*(?:(?:ok(?:ay)?|thanks|thank\ you|great|good|好的?|谢谢)[,.!，。！]\s*)?
        (?:and|but|or|so|then|also|plus|what\ about|how\ about|what\ if|what\ else|anything\ else|same\ for
         |那么?(?![个些里边种次天年位时]|[^呢？?]{0,8}的是)|还有|以及|而(?!且)|另外|然后|如果是|换成|那要是)
        (?:\b|(?<=\p{Han}))[,，\s]*""",
    regex.VERBOSE | regex.IGNORECASE,
)
_ONLY_ASKS: Final = regex.compile(r"呢\s*[？?]*\s*$")
_OBJECT: Final = regex.compile(
    r"\b(?:it|they|them|him|he|she|this|these|those|that one|the (?:same|latter|former|other)(?: one)?"
    r"|which ones?|the (?:first|second|third|last) one)\b"
    r"|[它他她]们?|(?<!在)这(?:个|些|种|里|样|项|款|家|本|部)?|那(?:个|些|种|里|样|项|款|家|本|部)|上述|前者|后者|刚才"
    r"|(?<!应)该(?=\p{Han})|此(?!外|前|后)|哪一?个更",
    regex.IGNORECASE,
)
_POSSESSIVE: Final = regex.compile(
    r"\b(?:its|their|his|her)\b|[它他她]们?的|(?<![尤极与])其(?![他它余中实次])",
    regex.IGNORECASE,
)
_AT_THE_END: Final = regex.compile(r"\b(?:that|there|one|so|her)\s*[?.!]*\s*$", regex.IGNORECASE)
_THAT_FIRST: Final = regex.compile(r"\bthat\b", regex.IGNORECASE)
# "Is it possible to", "how long does it take to": nothing is meant by this "it".
_MEANS_NOTHING: Final = regex.compile(
    r"\b(?:is|was|will) it (?:possible|necessary|safe|ok|okay|legal|true|better|worth|that|who|called)\b"
    r"|\bdoes it (?:take|mean|cost) to\b|\bthis (?:collection|knowledge base|documentation)\b",
    regex.IGNORECASE,
)
_NEW_CLAUSE: Final = regex.compile(
    r"[,，;；。.!?？]|\b(?:and|that|when|if|because|while|before|after|since|so)\b|然后|并且|而且|之后|的时候",
    regex.IGNORECASE,
)
_NAME: Final = regex.compile(r"\p{Lu}[\w.-]*\p{L}[\w.-]*")
_PERSON_OR_PLACE: Final = regex.compile(
    r"\b(?:he|him|his|she|her|they|them|their|there)\b|[他她]们?|那里|那儿", regex.IGNORECASE
)

_FEW_TERMS: Final = 2
"""A question with at most this many content terms may be about what was just talked of."""
_ANSWER_CHARACTERS: Final = 80

_SMALL_TALK: Final = regex.compile(
    r"""(?:[\s\p{P}\p{S}]*(?:
      (?:hi|hello|hey|hiya|good\ (?:morning|afternoon|evening|night|day)|how\ are\ you(?:\ doing|\ today)?
        |thanks?(?:\ you)?(?:\ (?:a\ lot|so\ much|very\ much|again))?|many\ thanks|thx|cheers|ok(?:ay)?|great|cool
        |nice|perfect|got\ it|(?:good)?bye|see\ you(?:\ later)?|wh(?:o|at)\ are\ you|what\ can\ you\ do|there
        |everyone|test(?:ing)?|yes|no)\b
      |你好啊?|您好|嗨|哈喽|大家好|[早上中下晚]午?[上好]?好|早安|晚安|谢谢[你您啦了]?|多谢|(?:非常)?感谢|好[的吧]?|嗯|行
      |明白了?|知道了|收到|再见|拜拜|你是谁|你叫什么(?:名字)?|你[会能](?:做|干)?什么|在吗|测试|是的?|没有了?
    )[\s\p{P}\p{S}]*)*""",
    regex.VERBOSE | regex.IGNORECASE,
)
_LONGEST_SMALL_TALK: Final = 60


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; other roles than those of `Role` are passed over."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a conversation asks last.

    `text` is what the user wrote. `in_context` is the same put together with what it leans on, and
    None where nothing came before or the question stands alone. `leans` is True when `text` alone
    can't be understood; False with an `in_context` means: either may be meant.
    """

    text: str
    in_context: str | None = None
    leans: bool = False


class Leaning(StrEnum):
    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


def last_question(messages: Sequence[Message], turns: int) -> Asked:
    """Looks at the last `turns` questions at most. Raises InvalidQueryError when there is no question."""
    history = _turns(messages)[-turns:]
    if not history:
        raise InvalidQueryError("There is no question: the messages have none from the user.")
    topic, answer = "", ""
    for question, reply in history[:-1]:
        if not is_small_talk(question):
            topic, answer = _joined(topic, answer, question), reply
    text = history[-1][0]
    leaning = leans_on_context(text)
    if not topic or leaning is Leaning.NO:
        return Asked(text)
    return Asked(text, _in_context(topic, answer, text), leans=leaning is Leaning.YES)


def is_small_talk(text: str) -> bool:
    """A greeting, thanks or the like and nothing else: there is nothing to search."""
    return len(text) <= _LONGEST_SMALL_TALK and _SMALL_TALK.fullmatch(text) is not None


def leans_on_context(question: str) -> Leaning:
    """Whether a question needs what was said before to be understood."""
    if _LEAD.match(question) and len(content_terms(question)) <= 6:
        return Leaning.YES
    if not content_terms(question) or _is_fragment(question):
        return Leaning.YES
    if _refers_back(_MEANS_NOTHING.sub(" ", question)):
        return Leaning.YES
    return Leaning.MAYBE if len(content_terms(question)) <= _FEW_TERMS else Leaning.NO


def _is_fragment(question: str) -> bool:
    """ "Windows 上呢？" asks by its last character alone."""
    return bool(_ONLY_ASKS.search(question)) and len(content_terms(question)) <= 4


def _refers_back(question: str) -> bool:
    """A pronoun whose noun isn't in the question itself."""
    possessive = _POSSESSIVE.search(question)
    if possessive:
        before = question[: possessive.start()]
        if not _NEW_CLAUSE.search(before) and not _has_noun(before):
            return True
    for pattern in (_OBJECT, _AT_THE_END):
        match = pattern.search(question)
        if match and not _overlaps(match, possessive) and not _own_clause(question, match.start()):
            return True
    that = _THAT_FIRST.search(question)
    return that is not None and not content_terms(question[: that.start()])


def _overlaps(match: regex.Match[str], other: regex.Match[str] | None) -> bool:
    return other is not None and match.start() < other.end() and other.start() < match.end()


def _own_clause(question: str, at: int) -> bool:
    """Whether a clause with words of its own stands before: "When Tesla died, where did he live?"."""
    before = question[:at]
    return bool(_NEW_CLAUSE.search(before)) and bool(content_terms(before))


def _has_noun(before: str) -> bool:
    """A name, or more words than a verb alone."""
    words = before.split(" ", 1)
    named = len(words) > 1 and _NAME.search(words[1])
    return bool(named) or len(content_terms(before)) >= 2


def _in_context(topic: str, answer: str, question: str) -> str:
    if _PERSON_OR_PLACE.search(question) and answer:
        topic = f"{topic} {_who_or_what(topic, answer)}".rstrip()
    return _joined_text(topic, question)


def _joined(topic: str, answer: str, question: str) -> str:
    """What the conversation is about after this question."""
    if not topic or leans_on_context(question) is not Leaning.YES:
        return question
    return _in_context(topic, answer, question)


def _joined_text(topic: str, question: str) -> str:
    return f"{topic} {question}"


def _who_or_what(topic: str, answer: str) -> str:
    """Names the answer begins with; in Chinese, where names can't be told, its first words."""
    first = _BRACKETS.sub("", answer).strip().split("\n", 1)[0][:_ANSWER_CHARACTERS]
    if regex.search(r"\p{Han}", first):
        return regex.split(r"[。！？；]", first)[0]
    names = [name for name in _NAMES.findall(first) if name not in topic]
    return ", ".join(names)


_BRACKETS: Final = regex.compile(r"\\?\[\d+\\?\]")
_NAMES: Final = regex.compile(r"\p{Lu}[\p{L}.'-]+(?:\s+\p{Lu}[\p{L}.'-]+)*")


def _turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """(question, reply) pairs; questions without a reply have an empty one."""
    turns: list[tuple[str, str]] = []
    for message in messages:
        content = message.content.strip()
        if message.role == Role.USER and content:
            turns.append((content, ""))
        elif message.role == Role.ASSISTANT and turns:
            turns[-1] = (turns[-1][0], content)
    return turns
