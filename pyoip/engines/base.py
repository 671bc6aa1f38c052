"""What every engine offers, and the shape of what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument
from ..settings import Objective, Settings
from ..stack import Stack

Floats = NDArray[np.float32]
Targets = NDArray[np.int32]
Progress = Callable[[int, int], object]  # (images done, images in all)

# Why an ascent ended: the codes in Ascents.stops.
STOPS = ("steps", "converged", "zero gradient", "interrupted")


@dataclass(frozen=True, eq=False)
class Ascents:
    """The outcome of one ascent per start image.

    Attributes
    ----------
    images : float32 (B, C, H, W)
        The best image of each.
    activations, preactivations : float32 (B,)
        Means over positions, of the best image.
    history : float32 (B, steps + 1)
        The objective at every step, NaN after the end.
    snapshots : float32 (B, S, C, H, W)
    steps : int32 (B,)
        Gradient steps taken.
    woke : int32 (B,)
        Step at which a silent start came alive: 0 alive from the start, -1 never.
    stops : uint8 (B,)
        Index into `STOPS`.
    interrupted : bool
        Ctrl-C came: ascents with that stop are unfinished or (NaN) never begun.
    """

    images: Floats
    activations: Floats
    preactivations: Floats
    history: Floats
    snapshots: Floats
    steps: NDArray[np.int32]
    woke: NDArray[np.int32]
    stops: NDArray[np.uint8]
    interrupted: bool = False


class Engine(Protocol):
    """One stack, ready to compute. Images are float32 (B, C, H, W)."""

    name: ClassVar[str]
    stack: Stack

    def __init__(self, stack: Stack, threads: int | None = None) -> None: ...

    def score(
        self, images: Floats, objective: Objective, progress: Progress | None = None
    ) -> Floats:
        """Objective of every map of the last layer, (B, maps)."""
        ...

    def activations(self, images: Floats, progress: Progress | None = None) -> Floats:
        """Activations of the last layer, (B, maps, h, w)."""
        ...

    def gradient(
        self, images: Floats, targets: Targets, objective: Objective
    ) -> tuple[Floats, Floats]:
        """Mean activation and preactivation (B, 2) of map targets[i], and ∂objective/∂image."""
        ...

    def ascend(
        self,
        starts: Floats,
        targets: Targets,
        settings: Settings,
        progress: Progress | None = None,
        step_sizes: Floats | None = None,
    ) -> Ascents:
        """One whole ascent per start image, towards map targets[i].

        `step_sizes` (B,) takes the place of the settings' one step size.
        """
        ...


def as_images(stack: Stack, images: Any) -> Floats:
    """`images` as contiguous float32 (B, C, H, W) of the stack's input shape."""
    array = np.ascontiguousarray(images, dtype=np.float32)
    if array.shape[1:] != stack.input_shape:
        shape = ", ".join(map(str, stack.input_shape))
        raise InvalidArgument(f"images of shape {array.shape}: must be (count, {shape})")
    if not np.isfinite(array).all():
        raise InvalidArgument("images: hold NaN or infinite pixels; all must be finite")
    return array


def all_step_sizes(starts: Floats, settings: Settings, step_sizes: Floats | None) -> Floats:
    """One step size per start image, (B,)."""
    sizes = settings.step_size if step_sizes is None else step_sizes
    return np.array(np.broadcast_to(np.float32(sizes), len(starts)))
