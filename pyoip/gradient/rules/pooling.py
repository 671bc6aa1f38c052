"""Poolings: a maximum hands its gradient to one place, an average shares it out."""

from __future__ import annotations

from typing import Any

from ..batch import leading
from ..operators import operator
from ..tape import At


def _with_places(at: At) -> list[str]:
    """Write a maximum together with the places that its values came from."""
    attributes: dict[str, Any] = {
        k: v for k, v in at.node.attributes.items() if k != "storage_order"
    }
    made = at.tape.emit_all("MaxPool", at.x(), outputs=2, **attributes)
    at.tape.names[at.node.outputs[0] + "/places"] = made[1]
    return made


@operator("MaxPool", batch=leading, forward=_with_places)
def max_pool(at: At) -> list[str | None]:
    """The first of equal values in row-major order takes all, as ONNX Runtime's places say."""
    places = at.emit("Reshape", at.tape.names[at.node.outputs[0] + "/places"], [-1])
    values = at.emit("Reshape", at.grad, [-1])
    empty = at.emit("Reshape", at.emit("Mul", at.x(), 0.0), [-1])
    spread = at.emit("ScatterElements", empty, places, values, axis=0, reduction="add")
    return [at.like(spread)]
