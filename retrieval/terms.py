"""Text to terms for the lexical side, for passages and questions alike.

Indexes store `" ".join(terms(passage))` and split on white space only, so every index ranks alike
and none needs an analyser of its own. Changing what this module returns changes the index: raise
`kb`'s mapping version with it.
"""

import threading
import unicodedata
from functools import lru_cache
from typing import Final

import regex
from Stemmer import Stemmer

MAX_TERM: Final = 64
"""Characters of the longest term; longer ones (hashes, encoded data) are found by their beginning."""

_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}ー"
_LETTER = rf"[\p{{L}}\p{{M}}\p{{N}}--[{_CJK}]]"

# A run of CJK, or words held together by the signs that names of software are made with.
_TOKEN = regex.compile(
    rf"([{_CJK}]+)|({_LETTER}++(?:(?:_+|[-./:@']){_LETTER}++)*(?:\+\+|\#)?)", regex.V1
)


class _Stemmers(threading.local):
    """A stemmer keeps state while it works, so each thread has its own."""

    def __init__(self) -> None:
        # Snowball's C code: 23 times as fast as its Python, the same stems for 45,623 words of five sets.
        self.english = Stemmer("english", 0)


_stemmer = _Stemmers()

_JOINER = regex.compile(r"[-_./:@'+#]+")
_POSSESSIVE = regex.compile(r"'[sS]$")
# "camelCase" > camel, Case; "HTTPServer" > HTTP, Server; "1990s" > 1990, s.
_PIECE = regex.compile(r"\p{Lu}+(?!\p{Ll})|\p{Lu}?[\p{L}\p{M}--\p{Lu}]+|\p{N}+", regex.V1)


# What a question is made with but not about, as stems. Measured on ten public sets
# (benchmarks/fusion.py): BM25's hit@1 is better on average and hardly worse anywhere; prepositions
# and conjunctions stay, because leaving them out lost again what the others win.
_ENGLISH = """
what which who whom whose when where whi how
i me my we our you your he him his she her they them their
am are is was were be been do doe did have has had
can could should would may might must shall will
a an the
"""
_QUESTION_WORDS: Final = frozenset(_ENGLISH.split())
_QUESTION_CHARACTERS: Final = frozenset(
    "的了是在和有什甚么麼哪些谁誰何为為吗嗎呢多少几幾怎样樣如于於与與及或而由被把对對这這那其之个個时時候"
)


def terms(text: str) -> list[str]:
    """The terms of a text in order, repeats kept. No term contains white space or is empty.

    - Latin words: lower case, accents removed, stemmed (Snowball English).
    - Identifiers: whole and in parts: `key-auth` gives key-auth, key, auth; camelCase likewise.
    - Chinese, Japanese and Korean: overlapping pairs of characters; a lone character as it is.
    """
    found: list[str] = []
    for match in _TOKEN.finditer(unicodedata.normalize("NFKC", text).replace("’", "'")):
        cjk, word = match.groups()
        if cjk is not None:
            found.extend(_pairs(cjk))
        else:
            found.extend(_word_terms(word))
    return found


def question_terms(text: str) -> list[str]:
    """The terms of a question to search for: each once, without question and function words.

    A question of nothing else ("Who are you?") keeps them all.
    """
    found = list(dict.fromkeys(terms(text)))
    return [term for term in found if not _is_function_word(term)] or found


def _is_function_word(term: str) -> bool:
    return term in _QUESTION_WORDS or _QUESTION_CHARACTERS.issuperset(term)


def _pairs(run: str) -> list[str]:
    if len(run) == 1:
        return [run]
    return [run[i : i + 2] for i in range(len(run) - 1)]


@lru_cache(maxsize=1 << 16)
def _word_terms(token: str) -> tuple[str, ...]:
    """A word or identifier to its terms: the whole first, then its parts where it has several."""
    token = _POSSESSIVE.sub("", token)
    words = [word for word in _JOINER.split(token) if word]
    found = [] if words == [token] else [_fold(token)]
    for word in words:
        pieces = _PIECE.findall(word)
        found.append(_stem(word))
        found.extend(_stem(piece) for piece in pieces if len(pieces) > 1)
    return tuple(term[:MAX_TERM] for term in found)


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    stemmed: str = _stemmer.english.stemWord(_fold(word))
    return stemmed or _fold(word)


def _fold(word: str) -> str:
    """Case folded and, in Latin words, without accents: Zürich is found as zurich."""
    if word.isascii():
        return word.lower()
    letters = unicodedata.normalize("NFD", word.casefold())
    return unicodedata.normalize("NFC", regex.sub(r"(?<=\p{Latin})\p{M}+", "", letters))
