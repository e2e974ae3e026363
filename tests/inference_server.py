"""MLServer, a real server of the Open Inference Protocol, as a process over a model repository of ours."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

SERVE = Path(__file__).parents[1] / "deploy" / "open-inference" / "serve"
START_TIMEOUT_S = 240.0


@contextmanager
def inference_server(repository: Path, folder: Path, port: int = 0) -> Iterator[str]:
    """The address of a server of the caller's own. The first time it is installed."""
    subprocess.run([SERVE.with_name("install")], check=True, stdout=subprocess.DEVNULL)
    folder.mkdir(exist_ok=True)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [SERVE, repository, folder, str(port)], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield _ready(process, folder)
    finally:
        process.terminate()
        process.wait()


def _ready(process: "subprocess.Popen[bytes]", folder: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < deadline and process.poll() is None:
            if (folder / "port").exists():
                url = f"http://127.0.0.1:{(folder / 'port').read_text()}"
                try:
                    if client.get(f"{url}/v2/health/ready").is_success:
                        return url
                except httpx.HTTPError:
                    pass
            time.sleep(0.1)
    raise AssertionError(f"MLServer did not start: {(folder / 'server.log').read_text()[-2000:]}")
