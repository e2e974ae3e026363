"""The embedder behind a server of the Open Inference Protocol: a real one, and ones that misbehave."""

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kb.errors import (
    ConfigError,
    ModelMisbehaved,
    ModelOverloaded,
    ModelTimeout,
    ModelUnavailable,
)
from kb.settings import EmbedderSettings, Settings
from retrieval.embedders import model_repository
from retrieval.embedders.e5_onnx import E5OnnxEmbedder
from retrieval.embedders.hashing import HashingEmbedder
from retrieval.embedders.open_inference import OpenInferenceEmbedder
from serving.parts import open_embedder
from tests.inference_server import inference_server

METADATA = {
    "name": "m",
    "versions": ["1"],
    "inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]}],
    "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [-1, 2]}],
}
Answer = tuple[int, Any]
"""A status and a body."""


@contextmanager
def scripted(answer: Callable[[int], Answer], metadata: Any = METADATA) -> Iterator[str]:
    """A server whose n-th inference (from 0) is answered by `answer(n)`."""
    asked = iter(range(1000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, metadata)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._send(*answer(next(asked)))

        def _send(self, status: int, body: Any) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def vectors(*rows: list[float]) -> Answer:
    data = [value for row in rows for value in row]
    shape = [len(rows), 2]
    output = {"name": "embedding", "datatype": "FP32", "shape": shape, "data": data}
    return 200, {"model_name": "m", "outputs": [output]}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    return HashingEmbedder(tmp_path).tokenizer_file


@pytest.fixture
async def opened() -> AsyncIterator[list[OpenInferenceEmbedder]]:
    """What is put in is closed."""
    embedders: list[OpenInferenceEmbedder] = []
    yield embedders
    for each in embedders:
        await each.close()


async def test_a_passing_failure_is_asked_once_more(
    tokenizer: Path, opened: list[OpenInferenceEmbedder]
) -> None:
    with scripted(lambda n: (503, {"error": "busy"}) if n == 0 else vectors([3, 4])) as url:
        embedder = await OpenInferenceEmbedder.open(url, "m", tokenizer)
        opened.append(embedder)
        assert (await embedder.queries(["cat"])).tolist() == [
            [0.6000000238418579, 0.800000011920929]
        ]


@pytest.mark.parametrize(
    ("answer", "error", "asked"),
    [
        ((503, {"error": "busy"}), ModelOverloaded, 2),
        ((500, {"error": "out of memory"}), ModelUnavailable, 2),
        ((400, {"error": "unexpected shape"}), ModelMisbehaved, 1),
        ((302, {}), ModelMisbehaved, 1),
        ((200, b"<html>"), ModelMisbehaved, 1),
        ((200, []), ModelMisbehaved, 1),
        ((200, {"outputs": []}), ModelMisbehaved, 1),
        (vectors([1, 2], [3, 4]), ModelMisbehaved, 1),
        (vectors([0, 0]), ModelMisbehaved, 1),
        (vectors([float("nan"), 1]), ModelMisbehaved, 1),
    ],
)
async def test_failures_are_told_as_ours(
    answer: Answer,
    error: type[ModelUnavailable],
    asked: int,
    tokenizer: Path,
    opened: list[OpenInferenceEmbedder],
) -> None:
    times: list[int] = []

    def answered(n: int) -> Answer:
        times.append(n)
        return answer

    with scripted(answered) as url:
        embedder = await OpenInferenceEmbedder.open(url, "m", tokenizer)
        opened.append(embedder)
        with pytest.raises(ModelUnavailable) as raised:
            await embedder.queries(["cat"])
    assert type(raised.value) is error
    assert len(times) == asked


async def test_a_server_that_says_nothing_is_given_up(
    tokenizer: Path, opened: list[OpenInferenceEmbedder]
) -> None:
    over = threading.Event()

    def silent(_: int) -> Answer:
        over.wait(60)
        return vectors([1, 0])

    with scripted(silent) as url:
        embedder = await OpenInferenceEmbedder.open(url, "m", tokenizer, timeout_s=0.3)
        opened.append(embedder)
        with pytest.raises(ModelTimeout):
            await embedder.queries(["cat"])
        over.set()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"inputs": [{"name": "pixels", "shape": [1]}]}, "takes pixels"),
        ({"outputs": [{"name": "hidden", "shape": [-1, -1, 384]}]}, "with its pooling"),
        ({"outputs": [{"name": "embedding", "shape": [-1, -1]}]}, "known length"),
    ],
)
async def test_a_model_that_is_no_embedder_is_refused(
    wrong: dict[str, Any], told: str, tokenizer: Path
) -> None:
    with (
        scripted(lambda _: vectors([1, 0]), METADATA | wrong) as url,
        pytest.raises(ModelUnavailable, match=told),
    ):
        await OpenInferenceEmbedder.open(url, "m", tokenizer)


async def test_nobody_there_and_no_tokenizer(tokenizer: Path) -> None:
    with pytest.raises(ModelUnavailable, match="can't be asked"):
        await OpenInferenceEmbedder.open("http://127.0.0.1:9", "m", tokenizer)
    with pytest.raises(ModelUnavailable, match="not a file"):
        await OpenInferenceEmbedder.open("http://127.0.0.1:9", "m", tokenizer / "no")


async def test_other_prefixes_or_another_version_are_another_fingerprint(
    tokenizer: Path, opened: list[OpenInferenceEmbedder]
) -> None:
    with (
        scripted(lambda _: vectors([1, 0])) as url,
        scripted(lambda _: vectors([1, 0]), METADATA | {"versions": ["2"]}) as newer,
    ):
        opened.append(await OpenInferenceEmbedder.open(url, "m", tokenizer))
        opened.append(await OpenInferenceEmbedder.open(url, "m", tokenizer, query_prefix="q: "))
        opened.append(await OpenInferenceEmbedder.open(newer, "m", tokenizer))
    assert len({each.fingerprint for each in opened}) == 3


async def test_settings_that_are_missing_are_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, embedder=EmbedderSettings(kind="open-inference"))
    with pytest.raises(ConfigError, match="kb model export"):
        await open_embedder(settings)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_the_same_vectors_as_in_process_and_back_after_the_server_was_gone(
    tmp_path: Path, opened: list[OpenInferenceEmbedder]
) -> None:
    texts = ["The cat sleeps on the mat.", "安装知识库", "gateway " * 600, ""] * 5
    model = model_repository.export(tmp_path / "e5", tmp_path / "repository", instances=2)
    local = await E5OnnxEmbedder.open(tmp_path / "e5", threads=2, batch_size=0)
    with inference_server(model.parent, tmp_path / "server") as url:
        remote = await OpenInferenceEmbedder.open(url, model.name, model / "tokenizer.json")
        opened.append(remote)
        # So vectors of one may be searched with questions of the other.
        assert remote.fingerprint == local.fingerprint
        for theirs, ours in (
            (await remote.passages(texts), await local.passages(texts)),
            (await remote.queries(texts), await local.queries(texts)),
        ):
            assert (theirs * ours).sum(axis=1).min() > 0.999
    with pytest.raises(ModelUnavailable):
        await remote.queries(["gone?"])
    port = int(url.rpartition(":")[2])
    with inference_server(model.parent, tmp_path / "again", port):
        assert (await remote.queries(["back?"])).shape == (1, 384)
    await local.close()
