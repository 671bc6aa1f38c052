"""What moves values about without changing them: the gradient moves back."""

from __future__ import annotations

from ..batch import moved
from ..operators import operator
from ..tape import At


def _moved(at: At) -> int:
    return moved(at.shape(), at.batch(), at.out_shape())


def _reshaped(at: At) -> list[str]:
    """Write any reshape with the number of images left open."""
    shape = list(at.out_shape())
    shape[_moved(at)] = -1
    return [at.emit("Reshape", at.x(), shape)]


@operator("Reshape", "Flatten", "Unsqueeze", batch=_moved, forward=_reshaped)
def reshape(at: At) -> list[str | None]:
    return [at.like(at.grad)]


def _permutation(at: At) -> list[int]:
    return list(at.get("perm", range(len(at.shape()))[::-1]))


@operator("Transpose", batch=lambda at: _permutation(at).index(at.batch()))
def transpose(at: At) -> list[str | None]:
    perm = _permutation(at)
    return [at.emit("Transpose", at.grad, perm=[perm.index(i) for i in range(len(perm))])]
