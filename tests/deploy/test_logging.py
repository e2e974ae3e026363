"""Our log lines under the index template, in a real Elasticsearch. Filebeat itself can't be had here."""

import json
import logging
import re
import subprocess
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import yaml

from kb.logs import configure_logs
from kb.settings import LogSettings
from tests.deploy.conftest import DEPLOY

LOGGING = DEPLOY / "logging"
STREAM = "logs-kb-default"


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Lines as our processes write them: a plain one, a warning, and an error with its traceback."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs(LogSettings(level="info", format="json"))
    log = structlog.get_logger("serving.worker")
    log.info("job_finished", job="sync", slot="2026-01-02T02:00:00", error=None)
    log.warning("rung_failed", code="model_timeout", reason="The model let a deadline pass.")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("job_failed", job="sync")
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def shipped(line: dict[str, Any]) -> dict[str, Any]:
    """What the processors of filebeat.yml make of a line."""
    rest = {name: value for name, value in line.items() if name != "timestamp"}
    return rest | {"@timestamp": line["timestamp"]}


@pytest.mark.slow
@pytest.mark.elasticsearch
def test_log_lines_are_found_under_the_template(
    lines: list[dict[str, Any]], elasticsearch_server: str
) -> None:
    stream = f"logs-kb-{uuid.uuid4().hex}"
    for _ in range(2):
        subprocess.run([LOGGING / "setup", elasticsearch_server], check=True)
    with httpx.Client(base_url=elasticsearch_server, trust_env=False) as client:
        try:
            for line in lines:
                created = client.post(f"/{stream}/_doc?refresh=true", json=shipped(line))
                assert created.status_code == 201, created.text

            def count(query: dict[str, Any]) -> int:
                found = client.post(f"/{stream}/_count", json={"query": query}).json()
                return int(found["count"])

            assert count({"match_all": {}}) == 3
            assert count({"term": {"level": "warning"}}) == 1
            assert count({"term": {"code": "model_timeout"}}) == 1
            assert count({"match": {"reason": "deadline"}}) == 1
            assert count({"range": {"@timestamp": {"gte": "now-1h"}}}) == 3
            assert count({"term": {"job": "sync"}}) == 2  # a field that the template does not name
            ((backing, mapped),) = client.get(f"/{stream}/_mapping").json().items()
            assert backing.startswith(f".ds-{stream}-")
            assert mapped["mappings"]["properties"]["reason"]["type"] == "text"
        finally:
            # The tests' stripped distribution has data streams, but no way to delete one.
            client.delete(f"/_data_stream/{stream}")


def test_the_lines_hold_what_filebeat_looks_for(lines: list[dict[str, Any]]) -> None:
    configuration = yaml.safe_load((LOGGING / "filebeat.yml").read_text())
    dropped, decoded, wanted, stamped, *_ = configuration["processors"]
    pattern = dropped["drop_event"]["when.not.regexp.message"]
    for line in lines:
        assert re.match(pattern, json.dumps(line))
        assert set(wanted["drop_event"]["when.not.has_fields"]) <= set(line)
        # Go's layout of our time: the same digits, in the same places.
        (layout,) = stamped["timestamp"]["layouts"]
        assert re.sub(r"\d", "0", layout) == re.sub(r"\d", "0", line["timestamp"])
    assert decoded["decode_json_fields"]["target"] == ""
    assert configuration["output.elasticsearch"]["index"] == STREAM


def test_the_units_that_are_shipped_are_those_there_are() -> None:
    text = (LOGGING / "filebeat.yml").read_text()
    named = set(re.findall(r"_SYSTEMD_UNIT=(\S+)", text))
    assert named == {file.name for file in (DEPLOY / "systemd").glob("*.service")}


def test_the_dashboard_s_parts_are_there_and_ask_for_our_events() -> None:
    text = (LOGGING / "dashboard.ndjson").read_text()
    objects = {(each["type"], each["id"]): each for each in map(json.loads, text.splitlines())}
    for each in objects.values():
        for reference in each["references"]:
            assert (reference["type"], reference["id"]) in objects
    dashboard = objects["dashboard", "kb"]
    assert len(json.loads(dashboard["attributes"]["panelsJSON"])) == len(dashboard["references"])
    source = "".join(file.read_text() for file in Path(DEPLOY.parent, "serving").rglob("*.py"))
    events = set(re.findall(r"\bjob_\w+", text))
    assert events
    for event in events:
        assert f'"{event}"' in source
