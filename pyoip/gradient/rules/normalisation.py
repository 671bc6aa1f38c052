"""Normalisations: by statistics of training, or by those of the image itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..batch import Mixed, aligned, apart, leading
from ..operators import copied, operator
from ..tape import At


def _along_channels(at: At, index: int, repeats: int = 1) -> str:
    """Write input `index`, one value per channel, with axes of length 1 behind it."""
    shape = [-1, *[1] * (len(at.shape()) - 2)]
    array = at.constant(index)
    if array is not None:
        return at.tape.constant(np.repeat(array.astype(np.float32), repeats).reshape(shape))
    values = at.x(index)
    if repeats > 1:
        values = at.emit("Expand", at.emit("Unsqueeze", values, [1]), [1, repeats])
    return at.tape.emit("Reshape", values, shape)


# --- by statistics of training ---------------------------------------------------------------


def _inferring(at: At) -> int:
    if at.get("training_mode", 0):
        raise Mixed("is in training mode, which mixes the images of a batch")
    return leading(at)


@operator("BatchNormalization", batch=_inferring)
def batch_normalization(at: At) -> list[str | None]:
    gain, variance = at.constant(1), at.constant(4)
    if gain is not None and variance is not None:
        deviation = np.sqrt(variance.astype(np.float64) + _epsilon(at))
        shape = [-1, *[1] * (len(at.shape()) - 2)]
        return [at.emit("Mul", at.grad, (gain / deviation).astype(np.float32).reshape(shape))]
    spread = at.emit("Sqrt", at.emit("Add", _along_channels(at, 4), _epsilon(at)))
    return [at.emit("Mul", at.grad, at.emit("Div", _along_channels(at, 1), spread))]


def _epsilon(at: At) -> float:
    return float(at.get("epsilon", 1e-5))


# --- by the image's own mean and variance ----------------------------------------------------


def _mean(at: At, value: str, axes: Sequence[int]) -> str:
    return at.tape.emit("ReduceMean", value, list(axes), keepdims=1)


def _standard(at: At, x: str, axes: Sequence[int]) -> tuple[str, str]:
    """Write x with mean 0 and variance 1 over `axes`, and the deviation it was divided by."""
    centred = at.emit("Sub", x, _mean(at, x, axes))
    variance = _mean(at, at.emit("Mul", centred, centred), axes)
    deviation = at.emit("Sqrt", at.emit("Add", variance, _epsilon(at)))
    return at.emit("Div", centred, deviation), deviation


def _back(at: At, grad: str, standard: str, deviation: str, axes: Sequence[int]) -> str:
    """Write the gradient by what was standardised, given the one by the result of it."""
    along = at.emit("Mul", standard, _mean(at, at.emit("Mul", grad, standard), axes))
    rest = at.emit("Sub", at.emit("Sub", grad, _mean(at, grad, axes)), along)
    return at.tape.emit("Div", rest, deviation)


@operator("InstanceNormalization", batch=leading)
def instance_normalization(at: At) -> list[str | None]:
    axes = range(2, len(at.shape()))
    grad = at.emit("Mul", at.grad, _along_channels(at, 1))
    return [_back(at, grad, *_standard(at, at.x(), axes), axes)]


def _in_groups(at: At, value: str) -> str:
    return at.tape.emit("Reshape", value, [0, int(at.get("num_groups", 1)), -1])


def _by_group(at: At) -> list[str]:
    """Write the form of operator set 18, which has been withdrawn, by what it stands for."""
    if at.node.opset >= 21:
        return copied(at)
    inputs = (_in_groups(at, at.x()), at.x(1), at.x(2))
    return [at.like(at.emit("InstanceNormalization", *inputs, epsilon=_epsilon(at)))]


@operator("GroupNormalization", batch=leading, forward=_by_group)
def group_normalization(at: At) -> list[str | None]:
    """Scales came one per group in operator set 18, and come one per channel since 21."""
    repeats = at.shape()[1] // at.get("num_groups", 1) if at.node.opset < 21 else 1
    grad = at.emit("Mul", at.grad, _along_channels(at, 1, repeats))
    standard, deviation = _standard(at, _in_groups(at, at.x()), [2])
    return [at.like(_back(at, _in_groups(at, grad), standard, deviation, [2]))]


def _layer_axes(at: At) -> list[int]:
    return list(range(at.axis(-1), len(at.shape())))


def _within(at: At) -> int:
    apart(at, _layer_axes(at))
    return aligned(at)


@operator("LayerNormalization", batch=_within)
def layer_normalization(at: At) -> list[str | None]:
    axes = _layer_axes(at)
    standard, deviation = _standard(at, at.x(), axes)
    by_x = _back(at, at.emit("Mul", at.grad, at.x(1)), standard, deviation, axes)
    by_scale = at.sum_to(at.emit("Mul", at.grad, standard), 1)
    return [by_x, by_scale, at.sum_to(at.grad, 2) if at.has(2) else None]


@operator("RMSNormalization", batch=_within)
def rms_normalization(at: At) -> list[str | None]:
    """As by layer, but nothing is subtracted."""
    axes = _layer_axes(at)
    square = _mean(at, at.emit("Mul", at.x(), at.x()), axes)
    size = at.emit("Sqrt", at.emit("Add", square, _epsilon(at)))
    standard = at.emit("Div", at.x(), size)
    grad = at.emit("Mul", at.grad, at.x(1))
    along = at.emit("Mul", standard, _mean(at, at.emit("Mul", grad, standard), axes))
    by_x = at.emit("Div", at.emit("Sub", grad, along), size)
    return [by_x, at.sum_to(at.emit("Mul", at.grad, standard), 1)]


def _mvn_axes(at: At) -> list[int]:
    return [axis % len(at.shape()) for axis in at.get("axes", [0, 2, 3])]


@operator("MeanVarianceNormalization", batch=lambda at: apart(at, _mvn_axes(at)))
def mean_variance_normalization(at: At) -> list[str | None]:
    """Divides by the deviation plus 1e-9; where all values are equal, they stay so."""
    axes = _mvn_axes(at)
    centred = at.emit("Sub", at.x(), _mean(at, at.x(), axes))
    deviation = at.emit("Sqrt", _mean(at, at.emit("Mul", centred, centred), axes))
    varies = at.emit("Greater", deviation, 0.0)
    standard = at.emit("Div", centred, at.emit("Where", varies, deviation, 1.0))
    return [_back(at, at.grad, standard, at.emit("Add", deviation, 1e-9), axes)]


# --- by a length -----------------------------------------------------------------------------


@operator("LpNormalization", batch=lambda at: apart(at, [at.axis(-1)]))
def lp_normalization(at: At) -> list[str | None]:
    """0 where all is 0: there the function jumps."""
    axis = at.axis(-1)
    by_sum = at.get("p", 2) == 1
    length = at.emit("ReduceL1" if by_sum else "ReduceL2", at.x(), [axis], keepdims=1)
    along = at.emit("ReduceSum", at.emit("Mul", at.grad, at.y()), [axis], keepdims=1)
    ahead = at.emit("Sign", at.x()) if by_sum else at.y()
    rest = at.emit("Sub", at.grad, at.emit("Mul", ahead, along))
    some = at.emit("Greater", length, 0.0)
    scaled = at.emit("Div", rest, at.emit("Where", some, length, 1.0))
    return [at.emit("Where", some, scaled, 0.0)]


# --- by neighbouring channels ----------------------------------------------------------------


def _over_channels(at: At, value: str, *, back: bool = False) -> str:
    """Write alpha / size times the sum over the channels around each one.

    `back` sums over the channels around which each one lies, which are others where size is even.
    """
    size, channels = int(at.get("size", 1)), at.shape()[1]
    steps = np.arange(channels)[None] - np.arange(channels)[:, None]
    near = (-((size - 1) // 2) <= steps) & (steps <= size // 2)
    band = np.where(near.T if back else near, at.get("alpha", 1e-4) / size, 0).astype(np.float32)
    return at.tape.emit("Conv", value, band.reshape(channels, channels, 1, 1))


def _spelt_out(at: At) -> list[str]:
    """Write x · d^-beta by sums over channels, whose size ONNX Runtime wants to be odd.

    A convolution by 1 x 1 makes the sums: runtimes are quick at it, and slow at pooling channels.
    """
    square = at.emit("Mul", at.x(), at.x())
    d = at.emit("Add", _over_channels(at, square), float(at.get("bias", 1.0)))
    power = at.emit("Pow", d, -float(at.get("beta", 0.75)))
    at.tape.names[at.node.outputs[0] + "/d"] = d
    at.tape.names[at.node.outputs[0] + "/power"] = power
    return [at.emit("Mul", at.x(), power)]


def _four_axes(at: At) -> int:
    if len(at.shape()) != 4:
        raise Mixed(f"normalises a tensor of {len(at.shape())} axes instead of 4")
    return leading(at)


@operator("LRN", batch=_four_axes, forward=_spelt_out)
def local_response_normalization(at: At) -> list[str | None]:
    d, power = (at.tape.names[f"{at.node.outputs[0]}/{name}"] for name in ("d", "power"))
    own = at.emit("Mul", at.grad, power)
    others = at.emit("Div", at.emit("Mul", own, at.x()), d)
    shared = at.emit("Mul", _over_channels(at, others, back=True), at.x())
    return [at.emit("Sub", own, at.emit("Mul", shared, 2 * float(at.get("beta", 0.75))))]
