"""Images and the compose file: by hadolint, Docker's own compose parser, promtool and nginx."""

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kb.settings import Settings, unknown_variables
from tests.deploy.conftest import DEPLOY, Tool

pytestmark = pytest.mark.timeout(600)

ROOT = DEPLOY.parent
DOCKER = DEPLOY / "docker"
COMPOSE = DEPLOY / "compose.yaml"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `deploy/docker/secrets` and the person who runs it give."""
    folder = tmp_path_factory.mktemp("secrets")
    subprocess.run([DOCKER / "secrets", folder], check=True)
    lines = (folder / ".env").read_text().splitlines()
    passwords = dict(line.split("=", 1) for line in lines)
    return {"PATH": os.environ["PATH"], "DOCUMENTS": "/srv/documents"} | passwords


@pytest.fixture(scope="module")
def project(tool: Tool, environment: dict[str, str]) -> dict[str, Any]:
    parsed = tool("compose", COMPOSE, env=environment)
    assert parsed.returncode == 0, parsed.stderr
    project: dict[str, Any] = json.loads(parsed.stdout)
    return project


# --- Images -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hadolint_has_nothing_to_say(tool: Tool) -> None:
    linted = tool("hadolint", DOCKER / "Dockerfile")
    assert linted.returncode == 0, linted.stdout


def test_each_image_ends_as_a_user_that_is_not_root() -> None:
    stages = re.split(r"^FROM ", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    final = [stage for stage in stages if re.match(r"\S+ AS (server|gpu|spark)\n", stage)]
    assert len(final) == 3
    for stage in final:
        assert stage.rstrip().endswith("USER 10001:10001")


def test_what_the_images_copy_is_let_through_to_the_builder() -> None:
    allowed = [
        line[1:]
        for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DOCKER / "Dockerfile").read_text(), re.M)
    for place in {name for line in copied for name in line.split() if name != "."}:
        assert (ROOT / place).exists()
        assert any(Path(place).match(pattern) for pattern in allowed), place
    for pattern in allowed:
        assert list(ROOT.glob(pattern)), pattern


@pytest.mark.parametrize("image", ["server", "gpu", "spark", "build"])
def test_images_have_the_versions_that_were_tested(image: str) -> None:
    def versions(file: Path) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", file.read_text(), re.M))

    tested = versions(ROOT / "requirements" / "test.txt")
    packages = versions(DOCKER / f"{image}.txt")
    assert packages
    for name, version in packages.items():
        assert tested.get(name, version) == version, name
    text = (DOCKER / f"{image}.txt").read_text()
    assert text.count("--hash=sha256:") >= len(packages)


# --- The compose file ---------------------------------------------------------------------------


@pytest.mark.slow
def test_the_specification_s_schema_accepts_it(tool: Tool) -> None:
    checked = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
def test_each_profile_has_its_services(project: dict[str, Any]) -> None:
    profiles = {name: each.get("profiles", []) for name, each in project["services"].items()}
    assert {name for name, of in profiles.items() if of == ["cpu"]} == {"api", "worker"}
    assert {name for name, of in profiles.items() if of == ["gpu"]} == {
        "api-gpu",
        "worker-gpu",
        "vllm",
    }


@pytest.mark.slow
def test_nothing_is_published_beyond_this_machine(project: dict[str, Any]) -> None:
    ports = [p for each in project["services"].values() for p in each.get("ports", [])]
    assert len(ports) == 3
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    assert project["networks"]["inside"]["internal"] is True


@pytest.mark.slow
def test_every_service_is_hardened_and_has_a_version(project: dict[str, Any]) -> None:
    for name, each in project["services"].items():
        assert each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name
        assert each.get("read_only") or name == "elasticsearch", name
        assert re.search(r":v?\d+\.\d+", each["image"]), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "missing",
    ["POSTGRES_PASSWORD", "ELASTIC_PASSWORD", "REDIS_PASSWORD", "VLLM_API_KEY", "GRAFANA_PASSWORD"],
)
def test_no_password_has_a_default(tool: Tool, environment: dict[str, str], missing: str) -> None:
    without = {name: value for name, value in environment.items() if name != missing}
    refused = tool("compose", COMPOSE, env=without)
    assert refused.returncode != 0
    assert missing in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("service", ["api", "worker", "api-gpu", "worker-gpu"])
def test_a_service_s_settings_are_valid(
    project: dict[str, Any], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = project["services"][service]["environment"]
    assert not unknown_variables(given)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.index.url.get_secret_value().endswith("@elasticsearch:9200")
    assert settings.embedder.kind == (
        "sentence-transformers" if service.endswith("gpu") else "e5-onnx"
    )


def test_passwords_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    subprocess.run([DOCKER / "secrets", tmp_path], check=True)
    first = (tmp_path / ".env").read_text()
    subprocess.run([DOCKER / "secrets", tmp_path], check=True)
    assert (tmp_path / ".env").read_text() == first
    assert len(set(re.findall(r"=(.{40,})", first))) == 5
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


@pytest.mark.slow
def test_promtool_accepts_its_prometheus_configuration() -> None:
    # The key's file is in the container only: syntax.
    subprocess.run([DEPLOY / "prometheus" / "check"], check=True, capture_output=True)  # installs
    command = ["promtool", "check", "config", "--syntax-only", str(DOCKER / "prometheus.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("tools")  # they bring it
def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    for mount in yaml.safe_load(COMPOSE.read_text())["services"]["nginx"]["volumes"]:
        ours, theirs, _ = mount.split(":")
        shutil.copy(DEPLOY / ours, tmp_path / Path(theirs).name)
    # Debian's lies where a user's PATH does not always lead.
    path = {"PATH": f"{os.environ['PATH']}:/usr/sbin"}
    command = ["nginx", "-t", "-c", str(tmp_path / "nginx.conf")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, env=path)
    assert checked.returncode == 0, checked.stderr


def test_grafana_reads_the_dashboard_where_it_is_mounted() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    provider = yaml.safe_load((provisioning / "dashboards" / "kb.yml").read_text())
    folder = provider["providers"][0]["options"]["path"]
    grafana = yaml.safe_load(COMPOSE.read_text())["services"]["grafana"]
    assert f"./grafana/kb.json:{folder}/kb.json:ro" in grafana["volumes"]


# --- Everything under deploy/ -------------------------------------------------------------------


def test_every_setting_that_is_named_exists() -> None:
    named: dict[str, str] = {}
    for file in DEPLOY.rglob("*"):
        if file.is_file() and file.suffix not in {".json", ".sum", ".pyc"}:
            text = file.read_text("utf-8")
            named |= dict.fromkeys(re.findall(r"\bKB_[A-Z0-9_]+", text), str(file))
    del named["KB_VLLM_FOLDER"]  # marks the processes that deploy/vllm/start began
    assert len(named) > 15
    assert {name: named[name] for name in unknown_variables(named)} == {}
