"""One node with what is known of its inputs, as the rules of shapes look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .node import Node, NodeError, Shape


@dataclass(frozen=True)
class Case:
    """One node with what is known of its inputs."""

    node: Node
    shapes: Sequence[Shape]
    constants: Mapping[str, np.ndarray[Any, Any]]

    @property
    def shape(self) -> Shape:
        """Return the shape of the first input."""
        return self.shapes[0]

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute."""
        return self.node.attributes.get(name, default)

    def has_input(self, index: int) -> bool:
        """Tell whether an optional input is there."""
        return len(self.node.inputs) > index and self.node.inputs[index] != ""

    def numbers(self, name: str, index: int) -> list[int]:
        """Return whole numbers that are an attribute or, in later versions, an input.

        Raises
        ------
        Unknown
            The input is computed from the image.
        """
        if not self.has_input(index):
            values = self.get(name, [])
            return list(values) if isinstance(values, list) else [values]
        array = self.constants.get(self.node.inputs[index])
        if array is None:
            raise Unknown
        return [int(value) for value in array.ravel()[:LONGEST]]

    def axis(self, value: int, rank: int) -> int:
        """Return an axis counted from the front."""
        if not -rank <= value < rank:
            raise NodeError(f"axis {value}; must be {-rank}..{rank - 1}")
        return value % rank

    def axes(self, values: Sequence[int], rank: int) -> list[int]:
        """Return different axes counted from the front."""
        found = [self.axis(value, rank) for value in values]
        if len(set(found)) < len(found):
            raise NodeError(f"axes {list(values)}; each must be named once")
        return found


class Unknown(Exception):
    """The shape depends on values that are not constant."""


LONGEST = 4096
"""Longest list of numbers that a shape can depend on."""
