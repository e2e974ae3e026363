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
from kb.generation import Message, Role
from retrieval.search import checked_question
from serving.answering.question_words import content_terms

# The signs of a follow-up. Each pattern is a fact about English or Chinese.
_LEAD: Final = regex.compile(
    r"""\A\s*(?:(?:ok(?:ay)?|thanks|thank\ you|great|good|好的?|谢谢)\s*[,.!，。！]\s*)?
        (?:(?:and|but|or|so|then|also|plus|what\ about|how\ about|what\ if|what\ else|anything\ else|same\ for)\b
         |那么|那(?![个些里边种次天年位时是])|还有(?!什么|哪)|以及|而(?!且)|另外|然后|换成)
        [,，\s]*""",
    regex.VERBOSE | regex.IGNORECASE,
)
_ONLY_ASKS: Final = regex.compile(r"呢[\s？?]{0,20}$")
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
_AT_THE_END: Final = regex.compile(r"\b(?:that|there|one|so|her)[\s?.!]{0,20}$", regex.IGNORECASE)
_THAT: Final = regex.compile(r"\bthat\b", regex.IGNORECASE)
_ASKS: Final = regex.compile(
    r"\b(?:what|which|who|whom|whose|when|where|why|how|is|are|was|were|do|does|did|can|could|will|would|should)\b"
    r"|什么|怎么|怎样|如何|多少|为何|哪|谁|几|吗|是不是|有没有",
    regex.IGNORECASE,
)
_HAN: Final = regex.compile(r"\p{Han}")
_PREPOSITION: Final = regex.compile(
    r"(on|in|for|with|under|from|to|at|by|via|using) [\w.+# -]+", regex.IGNORECASE
)
# "在 Linux 上": a place in Chinese; "Windows 上" or "Windows": another one.
_LOCATED: Final = regex.compile(r"(在\s*)[^\s，。？]+?(\s*[上里中下])")
_LOCATION: Final = regex.compile(
    r"在?\s*([\w.+#-]*[A-Za-z][\w.+# -]*?|\p{Han}+(?=[上里中下]))\s*[上里中下]?"
)
_BRACKETS: Final = regex.compile(r"\\?\[\d+\\?\]")
_FULL_NAME: Final = regex.compile(r"\p{Lu}[\p{L}.'-]*\p{L}(?:\s+\p{Lu}[\p{L}.'-]*\p{L})*")
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
_FEW_CHINESE_TERMS: Final = 3
"""A question with at most this many content terms may be about what was just talked of."""
_FRAGMENT_TERMS: Final = 6
_LONGEST_PLACE: Final = 100
_REPLY_CHARACTERS: Final = 80
_REMEMBERED_CHARACTERS: Final = 500
"""The end of a long question that is kept: models read the first 512 tokens, the last is what's asked."""

_SMALL_TALK: Final = regex.compile(
    r"""(?:[\s\p{P}\p{S}]*(?:
      (?:hi|hello|hey|hiya|good\ (?:morning|afternoon|evening|night|day)|how\ are\ you(?:\ doing|\ today)?
        |thanks?(?:\ you)?(?:\ (?:a\ lot|so\ much|very\ much|again))?|many\ thanks|thx|cheers|ok(?:ay)?|great|cool
        |nice|perfect|got\ it|(?:good)?bye|see\ you(?:\ later)?|wh(?:o|at)\ are\ you|what\ can\ you\ do|there
        |everyone|test(?:ing)?|yes|no)\b
      |你好啊?|您好|嗨|哈喽|大家好|[早上中下晚]午?[上好]?好|早安|晚安|谢谢[你您啦了]?|多谢|(?:非常)?感谢|好[的吧]?|嗯|行
      |明白了?|知道了|收到|再见|拜拜|你是谁|你叫什么(?:名字)?|你[会能](?:做|干)?什么|在吗|测试|是的?|没有了?
    ))*[\s\p{P}\p{S}]*""",
    regex.VERBOSE | regex.IGNORECASE,
)
_LONGEST_SMALL_TALK: Final = 60


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
    """Looks at the last `turns` questions at most. Raises InvalidQueryError without one that can be searched."""
    history = _turns(messages)[-turns:]
    if not history:
        raise InvalidQueryError("There is no question: the messages have none from the user.")
    text = checked_question(history[-1][0])
    topic = Topic()
    for question, reply in history[:-1]:
        if not is_small_talk(question):
            topic = topic.after(question, reply)
    leaning = leans_on_context(text)
    if not topic.question or leaning is Leaning.NO:
        return Asked(text)
    return Asked(text, topic.with_question(text), leans=leaning is Leaning.YES)


@dataclass(frozen=True, slots=True)
class Topic:
    """What a conversation is about: a question that stands alone, the last one that leant on it,
    and the last reply."""

    question: str = ""
    follow_up: str = ""
    reply: str = ""

    def after(self, question: str, reply: str) -> "Topic":
        if not self.question or leans_on_context(question) is not Leaning.YES:
            return Topic(question, "", reply)
        changed = _substituted(self.question, question)
        if changed:
            return Topic(changed, "", reply)
        return Topic(self._subject(question), question, reply)

    def with_question(self, question: str) -> str:
        """The question put together with what it leans on."""
        changed = _substituted(self.question, question)
        if changed:
            return changed
        both_fragments = _fragment(question) and _fragment(self.follow_up)
        before = [self._subject(question), "" if both_fragments else self.follow_up]
        return " ".join([*(part[-_REMEMBERED_CHARACTERS:] for part in before if part), question])

    def _subject(self, question: str) -> str:
        """The question talked about, and for "when did he die?" whom the reply named."""
        if not self.reply or not _PERSON_OR_PLACE.search(question):
            return self.question
        return f"{self.question} {_named_in(self.reply, self.question)}".rstrip()


def is_small_talk(text: str) -> bool:
    """A greeting, thanks or the like and nothing else: there is nothing to search."""
    return len(text) <= _LONGEST_SMALL_TALK and _SMALL_TALK.fullmatch(text) is not None


def leans_on_context(question: str) -> Leaning:
    """Whether a question needs what was said before to be understood."""
    rest = _LEAD.sub("", question, count=1)
    said = content_terms(rest)
    if not said or _fragment(question) or _refers_back(_MEANS_NOTHING.sub(" ", rest)):
        return Leaning.YES
    few = _FEW_CHINESE_TERMS if _HAN.search(rest) else _FEW_TERMS
    named = _NAME.search(rest, pos=1) or _POSSESSIVE.search(rest)
    return Leaning.MAYBE if rest != question or (len(said) <= few and not named) else Leaning.NO


def _fragment(question: str) -> str:
    """What a follow-up such as "and on Windows?" or "那石桥镇呢？" asks about, "" for whole questions."""
    rest = _LEAD.sub("", question, count=1)
    asks_only = _ONLY_ASKS.search(rest)
    rest = _ONLY_ASKS.sub("", rest).strip(" ?？。.!！")
    led = len(rest) < len(question.strip(" ?？。.!！"))
    whole = _ASKS.search(rest) and not asks_only
    return rest if led and not whole and len(content_terms(rest)) <= _FRAGMENT_TERMS else ""


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
    that = _THAT.search(question)
    return that is not None and not content_terms(question[: that.start()])


def _overlaps(match: regex.Match[str], other: regex.Match[str] | None) -> bool:
    return other is not None and match.start() < other.end() and other.start() < match.end()


def _own_clause(question: str, at: int) -> bool:
    """Whether a clause with words of its own stands before: "When Tesla died, where did he live?"."""
    before = question[:at]
    return bool(_NEW_CLAUSE.search(before)) and bool(content_terms(before))


def _has_noun(before: str) -> bool:
    """A name, or more words than a verb alone."""
    return bool(_NAME.search(before, pos=1)) or len(content_terms(before)) >= 2


# --- Putting together -----------------------------------------------------------------------------


def _substituted(topic: str, question: str) -> str:
    """ "install it on Linux?" with "and on Windows?": the new place in the old question, or ""."""
    fragment = _fragment(question)
    if len(fragment) > _LONGEST_PLACE or len(topic) > _REMEMBERED_CHARACTERS:
        return ""  # Also because the time the patterns take grows with the square.
    english = _PREPOSITION.fullmatch(fragment)
    if english:
        old = regex.compile(rf"\b{english[1]} (?:the )?[\w.+#-]+(?= *[?？.]*$)", regex.IGNORECASE)
        return old.sub(lambda _: fragment, topic) if old.search(topic) else ""
    chinese = _LOCATION.fullmatch(fragment)
    if chinese and _LOCATED.search(topic):
        return _LOCATED.sub(lambda old: f"{old[1]}{chinese[1]}{old[2]}", topic, count=1)
    return ""


def _named_in(reply: str, question: str) -> str:
    """Names a reply begins with; in Chinese, where they can't be told, its first sentence."""
    first = _BRACKETS.sub("", reply).strip().split("\n", 1)[0][:_REPLY_CHARACTERS]
    if _HAN.search(first):
        return regex.split(r"[。！？；]", first)[0]
    names = [name for name in _FULL_NAME.findall(first) if content_terms(name)]
    return ", ".join(name for name in names if name not in question)


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
