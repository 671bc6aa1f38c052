"""One operator, one function: how a gradient goes back through it.

Each function takes a node in its place (`pyoip.gradient.tape.At`), writes the gradients by the
node's inputs, and enters itself in the table by `operator`. A newcomer adds an operator by one
such function, and by one line in the table of ``tests/test_operators.py``.
"""

from . import (
    activation,
    averages,
    convolution,
    elementwise,
    matrix,
    movement,
    normalisation,
    pooling,
    quantisation,
    reduction,
    resize,
)

__all__ = [
    "activation",
    "averages",
    "convolution",
    "elementwise",
    "matrix",
    "movement",
    "normalisation",
    "pooling",
    "quantisation",
    "reduction",
    "resize",
]
