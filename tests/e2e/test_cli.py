"""The `kb` command as a user runs it."""

from pathlib import Path

import pytest

from tests.e2e.kb_process import RunKB, printed_json

pytestmark = pytest.mark.slow


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "warranty.md").write_text("# Warranty\n\nThe warranty lasts three years.")
    (folder / "保修.md").write_text("# 保修\n\n电池的保修期是十八个月。", "utf-8")
    return folder


def test_ingest_ask_search_delete_retry(run_kb: RunKB, docs: Path) -> None:
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    ingested = printed_json(run_kb("ingest", docs, "--json"))
    assert (ingested["indexed"], ingested["failed_broken"]) == (2, 1)
    assert ingested["failures"][0]["uri"].endswith("broken.pdf")

    answer = printed_json(run_kb("ask", "电池保修多久？", "--json"))
    assert "十八个月" in answer["text"]
    assert answer["citations"][0]["title"] == "保修"
    assert "[1]" in run_kb("ask", "How long does the warranty last?").stdout

    hits = printed_json(run_kb("search", "warranty", "--json"))
    assert hits[0]["chunk"]["title"] == "Warranty"
    document_id = hits[0]["chunk"]["document_id"]

    assert printed_json(run_kb("documents", "show", document_id, "--json"))["status"] == "indexed"
    assert printed_json(run_kb("documents", "delete", document_id, "--json"))["deleted"] is False
    assert printed_json(run_kb("ingest", docs, "--json"))["indexed"] == 0
    titles = [hit["chunk"]["title"] for hit in printed_json(run_kb("search", "warranty", "--json"))]
    assert "Warranty" not in titles
    assert printed_json(run_kb("documents", "retry", document_id, "--json"))["indexed"] == 1
    assert printed_json(run_kb("search", "warranty", "--json"))[0]["chunk"]["title"] == "Warranty"

    assert run_kb("doctor").returncode == 0
    listed = printed_json(run_kb("collections", "list", "--json"))
    assert listed[0]["documents"]["indexed"] == 2
    printed_json(run_kb("collections", "delete", "default", "--yes", "--json"))
    assert printed_json(run_kb("collections", "list", "--json")) == []
    gone = run_kb("search", "warranty")
    assert gone.returncode == 2
    assert "default" in gone.stderr


def test_brackets_in_a_name_are_no_markup(run_kb: RunKB, tmp_path: Path) -> None:
    gone = tmp_path / "[red]gone[/] [/nothing] [link=http://evil.example]x"
    failed = run_kb("ingest", gone)
    assert failed.returncode == 2
    assert str(gone) in failed.stderr.replace("\n", "")
    asked = run_kb("ask", "[/] [bold]")
    assert "Traceback" not in asked.stderr


def test_status_of_a_run_in_which_nothing_worked(run_kb: RunKB, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "nothing.md").write_text("")
    result = run_kb("ingest", tmp_path / "empty")
    assert result.returncode == 1
    assert "empty" in result.stdout


def test_a_collection_keeps_its_embedder_until_it_is_reindexed(run_kb: RunKB, docs: Path) -> None:
    printed_json(run_kb("ingest", docs, "--json"))
    other = {"KB_EMBEDDER__KIND": "sentence-transformers", "KB_EMBEDDER__MODEL": "nowhere/at-all"}
    assert printed_json(run_kb("search", "warranty", "--json", **other))
    result = run_kb("reindex", **other)
    assert result.returncode == 1
    assert "nowhere/at-all" in result.stderr


def test_reindex_roll_back_and_mend(run_kb: RunKB, docs: Path) -> None:
    printed_json(run_kb("ingest", docs, "--json"))
    cost = printed_json(run_kb("reindex", "--dry-run", "--json"))
    assert (cost["documents"], cost["embedded"]) == (2, 0)
    done = printed_json(run_kb("reindex", "--json"))
    assert (done["index"], done["copied_chunks"], done["embedded_chunks"]) == ("kb-default.2", 2, 0)
    listed = printed_json(run_kb("generations", "list", "--json"))
    assert [(g["number"], g["live"]) for g in listed] == [(1, False), (2, True)]
    back = printed_json(run_kb("rollback", "--json"))
    assert back == {"index": "kb-default.1", "changed_since": 0}
    assert "kb-default.2 is live" not in run_kb("reindex", "--throttle", "1000").stderr
    assert printed_json(run_kb("generations", "prune", "--json")) == []
    assert printed_json(run_kb("ask", "电池保修多久？", "--json"))["citations"]
    assert run_kb("doctor", "--repair").returncode == 0


def test_evaluation_prints_every_side(run_kb: RunKB, tmp_path: Path) -> None:
    """One passage is there twice: whichever of the two is indexed is as good as the other."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text(
        '{"id": "p1", "title": "Tea", "text": "Green tea steeps for two minutes."}\n'
        '{"id": "p2", "title": "茶", "text": "红茶冲泡四分钟。"}\n'
        '{"id": "p3", "title": "茶", "text": "红茶冲泡四分钟。"}\n',
        "utf-8",
    )
    (folder / "queries.jsonl").write_text(
        '{"id": "q1", "text": "How long does green tea steep?", "answers": ["two minutes"]}\n'
        '{"id": "q2", "text": "红茶泡几分钟？", "answers": ["四分钟"]}\n'
        '{"id": "q3", "text": "谁写了《战争与和平》？", "answers": []}\n',
        "utf-8",
    )
    (folder / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\tp1\t1\nq2\tp3\t1\nq3\tp1\t0\n"
    )
    result = printed_json(run_kb("eval", folder, "--json"))
    assert (result["passages"], result["questions"]) == (3, 2)
    for side in ("lexical", "dense", "hybrid"):
        assert result[side]["hit@1"] == 1.0
    assert result["answers"]["contains_answer"] == 1.0
    assert result["no_answer"]["auc"] == 1.0


def test_golden_questions_say_what_is_missed(run_kb: RunKB, tmp_path: Path) -> None:
    (tmp_path / "tea.md").write_text("# Tea\n\nOolong steeps for three minutes.", "utf-8")
    assert run_kb("ingest", tmp_path / "tea.md").returncode == 0
    nothing = run_kb("golden")
    assert "no golden questions for default" in nothing.stdout
    (tmp_path / "default.jsonl").write_text(
        '{"question": "How long does oolong steep?", "documents": ["tea.md"]}\n'
        '{"question": "Who brews the coffee?", "documents": ["coffee.md"]}\n'
    )
    asked = run_kb("golden", KB_EVALUATION__FOLDER=str(tmp_path))
    assert asked.stdout.splitlines() == [
        "1 of 2 questions answered rightly.",
        "missed: Who brews the coffee?",
    ]
