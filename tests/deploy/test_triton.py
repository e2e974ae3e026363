"""The model repository that `kb model export` writes, read by Triton's own description of its configuration."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.kb_process import KB, data_folder, environment, printed_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

READ = """
import sys
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
config = text_format.Parse(open(sys.argv[1]).read(), model_config_pb2.ModelConfig())
print(json_format.MessageToJson(config, preserving_proto_field_name=True))
"""


def test_triton_s_own_parser_reads_the_configuration(
    tools: Path, models: Path, tmp_path: Path
) -> None:
    exported = subprocess.run(
        [KB, "model", "export", tmp_path / "repository", "--instances", "3", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(data_folder(tmp_path / "data", models)),
    )
    folder = Path(printed_json(exported)["folder"])
    read = subprocess.run(
        [tools / "python", "-c", READ, folder / "config.pbtxt"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    config = json.loads(read.stdout)
    assert config["name"] == folder.name
    assert config["max_batch_size"] == 16
    assert config["input"] == [{"name": "input_ids", "data_type": "TYPE_INT64", "dims": ["-1"]}]
    assert config["output"][0]["dims"] == ["384"]
    assert config["dynamic_batching"]["preferred_batch_size"] == [4, 8, 16]
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == "2000"
    assert config["instance_group"] == [{"count": 3, "kind": "KIND_CPU"}]
    assert {path.name for path in folder.iterdir()} == {
        "1",
        "config.pbtxt",
        "embedder.json",
        "tokenizer.json",
    }
