"""What a line of a table of operators says; see ``test_operators.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]
Truth = Callable[..., torch.Tensor]


def tied(x: Array) -> Array:
    """Few values, and in the first image one."""
    return np.concatenate([np.full_like(x[:1], -0.5), x[1:].round()])


@dataclass(frozen=True)
class Case:
    """One line of the table.

    `nodes` lead from ``x`` to ``y``; `truth` takes x and the constants as float64 tensors, None
    asks for finite differences; `shape` is (C, H, W); `constants` are shapes, filled with normal
    values, or arrays; `opset` is the one that the network is saved in; `positive` makes x so, and
    `change` makes of normal values what x is to be.
    """

    nodes: str
    truth: Truth | None = None
    shape: tuple[int, int, int] = (2, 5, 6)
    constants: dict[str, Any] = field(default_factory=dict)
    opset: int = 18
    positive: bool = False
    change: Callable[[Array], Array] = np.asarray

    def __str__(self) -> str:
        return f"{self.nodes} @{self.opset}{' ties' * (self.change is tied)}"


def positive(*shape: int) -> Array:
    """Constants that may stand below a fraction or under a root."""
    return np.random.default_rng(3).uniform(0.5, 2, shape).astype(np.float32)
