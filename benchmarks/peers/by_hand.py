"""The gradient derived by hand for the shipped kind of stack: what the framework scripts share.

The kind: one input channel, 3×3 convolutions without padding, ReLU, 2×2 max pooling between them.

- ReLU commutes with max pooling, so it comes after: a quarter of the work.
- The first layer together with its pooling is one matrix product: a 4×4 patch of pixels holds
  all four 3×3 windows of a pooling window, so 16 pixels times (16, 4 × maps) gives the four
  values per map of which pooling keeps one. Backward is the transposed product, and the 4×4
  patches, which overlap by two, are added up.
- Of the last layer only the target map is computed: pixels times its 9 taps, shifted and added.
- Nothing is computed for positions that the target does not see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from task import Floats, Task

from pyoip.stack import Stack


@dataclass(frozen=True, eq=False)
class Plan:
    """Constants of the hand-derived gradient, float32.

    Attributes
    ----------
    target, target_bias : (B, C, 9), (B,)
        The kernel of each image's own map.
    seen : tuple of int
        Side of what the next layer reads: of the image, then of each pooled layer.
    first, first_bias : (16, 4 × maps), (4 × maps,); None for a single layer
        Four shifted copies of each kernel, place in the pooling window before map.
    middle : list of (weights (O, I, 3, 3), bias (O,))
        The layers between the first and the last.
    """

    target: Floats
    target_bias: Floats
    seen: tuple[int, ...]
    first: Floats | None
    first_bias: Floats | None
    middle: list[tuple[Floats, Floats]]


def fits(stack: Stack) -> bool:
    """Tell whether a stack is of the shipped kind, as small as the scripts were written for."""
    return stack.input_shape[0] == 1 and all(
        layer.weights.shape[2:] == (3, 3)
        and layer.stride == (1, 1)
        and not any(layer.pads)
        and layer.activation.kind == "relu"
        and (
            layer is stack.layers[-1]
            or (layer.pool is not None and (layer.pool.kind, layer.pool.kernel) == ("max", (2, 2)))
        )
        for layer in stack.layers
    )


def plan(task: Task) -> Plan:
    """The constants for one task."""
    *lower, last = task.stack.layers
    seen = [last.output_shape[1] + 2]
    for _ in lower:
        seen.insert(0, 2 * seen[0] + 2)
    own = last.weights[task.targets]
    first = first_bias = None
    if lower:
        first, first_bias = _with_pooling(lower[0].weights), np.tile(lower[0].bias, 4)
    return Plan(
        target=np.ascontiguousarray(own.reshape(len(own), own.shape[1], 9)),
        target_bias=last.bias[task.targets],
        seen=tuple(seen),
        first=first,
        first_bias=first_bias,
        middle=[(layer.weights, layer.bias) for layer in lower[1:]],
    )


def _with_pooling(weights: Floats) -> Floats:
    maps = len(weights)
    shifted = np.zeros((4, 4, 2, 2, maps), np.float32)  # pixel y, x; place y, x; map
    for y in range(2):
        for x in range(2):
            shifted[y : y + 3, x : x + 3, y, x] = weights[:, 0].transpose(1, 2, 0)
    return shifted.reshape(16, 4 * maps)
