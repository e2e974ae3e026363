"""The manifests, as kustomize renders them, against Kubernetes's own schemas and against each other."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kb.settings import Settings, unknown_variables
from tests.deploy.conftest import DEPLOY, Tool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KUBERNETES = DEPLOY / "kubernetes"
Manifest = dict[str, Any]


@pytest.fixture(scope="module", params=["small", "production", "everything"])
def rendered(
    request: pytest.FixtureRequest, tool: Tool, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An overlay as it would be applied; `everything` has the components of production too."""
    folder = tmp_path_factory.mktemp(request.param)
    source = KUBERNETES / request.param
    if request.param == "everything":
        source = folder
        # kustomize takes no absolute paths.
        parts = ("production", "nightly", "spark")
        places = {n: os.path.relpath(KUBERNETES / n, folder.resolve()) for n in parts}
        kustomization = {
            "resources": [places["production"]],
            "components": [places["nightly"], places["spark"]],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    built = tool("kustomize", "build", source)
    assert built.returncode == 0, built.stderr
    file = folder / "rendered.yaml"
    file.write_text(built.stdout)
    return file


@pytest.fixture(scope="module")
def manifests(rendered: Path) -> list[Manifest]:
    return [each for each in yaml.safe_load_all(rendered.read_text()) if each]


def pod_specs(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """The pod template of each workload, with the workload's name."""
    for each in manifests:
        spec = each.get("spec", {})
        if each["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield each["metadata"]["name"], spec["template"]


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for name, template in pod_specs(manifests):
        for container in template["spec"]["containers"]:
            yield name, container


def test_the_schemas_accept_them(rendered: Path, tool: Tool) -> None:
    checked = tool("kubernetes-validate", "--strict", rendered)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_schemas_refuse_a_misspelt_field(tmp_path: Path, tool: Tool) -> None:
    text = (KUBERNETES / "base" / "api.yaml").read_text().replace("maxSurge", "maxSurges")
    (tmp_path / "wrong.yaml").write_text(text)
    refused = tool("kubernetes-validate", "--strict", tmp_path / "wrong.yaml")
    assert refused.returncode != 0
    assert "maxSurges" in refused.stdout + refused.stderr


def test_no_pod_runs_as_root_or_writes_to_its_root(manifests: list[Manifest]) -> None:
    for name, template in pod_specs(manifests):
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True, name
        assert template["spec"]["securityContext"]["seccompProfile"], name
    for name, container in containers(manifests):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert context.get("readOnlyRootFilesystem") or name == "elasticsearch", name
        assert container["resources"]["limits"]["memory"], name


def test_images_have_versions(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests):
        assert re.search(r":v?\d+\.\d+", container["image"]), name


def test_claims_settings_and_volumes_that_are_used_exist(manifests: list[Manifest]) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in manifests}
    for name, template in pod_specs(manifests):
        volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
        for volume in volumes.values():
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in there, name
            if file := volume.get("configMap"):
                assert ("ConfigMap", file["name"]) in there, name
        if account := template["spec"].get("serviceAccountName"):
            assert ("ServiceAccount", account) in there
    for name, container in containers(manifests):
        for source in container.get("envFrom", []):
            assert ("ConfigMap", source["configMapRef"]["name"]) in there, name


def test_services_budgets_and_policies_find_their_pods(manifests: list[Manifest]) -> None:
    labels = [template["metadata"]["labels"] for _, template in pod_specs(manifests)]

    def found(selector: dict[str, str]) -> bool:
        return any(selector.items() <= pod.items() for pod in labels)

    for each in manifests:
        spec = each.get("spec", {})
        if each["kind"] == "Service" and each["metadata"]["name"] != "nowhere":
            assert found(spec["selector"]), each["metadata"]["name"]
        if each["kind"] == "PodDisruptionBudget":
            assert found(spec["selector"]["matchLabels"])
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] not in {
            "model",  # `small` has no model; its policy waits for one
            "model-clients",
        }:
            assert found(spec["podSelector"].get("matchLabels", {})), each["metadata"]["name"]


def test_settings_are_ours_and_secrets_are_references(manifests: list[Manifest]) -> None:
    names: set[str] = set()
    for each in manifests:
        if each["kind"] == "ConfigMap":
            names |= set(each["data"])
        assert each["kind"] != "Secret"
    for _, container in containers(manifests):
        for variable in container.get("env", []):
            names.add(variable["name"])
            secret = re.search(r"(PASSWORD|API_KEY|_URL)$", variable["name"])
            assert not secret or "secretKeyRef" in variable["valueFrom"], variable["name"]
    ours = {name: "" for name in names if name.startswith("KB_")}
    assert len(ours) > 5
    assert not unknown_variables(ours)


def test_a_rolling_update_of_the_api_fails_no_request(manifests: list[Manifest]) -> None:
    (api,) = [
        each
        for each in manifests
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "kb-api"
    ]
    assert api["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pod = api["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    (settings,) = [each["data"] for each in manifests if each["metadata"]["name"] == "kb-settings"]
    drain_s, shutdown_s = (int(settings[f"KB_SERVER__{x}_S"]) for x in ("DRAIN", "SHUTDOWN"))
    assert drain_s >= 5
    assert shutdown_s >= Settings.model_fields["generation"].default.total_s
    assert pod["terminationGracePeriodSeconds"] > drain_s + shutdown_s


def test_the_model_gets_a_gpu_and_time_to_load(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests):
        if name == "vllm":
            assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
            probe = container["startupProbe"]
            assert probe["periodSeconds"] * probe["failureThreshold"] >= 1200


def test_the_autoscaler_asks_for_metrics_that_the_adapter_serves() -> None:
    scaling = (KUBERNETES / "production" / "scaling.yaml").read_text()
    asked = set(re.findall(r"metric: \{name: (\w+)\}", scaling))
    rules = yaml.safe_load((KUBERNETES / "monitoring" / "prometheus-adapter.yaml").read_text())
    served = {
        rule.get("name", {}).get("as") or rule["seriesQuery"].partition("{")[0]
        for rule in rules["rules"]["custom"]
    }
    assert len(asked) == 2
    assert asked == served
