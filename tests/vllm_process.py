"""A real vLLM with the model that the tests make: started, halted and killed as a server would be."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "deploy" / "vllm"
MODEL_SOURCES = [
    *sorted((ROOT / "tests" / "models").glob("*.py")),
    *sorted((ROOT / "serving" / "answering" / "prompts").glob("*.txt")),
]
CONTEXT = 2048
FIRST_START_S = 2400
"""What the first test may take: it installs vLLM and trains the model, minutes each."""


def copying_model() -> Path:
    """The test model's folder: trained once for each version of what makes it (some minutes).

    TEST_COPYING_MODEL names one that is there already.
    """
    if given := os.environ.get("TEST_COPYING_MODEL"):
        return Path(given)
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in MODEL_SOURCES)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kb"
    folder = cache / f"copying-model-{digest}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=cache))
        command: list[str | Path] = [sys.executable, "-m", "tests.models.copying_model", part]
        subprocess.run(command, cwd=ROOT, check=True)
        try:
            part.rename(folder)
        except OSError:  # Another run was faster.
            shutil.rmtree(part)
    return folder


class VLLM:
    """One server in a folder of its own. It keeps its port when it is started again."""

    name = "copying-model"

    def __init__(self, folder: Path, model: Path) -> None:
        self._folder = folder
        self._model = model
        self.url = ""

    def start(self) -> None:
        command: list[str | Path] = [SCRIPTS / "start", self._folder, self._model, "0", *_options()]
        environment = {"VLLM_CPU_KVCACHE_SPACE": "1"} | os.environ
        started = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env=environment
        )
        self.url = started.stdout.strip()

    def stop(self) -> None:
        subprocess.run([SCRIPTS / "stop", self._folder], check=True)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def halt(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def running_requests(self) -> float:
        """Requests that vLLM works on or has waiting."""
        text = httpx.get(self.url.removesuffix("/v1") + "/metrics", trust_env=False).text
        names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
        lines = [line for line in text.splitlines() if line.startswith(names)]
        assert lines, "vLLM's metrics have other names now"
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if "waiting_by_reason" not in line
        )

    def _signal(self, number: int) -> None:
        os.killpg(int((self._folder / "pid").read_text()), number)


def _options() -> list[str]:
    return [
        "--served-model-name",
        VLLM.name,
        "--max-model-len",
        str(CONTEXT),
        "--enforce-eager",
        "--max-num-seqs",
        "32",
    ]
