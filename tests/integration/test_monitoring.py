"""What Prometheus, its alerts and Grafana's dashboard are given, held against what we export."""

import json
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import prometheus_client
import pytest

from ingestion.progress import SyncProgress
from kb.settings import BackupSettings, Settings
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.generations import CopyProgress
from serving.app.application import create_app
from serving.backup.making import create
from serving.bootstrap import Services, open_services
from serving.sync import ingest_path

DEPLOY = Path(__file__).parents[2] / "deploy"
SUFFIXES = re.compile(r"_(bucket|count|sum|total)$")


def exported() -> set[str]:
    return {family.name for family in prometheus_client.REGISTRY.collect()}


@pytest.mark.slow
def test_promtool_accepts_the_rules_and_their_tests_pass() -> None:
    checked = subprocess.run(
        [DEPLOY / "prometheus" / "check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", ["prometheus/alerts.yml", "grafana/kb.json"])
def test_only_what_is_exported_is_asked_for(file: str) -> None:
    text = (DEPLOY / file).read_text("utf-8")
    asked = {SUFFIXES.sub("", name) for name in re.findall(r"\bkb_[a-z_]+", text)}
    assert len(asked) > 5
    assert asked <= exported()


@pytest.mark.slow
def test_every_panel_of_the_dashboard_is_a_query_promtool_can_read(tmp_path: Path) -> None:
    panels = json.loads((DEPLOY / "grafana" / "kb.json").read_text("utf-8"))["panels"]
    targets = [target for panel in panels for target in panel["targets"]]
    rules = [{"record": f"panel_{n}", "expr": each["expr"]} for n, each in enumerate(targets)]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    subprocess.run([DEPLOY / "prometheus" / "check", file], check=True, capture_output=True)


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async def hashing(settings: Settings) -> HashingEmbedder:
        return HashingEmbedder(settings.data_dir / "models")

    kept = BackupSettings(folder=tmp_path / "backups")
    async with open_services(Settings(data_dir=tmp_path / "data", backup=kept), hashing) as opened:
        yield opened


async def figures(services: Services, *, asked: str) -> dict[str, float]:
    """What /metrics says after one search for `asked`."""
    app = create_app(services)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http,
    ):
        await http.post("/v1/search", json={"query": asked})
        text = (await http.get("/metrics")).text
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


async def test_a_search_is_counted_by_route_and_stage(services: Services, tmp_path: Path) -> None:
    (tmp_path / "x.md").write_text("The heron sleeps.")
    await ingest_path(tmp_path / "x.md", "default", services, SyncProgress())
    before = await figures(services, asked="heron")
    after = await figures(services, asked="heron")

    def grown(name: str) -> float:
        return after[name] - before[name]

    searched = 'method="POST",route="/v1/search",status="200"'
    assert grown(f"kb_request_seconds_count{{{searched}}}") == 1
    for stage in ("embed", "index", "rank"):
        assert grown(f'kb_search_stage_seconds_count{{stage="{stage}"}}') == 1
    assert after['kb_documents{collection="default",status="indexed"}'] == 1
    assert after['kb_chunks{collection="default"}'] == 1
    assert after['kb_index_generation{collection="default"}'] == 1
    assert after['kb_last_run_documents{collection="default",outcome="new"}'] == 1
    (run,) = await services.catalog.runs(collection="default")
    assert run.finished_at
    last_sync = after['kb_last_successful_sync_timestamp_seconds{collection="default"}']
    assert last_sync == pytest.approx(run.finished_at.timestamp())


async def test_errors_are_counted_by_code(services: Services) -> None:
    name = 'kb_errors_total{code="not_found"}'
    before = await figures(services, asked="x")
    after = await figures(services, asked="x")
    assert after[name] - before[name] == 1


async def test_the_newest_backup_and_the_disk_are_told(services: Services) -> None:
    assert (await figures(services, asked="x"))["kb_last_backup_timestamp_seconds"] == 0
    await services.ensure_collection("default")
    folder = services.settings.backup.folder
    assert folder
    made = await create(folder, services, CopyProgress())
    after = await figures(services, asked="x")
    assert after["kb_last_backup_timestamp_seconds"] == made.created_at.timestamp()
    assert 0 < after["kb_disk_free_bytes"] <= after["kb_disk_size_bytes"]
