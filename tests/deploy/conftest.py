"""The tools that the files under deploy/ are checked with; `deploy/checks/install` brings them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"

Tool = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of their commands. The first time takes minutes: Go compiles two."""
    installed = subprocess.run(
        [DEPLOY / "checks" / "install"], stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(installed.stdout.strip())


@pytest.fixture(scope="session")
def tool(tools: Path) -> Tool:
    """Runs a command of theirs; what it says is in the result, not raised."""

    def run(
        name: str, *arguments: str | Path, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tools / name, *arguments], capture_output=True, text=True, check=False, env=env
        )

    return run


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of models with the embedding model in it, built once (10 s)."""
    from retrieval.embedders.e5_model import ensure_model

    folder = tmp_path_factory.mktemp("models")
    ensure_model(folder / "multilingual-e5-small")
    return folder
