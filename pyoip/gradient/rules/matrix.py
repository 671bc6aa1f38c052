"""Matrix products, where images lie along a batch axis, along rows or along columns."""

from __future__ import annotations

import numpy as np

from ...graph.einsum import Equation, equation
from ...graph.node import Shape
from ..batch import Mixed
from ..operators import operator
from ..tape import At

_MIXED = "is a product that mixes the images of a batch"


def _place(at: At, axes: dict[int, int]) -> int:
    """Return the axis of images in the result, which all inputs must agree on.

    `axes` are counted from the back: input -> where its images come to lie in the result.
    """
    if len(set(axes.values())) != 1:
        raise Mixed(_MIXED)
    if len({at.shape(index)[at.batch(index)] for index in axes}) > 1:
        raise Mixed("holds different numbers of rows for each image in its inputs")
    axis = next(iter(axes.values()))
    for index in range(len(at.node.inputs)):
        broadcast = at.has(index) and not at.wants(index) and (axis < -2 or index == 2)
        if broadcast and len(at.shape(index)) >= -axis and at.shape(index)[axis] != 1:
            raise Mixed("has a constant with a value of its own for each image of a batch")
    return axis


# --- Gemm ------------------------------------------------------------------------------------


def _turned(at: At, index: int) -> int:
    return int(at.get("transA" if index == 0 else "transB", 0))


def _gemm_batch(at: At) -> int:
    """Images may lie along the rows of the first matrix or the columns of the second."""
    axes = {}
    for index in (0, 1):
        if at.wants(index):
            if at.batch(index) != index ^ _turned(at, index):
                raise Mixed(_MIXED)
            axes[index] = index - 2
    if not axes:
        raise Mixed("adds what depends on the image to a product that does not")
    if at.wants(2):
        axes[2] = at.batch(2) - len(at.shape(2))
    return _place(at, axes) + 2


@operator("Gemm", batch=_gemm_batch)
def gemm(at: At) -> list[str | None]:
    a, b = _turned(at, 0), _turned(at, 1)
    grads: list[str | None] = [
        _product(at, (at.grad, 0), (at.x(1), 1 - b), turned=a),
        _product(at, (at.x(0), 1 - a), (at.grad, 0), turned=b),
    ]
    if at.has(2):
        grads.append(at.sum_to(at.emit("Mul", at.grad, float(at.get("beta", 1.0))), 2))
    return grads


def _product(at: At, first: tuple[str, int], second: tuple[str, int], *, turned: int) -> str:
    """Write alpha times a product of matrices, each with whether to turn it, or that turned."""
    if turned:
        first, second = (second[0], 1 - second[1]), (first[0], 1 - first[1])
    alpha = float(at.get("alpha", 1.0))
    return at.tape.emit("Gemm", first[0], second[0], alpha=alpha, transA=first[1], transB=second[1])


# --- MatMul ----------------------------------------------------------------------------------


def _matrices(at: At) -> list[Shape]:
    """Return the shapes of both inputs, a vector as the row or column that it stands for."""
    first, second = at.shape(0), at.shape(1)
    return [first if len(first) > 1 else (1, *first), second if len(second) > 1 else (*second, 1)]


def _matmul_batch(at: At) -> int:
    """Images may lie along an axis of batches, the first's rows or the second's columns."""
    axes = {}
    for index, summed in ((0, -1), (1, -2)):
        if at.wants(index):
            axes[index] = at.batch(index) - len(at.shape(index))
            if len(at.shape(index)) == 1 or axes[index] == summed:
                raise Mixed(_MIXED)
    axis = _place(at, axes)
    row, column = (len(at.shape(index)) == 1 for index in (0, 1))
    return len(at.out_shape()) + row + column + axis - (row and axis == -1)


def _transposed(at: At, index: int) -> str:
    """Write an input with its last two axes exchanged, a vector as the matrix it stands for."""
    shape = _matrices(at)[index]
    array = at.constant(index)
    if array is not None:
        return at.tape.constant(np.swapaxes(array.reshape(shape), -1, -2))
    value = at.x(index)
    if len(at.shape(index)) == 1:
        return at.tape.emit("Unsqueeze", value, [1 - index])
    order = list(range(len(shape)))
    return at.tape.emit("Transpose", value, perm=[*order[:-2], order[-1], order[-2]])


@operator("MatMul", batch=_matmul_batch)
def matmul(at: At) -> list[str | None]:
    first, second = _matrices(at)
    grad = at.grad
    missing = [axis for index, axis in ((0, -2), (1, -1)) if len(at.shape(index)) == 1]
    if missing:
        grad = at.emit("Unsqueeze", grad, missing)
    common = np.broadcast_shapes(first[:-2], second[:-2])
    by_first = at.emit("MatMul", grad, _transposed(at, 1))
    by_second = at.emit("MatMul", _transposed(at, 0), grad)
    return [
        at.tape.sum_from(by_first, (*common, *first[-2:]), at.node.inputs[0]),
        at.tape.sum_from(by_second, (*common, *second[-2:]), at.node.inputs[1]),
    ]


# --- Einsum ----------------------------------------------------------------------------------


def _equation(at: At) -> Equation:
    ranks = [len(at.shape(index)) for index in range(len(at.node.inputs))]
    return equation(str(at.get("equation", "")), ranks)


def _einsum_batch(at: At) -> int:
    """Images lie along one letter, which the result has and no constant has more than once."""
    found = _equation(at)
    letters = {i: found.inputs[i][at.batch(i)] for i in range(len(found.inputs)) if at.wants(i)}
    letter = min(letters.values())
    if len(set(letters.values())) > 1 or letter not in found.result:
        raise Mixed(_MIXED)
    if any(len(set(term)) < len(term) for term in (*found.inputs, found.result)):
        raise Mixed("takes diagonals, which is not known here")
    sizes = {at.shape(i)[at.batch(i)] for i in letters}
    if len(sizes) > 1:
        raise Mixed("holds different numbers of rows for each image in its inputs")
    for i, term in enumerate(found.inputs):
        if i not in letters and letter in term and at.shape(i)[term.index(letter)] != 1:
            raise Mixed("has a constant with a value of its own for each image of a batch")
    return found.result.index(letter)


@operator("Einsum", batch=_einsum_batch)
def einsum(at: At) -> list[str | None]:
    """By one input, the product of the gradient with all others.

    Letters that only this input has were summed: the gradient is the same all along them.
    """
    found = _equation(at)
    grads: list[str | None] = []
    for i, term in enumerate(found.inputs):
        others = [k for k in range(len(found.inputs)) if k != i]
        terms = [found.result, *(found.inputs[k] for k in others)]
        there = "".join(letter for letter in term if any(letter in t for t in terms))
        back = f"{','.join(terms)}->{there}"
        value = at.emit("Einsum", at.grad, *(at.x(k) for k in others), equation=back)
        grads.append(_spread(at, value, i, there) if at.wants(i) else None)
    return grads


def _spread(at: At, value: str, index: int, letters: str) -> str:
    """Repeat a gradient with the axes `letters` along those that input `index` has besides."""
    term = _equation(at).inputs[index]
    missing = [axis for axis, letter in enumerate(term) if letter not in letters]
    if not missing:
        return at.tape.sum_from(value, _wide(at, term), at.node.inputs[index])
    shape = [n if axis in missing else 1 for axis, n in enumerate(at.shape(index))]
    value = at.emit("Expand", at.emit("Unsqueeze", value, missing), shape)
    return at.tape.sum_from(value, _wide(at, term), at.node.inputs[index])


def _wide(at: At, term: str) -> Shape:
    """Return the sizes of an input's letters once all that is 1 was repeated."""
    sizes = _equation(at).sizes([at.shape(index) for index in range(len(at.node.inputs))])
    return tuple(sizes[letter] for letter in term)
