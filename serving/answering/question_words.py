"""What a question's words say: which carry meaning, and in which language. Pure."""

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
