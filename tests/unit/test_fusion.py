import dataclasses

import pytest

from kb.types import Candidate, Chunk
from retrieval.fusion import chunk_terms, coverage, rank, score
from retrieval.terms import question_terms, terms


def candidate(
    name: str, similarity: float | None = 0.0, bm25: float = 0.0, text: str = ""
) -> Candidate:
    chunk = Chunk(
        id=name,
        document_id="d",
        ordinal=0,
        title="Guide",
        heading_path=("Guide", "Listening"),
        page=None,
        start=0,
        end=len(text),
        text=text,
        text_hash=name,
        tokens=1,
    )
    return Candidate(chunk, f"file:///{name}", similarity, bm25)


def ids(ranked: list[tuple[Candidate, float]]) -> list[str]:
    return [found.chunk.id for found, _ in ranked]


def test_the_score_by_hand() -> None:
    asked = ["default", "port"]
    assert score(candidate("a", 0.6, text="the default port"), asked) == pytest.approx(
        (0.6 + 0.4) / 1.4
    )
    assert score(candidate("b", 0.6, text="a port"), asked) == pytest.approx((0.6 + 0.1) / 1.4)
    assert score(candidate("c", 0.6), asked) == pytest.approx(0.6 / 1.4)
    assert score(candidate("c", 0.6), []) == pytest.approx(0.6 / 1.4)


def test_the_score_stays_between_0_and_1() -> None:
    assert score(candidate("a", -0.3), ["port"]) == 0
    assert score(candidate("a", 1.0, text="port"), ["port"]) == 1
    assert score(candidate("a", 1.0000002, text="port"), ["port"]) == 1
    assert score(candidate("a", None, text="port"), ["port"]) == pytest.approx(0.4 / 1.4)


def test_a_score_does_not_depend_on_what_else_was_found_or_is_indexed() -> None:
    asked = question_terms("What is the default port?")
    wanted = candidate("a", 0.5, 7.0, "The default port is 9180.")
    others = [candidate(f"x{i}", i / 20, i * 3.0, "default " * i) for i in range(20)]
    alone = dict(rank([wanted], asked))[wanted]
    assert dict(rank([*others, wanted], asked))[wanted] == alone
    # BM25 changes with every document of the index; it only orders the lexical mode.
    rarer = dataclasses.replace(wanted, bm25=0.5)
    assert score(rarer, asked) == alone


def test_best_first_and_ties_by_chunk_id() -> None:
    found = [candidate("b", 0.5), candidate("c", 0.7), candidate("a", 0.5)]
    assert ids(rank(found, ["port"])) == ["c", "a", "b"]
    assert ids(rank(reversed(found), ["port"])) == ["c", "a", "b"]


def test_words_in_common_lift_a_chunk_of_about_equal_similarity() -> None:
    asked = question_terms("Which port does the proxy-rewrite plugin use?")
    near = candidate("near", 0.52, text="The plugin changes paths.")
    exact = candidate("exact", 0.48, text="The proxy-rewrite plugin uses no port of its own.")
    assert ids(rank([near, exact], asked)) == ["exact", "near"]


def test_modes_order_by_one_side_and_leave_out_what_it_did_not_find() -> None:
    found = [
        candidate("dense", 0.9, 0.0),
        candidate("both", 0.5, 4.0, "port"),
        candidate("lexical", 0.1, 9.0, "port"),
    ]
    assert ids(rank(found, ["port"], "dense")) == ["dense", "both", "lexical"]
    assert ids(rank(found, ["port"], "lexical")) == ["lexical", "both"]
    assert ids(rank(found, ["port"], "hybrid")) == ["both", "dense", "lexical"]
    without_vector = [candidate("a", None, 1.0), candidate("b", None, 2.0)]
    assert ids(rank(without_vector, ["port"], "dense")) == []
    assert ids(rank(without_vector, ["port"], "lexical")) == ["b", "a"]


def test_a_score_is_the_same_in_every_mode() -> None:
    found = [candidate("both", 0.5, 4.0, "port")]
    scores = {mode: rank(found, ["port"], mode)[0][1] for mode in ("hybrid", "dense", "lexical")}
    assert set(scores.values()) == {score(found[0], ["port"])}


def test_nothing_found_ranks_nothing() -> None:
    assert rank([], ["port"]) == []


def test_coverage_is_a_share_of_the_question() -> None:
    assert coverage(["a", "b", "c", "d"], " a c x ") == 0.5
    assert coverage([], " a ") == 0


def test_coverage_counts_whole_terms_only() -> None:
    assert coverage(["key", "auth", "k"], " key-auth key auth ") == 2 / 3


def test_terms_come_from_the_index_or_from_the_passage_with_its_headings() -> None:
    plain = candidate("a", text="It listens on 9180.")
    assert {"guid", "listen", "9180"} <= set(chunk_terms(plain).split())
    stored = dataclasses.replace(plain, terms=" ".join(terms(plain.chunk.passage)))
    assert chunk_terms(stored) == chunk_terms(plain)
    assert chunk_terms(dataclasses.replace(plain, terms="only these")) == " only these "
