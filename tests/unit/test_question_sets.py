"""Reading question sets: what is taken, what is left out, and mistakes named by file and line."""

from pathlib import Path

import pytest

from kb.errors import ConfigError
from serving.question_sets import load_question_set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpus.jsonl").write_text(
        '{"id": "p1", "title": "T", "text": "one"}\n{"_id": "p2", "text": "two"}\n'
    )
    (tmp_path / "queries.jsonl").write_text(
        '{"id": "q1", "text": "first?", "answers": ["one"]}\n'
        '{"id": "q2", "text": "second?"}\n'
        '{"id": "q3", "text": " "}\n'
        '{"id": "q4", "text": "nowhere answered?"}\n'
    )
    (tmp_path / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\tp1\t1\nq2\tp2\t1\nq2\tgone\t1\nq3\tp1\t1\nq4\tp1\t0\n"
    )
    return tmp_path


def test_questions_judgements_and_passages(folder: Path) -> None:
    read = load_question_set(folder, folder)
    assert [p.id for p in read.passages] == ["p1", "p2"]
    assert [(q.id, q.answers) for q in read.questions] == [("q1", ("one",)), ("q2", ())]
    assert read.relevant["q2"] == {"p2"}
    assert [q.id for q in read.unanswerable] == ["q4"]


def test_limit_spreads_over_the_set(folder: Path) -> None:
    assert [q.id for q in load_question_set(folder, folder, limit=1).questions] == ["q1"]


def test_answerable_questions_may_stand_beside(folder: Path) -> None:
    (folder / "queries_answerable.jsonl").write_text('{"id": "a1", "text": "yes?"}\n')
    (folder / "qrels_answerable.tsv").write_text("query-id\tcorpus-id\tscore\na1\tp1\t1\n")
    assert "a1" in [q.id for q in load_question_set(folder, folder).questions]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("corpus.jsonl", '{"id": "p1", "text": "x"}\n{broken', "corpus.jsonl, line 2"),
        ("corpus.jsonl", '{"id": "p1"}\n', "line 1: needs an id and text"),
        ("qrels.tsv", "header\nq1\tp1\n", "2 columns"),
    ],
)
def test_mistakes_are_named(folder: Path, file: str, content: str, words: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(ConfigError, match=words):
        load_question_set(folder, folder)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.jsonl"):
        load_question_set(tmp_path, tmp_path)
