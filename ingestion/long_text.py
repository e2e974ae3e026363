"""Cutting a sentence that is longer than a chunk, by LlamaIndex: at clauses, then words, then anywhere."""

import re
import unicodedata
from collections.abc import Callable, Iterator

from ingestion.sentences import Span

_CAN_BE_CUT = re.compile(r"[,.;。？！ ]\s*+\S")
_JOINERS = "\u200d\ufe0e\ufe0f"
_LONGEST_CLUSTER = 16


def long_text_spans(text: str, budget: int, cost: Callable[[str], int]) -> Iterator[Span]:
    """Spans of at most `budget` tokens that hold all of the text but white space between them."""
    # The import takes five seconds of CPU, and few documents have such a sentence.
    from llama_index.core.node_parser import SentenceSplitter

    splitter = SentenceSplitter(
        chunk_size=budget,
        chunk_overlap=0,
        tokenizer=lambda piece: range(cost(piece)),  # only its length is used
        # Without one of our own it wants nltk's data.
        chunking_tokenizer_fn=lambda piece: _stretches(piece, budget),
    )
    end = 0
    for piece in splitter.split_text(text):
        # Its pieces are stripped and in order, so the next match is the right one, repeated or not.
        start = text.index(piece, end)
        end = start + len(piece)
        yield start, end


def _stretches(text: str, size: int) -> list[str]:
    """Text without clauses and words (base64, Chinese without punctuation) in pieces, in linear time.

    LlamaIndex would go on to single characters, each with its own call of the tokenizer. Anything
    else is returned whole: LlamaIndex knows how to cut it.
    """
    if _CAN_BE_CUT.search(text):
        return [text]
    size = size if len(text) > size else max(1, len(text) // 2)
    ends = [_whole_character(text, end) for end in range(size, len(text), size)]
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True) if a < b]


def _whole_character(text: str, end: int) -> int:
    """The nearest place from `end` on that does not tear accents or an emoji sequence apart."""
    for place in range(end, min(end + _LONGEST_CLUSTER, len(text))):
        if not _belongs_to_previous(text, place):
            return place
    return end


def _belongs_to_previous(text: str, place: int) -> bool:
    character = text[place]
    return (
        character in _JOINERS
        or text[place - 1] == "\u200d"
        or unicodedata.category(character) in ("Mn", "Me", "Mc")
        or "\U0001f3fb" <= character <= "\U0001f3ff"  # skin tones
    )
