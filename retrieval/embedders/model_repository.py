"""Our embedding model as Triton's model repositories want it, which other servers read too."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Final

from retrieval.embedders.e5_model import ensure_model
from retrieval.embedders.e5_onnx import (
    DIMENSIONS,
    MAX_TOKENS,
    PASSAGE_PREFIX,
    QUERY_PREFIX,
    fingerprint_of,
)
from retrieval.embedders.open_inference import DESCRIPTION_FILE, Description

MODEL_NAME: Final = "multilingual-e5-small"
_CONFIG: Final = """\
# For Triton. Requests whose texts have the same number of tokens are joined: nothing is padded.
name: "{name}"
backend: "onnxruntime"
max_batch_size: 16
input [{{ name: "input_ids" data_type: TYPE_INT64 dims: [-1] }}]
output [{{ name: "embedding" data_type: TYPE_FP32 dims: [{dimensions}] }}]
dynamic_batching {{
  preferred_batch_size: [4, 8, 16]
  max_queue_delay_microseconds: {queue_delay}
}}
# One for each core: a call runs in one thread. The int8 kernels are for processors.
instance_group [{{ kind: KIND_CPU count: {instances} }}]
parameters {{ key: "intra_op_thread_count" value: {{ string_value: "1" }} }}
# Only basic optimisations: the fusions beyond them make this graph several times slower.
optimization {{ graph {{ level: -1 }} }}
"""


def export(built: Path, folder: Path, instances: int, queue_delay_us: int = 2000) -> Path:
    """Writes the model's folder below `folder`, a model repository; gives that folder.

    `built` is where ours lies, or is built where it is not there yet (10 s). Twice replaces the first.
    Raises ModelUnavailable, OSError.
    """
    files = ensure_model(built)
    target = folder / MODEL_NAME
    (target / "1").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(files.model, target / "1" / "model.onnx")
    shutil.copyfile(files.tokenizer, target / "tokenizer.json")
    description = Description(
        MAX_TOKENS, QUERY_PREFIX, PASSAGE_PREFIX, fingerprint_of(files.weights_hash)
    )
    (target / DESCRIPTION_FILE).write_text(json.dumps(asdict(description), indent=2), "utf-8")
    config = _CONFIG.format(
        name=MODEL_NAME, dimensions=DIMENSIONS, queue_delay=queue_delay_us, instances=instances
    )
    (target / "config.pbtxt").write_text(config, "utf-8")
    return target
