"""A model's own forward pass up to one tensor: what derived graphs and engines are held against.

The model runs as it was given, in its own operators, opset and element types, by a runtime that
knows nothing of pyoip: ONNX Runtime, or else the evaluator that comes with ``onnx``. Functions are
inlined and nodes behind the tensor left out, no more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from ..errors import EngineUnavailable, UnsupportedLayer
from .file import needs
from .functions import inline_functions
from .node import plain, quote

Floats = NDArray[np.float32]


class Original:
    """The forward pass of a model up to one of its tensors.

    Parameters
    ----------
    model : onnx.ModelProto
        As it was given; it is not changed.
    tensor : str
        Name of what is read.
    threads : int
        Of ONNX Runtime.

    Raises
    ------
    UnsupportedLayer
        No runtime at hand takes the model, or its images are not floats.
    """

    def __init__(self, model: ModelProto, tensor: str, threads: int) -> None:
        self._tensor = tensor
        part = cut(model, tensor)
        (image,) = part.graph.input
        self._image = image.name
        self._kind = onnx.helper.tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type)
        if self._kind.kind != "f":
            raise UnsupportedLayer(
                f"input {quote(image.name)} is of {self._kind}: must be of floats to be compared"
            )
        first = image.type.tensor_type.shape.dim[:1]
        self._batch = max(1, first[0].dim_value) if first else 1
        self.runtime, self._session = _session(part, threads)

    def __call__(self, image: Floats) -> NDArray[Any]:
        """Return the tensor's values (C, …) for an image that has the model's axes and numbers."""
        batch = np.repeat(image[None].astype(self._kind), self._batch, axis=0)
        try:
            (found,) = self._session.run([self._tensor], {self._image: batch})
        except Exception as error:  # neither runtime's errors have a common base
            raise UnsupportedLayer(
                f"{self.runtime} does not run the model itself up to {quote(self._tensor)} "
                f"({plain(error)}): nothing to compare with"
            ) from None
        first: NDArray[Any] = found[0]
        return first


def cut(model: ModelProto, tensor: str) -> ModelProto:
    """Return the part of a model that `tensor` depends on, with it as the only output."""
    whole = inline_functions(model, "model")
    part = ModelProto()
    part.CopyFrom(whole)
    graph, wanted, kept = part.graph, {tensor}, []
    for node in reversed(whole.graph.node):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted |= needs(node)
    del graph.node[:], graph.output[:], graph.input[:], graph.initializer[:]
    graph.node.extend(kept[::-1])
    graph.output.append(onnx.ValueInfoProto(name=tensor))
    graph.initializer.extend(t for t in whole.graph.initializer if t.name in wanted)
    given = {t.name for t in graph.initializer} | {
        t.values.name for t in whole.graph.sparse_initializer
    }
    graph.input.extend(v for v in whole.graph.input if v.name in wanted - given)
    return part


def _session(model: ModelProto, threads: int) -> tuple[str, Any]:
    """Return what runs the model, by name and ready."""
    try:
        import onnxruntime
    except ImportError:
        return _evaluator(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise UnsupportedLayer(
            f"ONNX Runtime {onnxruntime.__version__} does not run the model itself "
            f"({plain(error)}): nothing to compare with"
        ) from None
    return f"ONNX Runtime {onnxruntime.__version__}", session


def _evaluator(model: ModelProto) -> tuple[str, Any]:
    from onnx.reference import ReferenceEvaluator

    try:
        return f"onnx {onnx.__version__}'s evaluator", ReferenceEvaluator(model)
    except Exception as error:  # as above
        raise EngineUnavailable(
            f"onnx's evaluator does not run the model ({plain(error)}); "
            "pip install 'pyoip[ort]' to compare with ONNX Runtime"
        ) from None
