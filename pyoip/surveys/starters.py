"""Which start images serve a layer: the smallest set that activates what can be, found greedily."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Piece = tuple[int, int, NDArray[np.bool_]]
"""A mix, the first of its start images, and which of them activates which map (count, maps)."""


@dataclass(frozen=True, eq=False)
class Starter:
    """One start image of the smallest set that serves a layer.

    Attributes
    ----------
    mix, start : int
    maps : tuple of int
        All that it activates.
    new : int
        Of these, those that no earlier one of the set does.
    """

    mix: int
    start: int
    maps: tuple[int, ...]
    new: int


def cover(pieces: Callable[[], Iterable[Piece]], maps: tuple[int, ...]) -> tuple[Starter, ...]:
    """Return the smallest set of start images that activates what can be, found greedily.

    Each is the one that activates the most maps that the ones before it do not; of equal ones
    the earlier mix, then the earlier number.

    Parameters
    ----------
    pieces : callable
        Gives all pieces anew, one by one: together they may not fit into memory.
    maps : tuple of int
    """
    left = np.ones(len(maps), bool)
    found: list[Starter] = []
    while left.any():
        new, mix, start, awake = max(
            (_most(piece, left) for piece in pieces()),
            key=lambda most: most[0],
            default=(0, 0, 0, left),
        )
        if not new:
            break
        served = tuple(np.asarray(maps)[awake].tolist())
        found.append(Starter(mix, start, served, new))
        left &= ~awake
    return tuple(found)


def _most(piece: Piece, left: NDArray[np.bool_]) -> tuple[int, int, int, NDArray[np.bool_]]:
    mix, first, awake = piece
    counts = awake[:, left].sum(axis=1)
    row = int(counts.argmax())
    return int(counts[row]), mix, first + row, awake[row]
