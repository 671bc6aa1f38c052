"""The table of operators: how each is written for any number of images, and differentiated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnx import TensorProto, helper

from .batch import Rule, aligned
from .tape import At

Gradient = Callable[[At], Sequence[str | None]]
Forward = Callable[[At], list[str]]


@dataclass(frozen=True)
class Operator:
    """What is known of an ONNX operator.

    Attributes
    ----------
    gradient : callable
        Writes the gradients by the node's inputs, given those by its outputs, and returns their
        names; None, or nothing at the end, for an input that has none. What it returns for an
        input that does not depend on the image is not used.
    batch : callable
        Along which axis the images of the results lie; raises `batch.Mixed`.
    forward : callable
        Writes the node itself and returns the names of its results.
    """

    gradient: Gradient
    batch: Rule
    forward: Forward


OPERATORS: dict[str, Operator] = {}


def copied(at: At) -> list[str]:
    """Write the node as it is."""
    attributes = {
        k: v for k, v in at.node.attributes.items() if not (isinstance(v, list) and not v)
    }
    if at.node.op == "Cast":
        attributes["to"] = _KINDS.get(attributes["to"], TensorProto.FLOAT)
    inputs = [at.x(i) for i in range(len(at.node.inputs))]
    return at.tape.emit_all(at.node.op, *inputs, outputs=len(at.node.outputs), **attributes)


_KINDS = {
    str(helper.tensor_dtype_to_np_dtype(kind)): kind
    for kind in (
        *(TensorProto.BOOL, TensorProto.INT8, TensorProto.INT16, TensorProto.INT32),
        *(TensorProto.INT64, TensorProto.UINT8, TensorProto.UINT16),
    )
}
"""Element types that a Cast keeps; every float becomes float32."""


def operator(
    *names: str, batch: Rule = aligned, forward: Forward = copied
) -> Callable[[Gradient], Gradient]:
    """Enter a gradient in the table, under all `names`."""

    def enter(gradient: Gradient) -> Gradient:
        for name in names:
            assert name not in OPERATORS, f"{name} is in the table twice"
            OPERATORS[name] = Operator(gradient, batch, forward)
        return gradient

    return enter
