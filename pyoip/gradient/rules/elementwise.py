"""Arithmetic and choices between tensors, position by position."""

from __future__ import annotations

from ...graph.node import Node
from ..batch import Mixed, aligned
from ..operators import operator
from ..tape import At, Tape

_TRUTHS = ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Not", "Xor")


# --- arithmetic ------------------------------------------------------------------------------


def _to_each(at: At, *parts: str) -> list[str | None]:
    """Sum gradients shaped like the result to the shapes of the inputs that they belong to."""
    return [at.sum_to(part, index) for index, part in enumerate(parts)]


@operator("Add")
def add(at: At) -> list[str | None]:
    return _to_each(at, at.grad, at.grad)


@operator("Sub")
def subtract(at: At) -> list[str | None]:
    return _to_each(at, at.grad, at.emit("Neg", at.grad))


@operator("Mul")
def multiply(at: At) -> list[str | None]:
    return _to_each(at, at.emit("Mul", at.grad, at.x(1)), at.emit("Mul", at.grad, at.x(0)))


@operator("Div")
def divide(at: At) -> list[str | None]:
    share = at.emit("Div", at.grad, at.x(1))
    return _to_each(at, share, at.emit("Neg", at.emit("Mul", share, at.y())))


@operator("Sum")
def total(at: At) -> list[str | None]:
    return _to_each(at, *[at.grad] * len(at.node.inputs))


@operator("Mean")
def mean(at: At) -> list[str | None]:
    share = at.emit("Mul", at.grad, 1.0 / len(at.node.inputs))
    return _to_each(at, *[share] * len(at.node.inputs))


@operator("Max", "Min")
def extreme(at: At) -> list[str | None]:
    """Equal values share the gradient, two of them as in torch."""
    places = range(len(at.node.inputs))
    held = [at.emit("Cast", at.emit("Equal", at.x(i), at.y()), to=1) for i in places]
    share = at.emit("Div", at.grad, at.emit("Sum", *held))
    return _to_each(at, *[at.emit("Mul", share, one) for one in held])


# --- choices ---------------------------------------------------------------------------------


@operator("Where")
def where(at: At) -> list[str | None]:
    chosen = at.emit("Where", at.x(0), at.grad, 0.0)
    other = at.emit("Where", at.x(0), 0.0, at.grad)
    return [None, at.sum_to(chosen, 1), at.sum_to(other, 2)]


@operator(*_TRUTHS)
def truth(_: At) -> list[str | None]:
    return []


# --- what leaves values as they are ----------------------------------------------------------


@operator("Identity")
def identity(at: At) -> list[str | None]:
    return [at.grad]


def _inferring(at: At) -> int:
    training = at.constant(2)
    if at.has(2) and (training is None or training.any()):
        raise Mixed("is in training mode")
    return aligned(at)


@operator("Dropout", batch=_inferring)
def dropout(at: At) -> list[str | None]:
    """The mask, which is the second output, has no gradient."""
    return [at.grads[0]]


@operator("Cast")
def cast(at: At) -> list[str | None]:
    return [] if _whole(at.tape, at.node.outputs[0]) else _to_float(at)


def _kept(at: At) -> int | None:
    """A constant that is brought to the type of a tensor stays a constant."""
    return at.batch() if at.wants(0) else None


@operator("CastLike", batch=_kept)
def cast_like(at: At) -> list[str | None]:
    return [] if _whole(at.tape, at.node.inputs[1]) else _to_float(at)


def _to_float(at: At) -> list[str | None]:
    return [] if _whole(at.tape, at.node.inputs[0]) else [at.grad]


def _whole(tape: Tape, tensor: str) -> bool:
    """Tell whether a tensor holds whole numbers or truths, which no gradient passes."""
    makers = {name: node for node in tape.graph.nodes for name in node.outputs if name}
    constants = tape.graph.constants
    while tensor not in constants and tensor in makers:
        kind = _kind(makers[tensor], tensor)
        if isinstance(kind, bool):
            return kind
        tensor = kind
    return tensor in constants and constants[tensor].dtype.kind in "biu"


def _kind(node: Node, tensor: str) -> bool | str:
    """Tell whether a result of `node` is whole, or name the input whose type it has."""
    if node.op in ("ArgMax", "ArgMin", "IsInf", "IsNaN", "NonZero", "QuantizeLinear", *_TRUTHS):
        return True
    if node.op == "Cast":
        return not node.attributes["to"].endswith(("float16", "float32", "float64"))
    if node.op in ("Dropout", "MaxPool", "TopK") and tensor != node.outputs[0]:
        return True
    if node.op == "DequantizeLinear":
        return False
    return node.inputs[1 if node.op in ("CastLike", "Where") else 0]
