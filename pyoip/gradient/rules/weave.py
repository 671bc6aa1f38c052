"""Parts laid between one another: what strides took apart, put together again.

Copies by Concat, along one axis after the other, take a third of the time of a Transpose or a
DepthToSpace in ONNX Runtime.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..tape import Tape


def weave(tape: Tape, parts: Sequence[str], shape: Sequence[int], axis: int) -> str:
    """Write the values of all parts in turn: part 0's first along `axis`, part 1's first, ….

    Parameters
    ----------
    tape : Tape
    parts : sequence of str
        Names of tensors of the same shape.
    shape : sequence of int
        Theirs; -1 in front for the images.
    axis : int
    """
    if len(parts) == 1:
        return parts[0]
    tail = math.prod(shape[axis + 1 :])
    columns = [tape.emit("Reshape", part, [-1, 1, tail]) for part in parts]
    wide = [*shape[:axis], shape[axis] * len(parts), *shape[axis + 1 :]]
    return tape.emit("Reshape", tape.emit("Concat", *columns, axis=1), wide)


def to_space(tape: Tape, x: str, channels: int, grid: Sequence[int], block: Sequence[int]) -> str:
    """Write (B, columns · rows · channels, h, w) as (B, channels, h · rows, w · columns).

    `grid` is (h, w) and `block` is (rows, columns).
    """
    rows, columns = block
    high, wide = grid
    parts = _split(tape, x, columns)
    x = weave(tape, parts, [-1, rows * channels, high, wide], 3)
    parts = _split(tape, x, rows)
    return weave(tape, parts, [-1, channels, high, wide * columns], 2)


def _split(tape: Tape, x: str, count: int) -> list[str]:
    if count == 1:
        return [x]
    return tape.emit_all("Split", x, outputs=count, axis=1, num_outputs=count)
