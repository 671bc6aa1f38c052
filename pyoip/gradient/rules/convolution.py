"""Convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph.node import Pair, Window
from ..batch import leading
from ..operators import operator
from ..tape import At, Tape


@operator("Conv", batch=leading)
def conv(at: At) -> list[str | None]:
    window = at.node.window
    weights = at.constant(1)
    assert window is not None
    assert weights is not None
    size, out = at.shape()[2:], at.out_shape()[2:]
    return [conv_back(at.tape, at.grad, weights, window, (size[0], size[1]), (out[0], out[1]))]


def conv_back(
    tape: Tape, dz: str, weights: np.ndarray[Any, Any], window: Window, size: Pair, out: Pair
) -> str:
    """Write the gradient by a convolution's input (h, w) = `size`, given that by its output.

    With stride 1 it is a convolution itself, by the weights turned round, for which runtimes are
    at their best.
    """
    reach = [window.reach(axis) for axis in (0, 1)]
    left_over = [
        size[axis] + window.pads[axis] - ((out[axis] - 1) * window.stride[axis] + reach[axis])
        for axis in (0, 1)
    ]
    if window.stride == (1, 1) and all(p < r for p, r in zip(window.pads, reach * 2, strict=True)):
        pads = [reach[0] - 1 - window.pads[0], reach[1] - 1 - window.pads[1]]
        pads += [size[axis] - out[axis] + reach[axis] - 1 - pads[axis] for axis in (0, 1)]
        group, maps = window.group, len(weights)
        turned = weights[:, :, ::-1, ::-1].reshape(group, maps // group, *weights.shape[1:])
        turned = turned.transpose(0, 2, 1, 3, 4).reshape(-1, maps // group, *weights.shape[2:])
        return tape.emit(
            "Conv",
            dz,
            np.ascontiguousarray(turned, np.float32),
            kernel_shape=list(window.kernel),
            dilations=list(window.dilation),
            pads=pads,
            group=group,
        )
    return tape.emit(
        "ConvTranspose",
        dz,
        np.asarray(weights, np.float32),
        kernel_shape=list(window.kernel),
        strides=list(window.stride),
        dilations=list(window.dilation),
        pads=[*window.pads[:2], *(max(-n, 0) for n in left_over)],
        output_padding=[max(n, 0) for n in left_over],
        group=window.group,
    )
