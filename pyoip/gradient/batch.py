"""Along which axis the images of a tensor lie, operator by operator.

A network is looked at with the batch that it was exported with, often one image. What is written
takes any number of images. So each operator says where the images of its result lie, given where
those of its inputs do, and refuses what would mix them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..graph.node import Shape
from .tape import At, Unfit

Rule = Callable[[At], int | None]
"""Returns the axis of a result; None where the values do not depend on the image after all."""


class Mixed(Unfit):
    """An operator that mixes the images of a batch, or that needs them at another axis."""


def aligned(at: At) -> int:
    """Broadcast position by position: images lie on the same axis counted from the back."""
    places = [i for i in range(len(at.node.inputs)) if at.has(i)]
    axes = {at.batch(i) - len(at.shape(i)) for i in places if at.wants(i)}
    if len(axes) != 1:
        raise Mixed("holds the images along different axes of its inputs")
    axis = axes.pop()
    if len({at.shape(i)[axis] for i in places if at.wants(i)}) > 1:
        raise Mixed("holds different numbers of rows for each image in its inputs")
    for i in places:
        if not at.wants(i) and len(at.shape(i)) >= -axis and at.shape(i)[axis] != 1:
            raise Mixed("has a constant with a value of its own for each image of a batch")
    return axis + len(at.out_shape())


def ahead(at: At) -> int:
    """Return what lies before the images along their axis, in which all inputs must agree."""
    counts = {at.tape.ahead.get(n, 1) for i, n in enumerate(at.node.inputs) if at.wants(i)}
    if len(counts) > 1:
        raise Mixed("holds the images in different orders in its inputs")
    return counts.pop()


def leading(at: At) -> int:
    """Images must come first, as for convolutions and poolings, and all else be constant."""
    if at.batch() != 0:
        raise Mixed("takes what is not its first axis for the images of a batch")
    if any(at.wants(i) for i in range(1, len(at.node.inputs))):
        raise Mixed("has weights that depend on the image")
    return 0


def apart(at: At, axes: Sequence[int]) -> int:
    """Images must not lie along `axes`, which the operator mixes; the axes stay as they are."""
    if at.batch() in [axis % len(at.shape()) for axis in axes]:
        raise Mixed("mixes the images of a batch")
    return at.batch()


def moved(before: Shape, axis: int, ahead: int, after: Shape, images: int) -> tuple[int, int]:
    """Return where the images lie after a reshape, which keeps the order of all values.

    An axis of the result holds them if as many values lie before it as before the images, and if
    it can be shared out among the network's own number of `images`; what belongs to an image may be
    split or joined. Of several such axes, as in (1, 1, 8), one that holds nothing else is taken.
    Where none begins with them, or only the last, where features are, one may hold them all the
    same: (L, N, C) becomes (L · N, C).

    Returns
    -------
    axis, ahead : int
        `ahead` counts what lies along the axis before the images: L in the example, else 1.
    """
    first = math.prod(before[:axis]) * ahead
    found = []
    for place, size in enumerate(after):
        inside, rest = divmod(first, math.prod(after[:place]) or 1)
        if not rest and inside and size % (inside * images) == 0:
            features = size != images and place == len(after) - 1 and axis < len(before) - 1
            found.append((features, inside, size != images, place != axis, place))
    if not found:
        change = f"{list(before)} to {list(after)}"
        raise Mixed(f"reshapes {change}, which mixes the images of a batch")
    _, inside, _, _, place = min(found)
    return place, inside
