"""The tokenizer built from the pieces in the weights file."""

from typing import TYPE_CHECKING

import pytest

from retrieval.embedders import e5_file
from retrieval.embedders.e5_file import E5File
from retrieval.embedders.e5_tokenizer import build_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

pytestmark = pytest.mark.slow  # a vocabulary of 250,000 pieces takes seconds


@pytest.fixture(scope="module")
def tokenizer() -> "Tokenizer":
    with E5File(e5_file.locate()) as weights:
        return build_tokenizer(weights)


def test_ids_are_those_of_the_upstream_model(tokenizer: "Tokenizer") -> None:
    """XLM-R's well-known ids: specials 0 to 3, then ",", "." and the word start."""
    assert [tokenizer.token_to_id(t) for t in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert [tokenizer.token_to_id(t) for t in (",", ".", "▁")] == [4, 5, 6]
    # "Hello world" of the XLM-R documentation.
    assert tokenizer.encode("Hello world!").ids == [0, 35378, 8999, 38, 2]


def test_text_is_put_into_normal_form(tokenizer: "Tokenizer") -> None:
    plain = tokenizer.encode("HTTP/2 is on").ids
    assert tokenizer.encode("ＨＴＴＰ／２  is\u3000\ton\x07").ids == plain
    assert tokenizer.decode(plain) == "HTTP/2 is on"


def test_the_full_width_tilde_stays(tokenizer: "Tokenizer") -> None:
    assert "\uff5e" in "".join(tokenizer.encode("一\uff5e二").tokens)


def test_chinese_keeps_its_words(tokenizer: "Tokenizer") -> None:
    assert "▁" + "".join(tokenizer.encode("知识库").tokens[1:-1]).lstrip("▁") == "▁知识库"
