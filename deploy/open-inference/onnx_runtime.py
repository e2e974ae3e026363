"""MLServer's way to run an ONNX model: every input by its name, every output. For `deploy/open-inference/start`."""

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataTensor,
)
from mlserver.utils import get_model_uri

DATATYPES = {"tensor(int64)": "INT64", "tensor(float)": "FP32"}


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        # As config.pbtxt says it to Triton: the fusions beyond the basic ones make this graph slow.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        path = await get_model_uri(self.settings)
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        return True

    async def metadata(self) -> MetadataModelResponse:
        return MetadataModelResponse(
            name=self.name,
            platform="onnxruntime_onnx",
            versions=[self.version] if self.version else [],
            inputs=[_tensor(each) for each in self._session.get_inputs()],
            outputs=[_tensor(each) for each in self._session.get_outputs()],
        )

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = {each.name: NumpyCodec.decode_input(each) for each in payload.inputs}
        names = [each.name for each in self._session.get_outputs()]
        found = self._session.run(names, given)
        outputs = [
            NumpyCodec.encode_output(name, np.asarray(value))
            for name, value in zip(names, found, strict=True)
        ]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


def _tensor(node) -> MetadataTensor:
    shape = [size if isinstance(size, int) else -1 for size in node.shape]
    return MetadataTensor(name=node.name, datatype=DATATYPES[node.type], shape=shape)
