"""The pipelines for users' forges, by the forges' own schemas. No forge runs them here."""

import re
from pathlib import Path

import pytest

from tests.deploy.conftest import DEPLOY, Tool

CI = DEPLOY / "ci"
PIPELINES = [CI / "gitlab-ci.yml", CI / "github-workflow.yml"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("file", "schema"),
    [
        (PIPELINES[0], "vendor.gitlab-ci"),
        (PIPELINES[1], "vendor.github-workflows"),
        (PIPELINES[1], "custom.github-workflows-require-timeout"),
    ],
)
def test_the_forge_s_schema_accepts_it(tool: Tool, file: Path, schema: str) -> None:
    checked = tool("check-jsonschema", "--builtin-schema", schema, file)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("file", PIPELINES, ids=lambda file: file.stem)
def test_it_calls_targets_and_images_that_there_are(file: Path) -> None:
    text = file.read_text()
    targets = set(re.findall(r"\bmake ([a-z-]+)", text))
    assert targets == {"check", "test", "scan"}
    makefile = (DEPLOY.parent / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    dockerfile = (DEPLOY / "docker" / "Dockerfile").read_text()
    stages = set(re.findall(r"(?i)target: (\w+)", text))
    assert stages == {"server", "gpu", "spark"}
    for stage in stages:
        assert f" AS {stage}\n" in dockerfile
