"""Arithmetic and choices between tensors, position by position."""

from __future__ import annotations

from ..operators import operator
from ..tape import At


@operator("Identity")
def identity(at: At) -> list[str | None]:
    return [at.grad]


@operator("Add")
def add(at: At) -> list[str | None]:
    return [at.sum_to(at.grad, 0), at.sum_to(at.grad, 1)]


@operator("Mul")
def mul(at: At) -> list[str | None]:
    first = at.emit("Mul", at.grad, at.x(1))
    second = at.emit("Mul", at.grad, at.x(0))
    return [at.sum_to(first, 0), at.sum_to(second, 1)]
