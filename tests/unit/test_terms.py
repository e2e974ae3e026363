import random
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrieval.terms import MAX_TERM, question_terms, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # words
        ("", []),
        (" ... -- ++ ' ' 。！", []),
        ("Running RUNS run", ["run", "run", "run"]),
        ("Tesla’s coils don't", ["tesla", "coil", "don't", "don", "t"]),
        ("Zürich cafés ÅNGSTRÖM", ["zurich", "cafe", "angstrom"]),
        ("ﬁle ＡＢＣ", ["file", "abc"]),
        ("Привет мир", ["привет", "мир"]),
        # identifiers: whole, then parts
        ("kb_ingest", ["kb_ingest", "kb", "ingest"]),
        ("HTTP/2", ["http/2", "http", "2"]),
        ("v1.2.3", ["v1.2.3", "v1", "v", "1", "2", "3"]),
        ("key-auth", ["key-auth", "key", "auth"]),
        ("proxy-rewrite,", ["proxy-rewrite", "proxi", "rewrit"]),
        ("LlamaIndex", ["llamaindex", "llama", "index"]),
        ("getHTTPResponse", ["gethttprespons", "get", "http", "respons"]),
        ("C++, C# and .NET", ["c++", "c", "c#", "c", "and", "net"]),
        ("127.0.0.1:9180", ["127.0.0.1:9180", "127", "0", "0", "1", "9180"]),
        ("__init__ --long-flag", ["init", "long-flag", "long", "flag"]),
        ("1990s", ["1990s", "1990", "s"]),
        # Chinese, Japanese, Korean
        ("网关的端口", ["网关", "关的", "的端", "端口"]),
        ("年", ["年"]),
        ("端口9180。第3章", ["端口", "9180", "第", "3", "章"]),
        ("API网关", ["api", "网关"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("ﾀﾜｰ", ["タワ", "ワー"]),
        ("안녕하세요", ["안녕", "녕하", "하세", "세요"]),
        ("𠮷野家", ["𠮷野", "野家"]),  # outside the basic plane
        ("人々", ["人々"]),
    ],
)
def test_terms_of(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize(
    ("question", "passage"),
    [
        ("http 2", "Enable HTTP/2."),
        ("HTTP/2", "enable http/2"),
        ("rewrite", "the proxy-rewrite plugin"),
        ("llama index", "LlamaIndex"),
        ("zurich", "Zürich"),
        ("plugins", "Plugin"),
        ("端口", "默认端口是"),
    ],
)
def test_a_question_finds_the_words_of_a_passage(question: str, passage: str) -> None:
    assert set(terms(question)) <= set(terms(passage))


def test_joining_by_spaces_loses_nothing() -> None:
    """Indexes split on white space, so a term must survive it whatever the text."""
    random.seed(20261123)
    alphabet = [chr(c) for c in range(0x20, 0x3100) if chr(c).isprintable()]
    alphabet += [
        *"网关端口が한국ーßİŉǆ\u200b\u00a0\u3000\u2028\n\t'’._-/+#@:",
        "\U0001f600",
        "\ufb01",
    ]
    for _ in range(500):
        text = "".join(random.choices(alphabet, k=40))
        found = terms(text)
        assert " ".join(found).split() == found
        assert all(0 < len(term) <= MAX_TERM for term in found)
        assert terms(unicodedata.normalize("NFD", text)) == terms(text)


def test_lower_and_upper_case_find_each_other() -> None:
    assert set(terms("APISIX ADMIN-API STRASSE")) == set(terms("apisix admin-api straße"))


def test_very_long_words_are_cut_not_lost() -> None:
    digest = "0123456789abcdef" * 8
    assert terms(digest)[0] == digest[:MAX_TERM]
    assert all(len(term) <= MAX_TERM for term in terms("x" * 100_000 + "-" + "y1" * 1000))


def test_threads_do_not_disturb_each_other() -> None:
    words = [f"running{chr(97 + i % 26)}{i}nationally relational{i}s" for i in range(400)]
    alone = [terms(word) for word in words]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(terms, [w + " " for w in words])) == alone


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the default port of the Admin API?", ["default", "port", "of", "admin", "api"]),
        ("默认的端口是多少？", ["默认", "认的", "的端", "端口", "口是"]),
        ("谁是作者", ["是作", "作者"]),
        ("port, ports and Port", ["port", "and"]),
        ("Who are you?", ["who", "are", "you"]),
        ("是什么？", ["是什", "什么"]),
        ("", []),
    ],
)
def test_a_question_is_searched_by_what_it_is_about(question: str, expected: list[str]) -> None:
    assert question_terms(question) == expected
