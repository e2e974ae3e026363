"""Our built-in model as a folder that sentence-transformers loads: the same weights, in fp32.

python -m benchmarks.rivals.model_folder FOLDER
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.embedders.e5_file import E5File, Shape, locate
from retrieval.embedders.e5_tokenizer import build_tokenizer

MATRICES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
SPECIAL = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}


def write_model_folder(folder: Path) -> None:
    """Imports safetensors and tokenizers."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    with E5File(locate()) as weights:
        build_tokenizer(weights).save(str(folder / "tokenizer.json"))
        save_file(dict(tensors(weights)), folder / "model.safetensors", {"format": "pt"})
        documents = configuration(weights.shape, weights.pieces.pad)
    for name, content in documents.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=1), "utf-8")


def tensors(weights: E5File) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """By the names of transformers' BertModel."""
    shape, hidden = weights.shape, weights.shape.hidden
    for ours, theirs, rows in [
        ("word", "word_embeddings", shape.vocabulary),
        ("pos", "position_embeddings", shape.positions),
        ("type", "token_type_embeddings", shape.types),
    ]:
        yield f"embeddings.{theirs}.weight", weights.floats(f"emb.{ours}", rows, hidden)
    yield from _norm(weights, "emb.ln", "embeddings.LayerNorm")
    # Mean pooling never asks the pooler; it is there so that nothing is missing on loading.
    yield "pooler.dense.weight", np.zeros((hidden, hidden), np.float32)
    yield "pooler.dense.bias", np.zeros(hidden, np.float32)
    for layer in range(shape.layers):
        for ours, theirs in MATRICES.items():
            rows = shape.feed_forward if ours == "fi" else hidden
            columns = shape.feed_forward if ours == "fo" else hidden
            name = f"encoder.layer.{layer}.{theirs}"
            yield f"{name}.weight", weights.floats(f"l{layer}.{ours}.w", rows, columns)
            yield f"{name}.bias", weights.floats(f"l{layer}.{ours}.b", rows)
        for ours, theirs in NORMS.items():
            yield from _norm(weights, f"l{layer}.{ours}", f"encoder.layer.{layer}.{theirs}")


def _norm(weights: E5File, ours: str, theirs: str) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    yield f"{theirs}.weight", weights.floats(f"{ours}.w", weights.shape.hidden)
    yield f"{theirs}.bias", weights.floats(f"{ours}.b", weights.shape.hidden)


def configuration(shape: Shape, pad: int) -> dict[str, Any]:
    """The JSON files of the folder, by name."""
    modules = ["Transformer", "Pooling", "Normalize"]
    return {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.feed_forward,
            "vocab_size": shape.vocabulary,
            "max_position_embeddings": shape.positions,
            "type_vocab_size": shape.types,
            "layer_norm_eps": 1e-12,
            "hidden_act": "gelu",
            "pad_token_id": pad,
            "dtype": "float32",
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": shape.positions,
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
            **SPECIAL,
        },
        "modules.json": [
            {
                "idx": number,
                "name": str(number),
                "path": f"{number}_{module}" if number else "",
                "type": f"sentence_transformers.models.{module}",
            }
            for number, module in enumerate(modules)
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": shape.hidden,
            "pooling_mode_mean_tokens": True,
        },
        "2_Normalize/config.json": {},
        "sentence_bert_config.json": {"max_seq_length": shape.positions, "do_lower_case": False},
    }


if __name__ == "__main__":
    write_model_folder(Path(sys.argv[1]))
