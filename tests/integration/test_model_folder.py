"""The folder that other programs load has the weights of the built-in model."""

from pathlib import Path

import pytest

from benchmarks.rivals.model_folder import write_model_folder
from retrieval.embedders.e5_onnx import E5OnnxEmbedder
from retrieval.embedders.sentence_transformers import SentenceTransformersEmbedder

TEXTS = [
    "To install Docker on Linux, add its package repository first, then install docker-ce.",
    "在 Linux 上安装 Docker，首先添加它的软件源，然后安装 docker-ce 软件包。",
    "Plugin: limit-count | Attribute: rejected_code | Default: 503 | HTTP/2, v1.2.3",
    "北京是中华人民共和国的首都，全国的政治、文化中心。" * 8,
]


@pytest.mark.slow
@pytest.mark.torch
async def test_its_vectors_are_those_of_the_built_in_model_up_to_int8(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="the extra [torch] is not installed")
    write_model_folder(tmp_path / "folder")
    theirs = await SentenceTransformersEmbedder.open(
        str(tmp_path / "folder"), tmp_path, device="cpu", passage_prefix="passage: "
    )
    ours = await E5OnnxEmbedder.open(tmp_path, threads=2, batch_size=0)
    cosines = ((await theirs.passages(TEXTS)) * (await ours.passages(TEXTS))).sum(axis=1)
    await theirs.close()
    await ours.close()
    assert cosines.min() > 0.997
    assert cosines.mean() > 0.998
