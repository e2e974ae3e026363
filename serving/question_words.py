"""What a question's words say: which carry meaning, and what kind of answer is asked for. Pure."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import regex

from retrieval.terms import terms

# Words that ask, and words of grammar: never evidence that a passage answers.
_EMPTY_ENGLISH: Final = """
    a an the of in on at to for from by with about into over under as than and or but if then so
    is are was were be been being am do does did done has have had can could will would shall should
    may might must what which who whom whose when where why how many much long far old often kind
    type name there this that these those it its they them their he him his she her i me my we us our
    you your please tell give show explain describe not no any some all also
"""
_EMPTY_CHINESE: Final = regex.compile(
    r"请问|为什么|为何|什么时候|什么样|什么|哪一[年个些]|哪[年个些里儿位种]|多少|多久|多长|多大|几[个年月]"
    r"|怎么样|怎么|怎样|如何|是否|有没有|能不能|可以|哪|谁|吗|呢|吧|啊|的|了|是|在|有|和|与|及|被|把|对|从"
    r"|一个|这个|那个|它们|他们|她们|它|他|她|你|我|请|告诉|介绍|一下"
)


_CJK = regex.compile(r"[\p{Han}]")
_LATIN_WORD = regex.compile(r"[\p{Latin}][\p{Latin}\p{N}'’._-]*")
_ENGLISH_FUNCTION_WORD = regex.compile(
    r"\b(?:the|an|is|are|was|were|do|does|did|what|who|whom|whose|when|where|why|which|how|of|in|on|to|and|for|can)\b",
    regex.IGNORECASE,
)
_OTHER_CJK = regex.compile(r"[\p{Hiragana}\p{Katakana}\p{Hangul}]")


def language(text: str) -> str:
    """ "zh" or "en", by script: Chinese names in an English sentence leave it English, and vice versa."""
    han = len(_CJK.findall(text))
    if han == 0 or _OTHER_CJK.search(text):
        return "en"
    if not _ENGLISH_FUNCTION_WORD.search(text):
        return "zh"
    return "zh" if han > len(_LATIN_WORD.findall(text)) else "en"


@lru_cache(maxsize=8192)
def content_terms(text: str) -> tuple[str, ...]:
    """The terms (see `retrieval.terms`) of a text without words that only ask or join."""
    without = _EMPTY_CHINESE.sub(" ", text)
    return tuple(term for term in terms(without) if term not in _EMPTY_TERMS)


_EMPTY_TERMS: Final = frozenset(terms(_EMPTY_ENGLISH))


@dataclass(frozen=True, slots=True)
class AnswerType:
    """A kind of answer, told by how the question asks, and found by how it looks."""

    name: str
    asked: regex.Pattern[str]
    looks_like: regex.Pattern[str]

    def fits(self, text: str) -> bool:
        return self.looks_like.search(text) is not None


_NUMBER_WORD: Final = (
    r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|twenty|thirty|hundred"
    r"|thousand|million|billion|half|third|quarter|once|twice|single|both|several|double"
)
ANSWER_TYPES: Final = (
    AnswerType(
        "time",
        regex.compile(
            r"\bwhen\b|\b(?:what|which|in what|in which) (?:\w+ )?(?:year|date|day|month|century|decade|time)\b"
            r"|什么时候|何时|哪[一]?[年天月日]|哪个(?:月|年|世纪|朝代)|几[年月日号点]|多久|时间",
            regex.IGNORECASE,
        ),
        regex.compile(
            r"\b\d{3,4}s?\b|\b(?:January|February|March|April|May|June|July|August|September|October|November"
            r"|December|century|year|years|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)\b"
            r"|[\d〇零一二三四五六七八九十]+\s*(?:年|月|日|世纪|天|小时|分钟|点)|朝|初年|末年"
        ),
    ),
    AnswerType(
        "number",
        regex.compile(
            r"\bhow (?:many|much|old|long|far|tall|large|big|high|often|fast|deep)\b"
            r"|\bwhat (?:percentage|percent|number|portion|share|size)\b|多少|几[个位人次种岁名只条部家所]"
            r"|多[大长高远深重]|百分之几|第几",
            regex.IGNORECASE,
        ),
        regex.compile(
            rf"\d|\b(?:{_NUMBER_WORD})\b|[一二三四五六七八九十百千万亿两]\s*(?:个|位|人|次|种|岁|名|只|条|部|家|所|%|成)",
            regex.IGNORECASE,
        ),
    ),
    AnswerType(
        "person",
        regex.compile(r"\bwho(?:m|se)?\b|谁|哪[一]?[位人]|什么人", regex.IGNORECASE),
        regex.compile(r"(?<=\S\s)\p{Lu}\p{L}+|·|由|先生|女士|教授|导演|作者|皇帝|将军"),
    ),
)


def expects(question: str) -> AnswerType | None:
    """The kind of answer a question asks for, where its words say so."""
    return next((kind for kind in ANSWER_TYPES if kind.asked.search(question)), None)
