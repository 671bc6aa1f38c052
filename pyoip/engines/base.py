"""What every engine offers, and the shape of what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument
from ..settings import Objective, Settings

Floats = NDArray[np.float32]
Targets = NDArray[np.int32]
Image = tuple[int, int, int]
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
    """One layer, ready to compute. Images are float32 (B, C, H, W)."""

    @property
    def name(self) -> str:
        """What `pyoip.engines.for_layer` made it by."""
        ...

    @property
    def saturates(self) -> bool:
        """Whether the layer's activation function becomes so flat that its derivative is 0."""
        ...

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


@runtime_checkable
class DrawingEngine(Engine, Protocol):
    """An engine that draws start images itself, beside where it scores them.

    `fluctuations` are those of `pyoip.fluctuations.described`, of one mix, and `numbers` (B,) whole
    numbers in 0 … 2**64 - 1; the images are, to the bit, those of `pyoip.start_images`.
    """

    def start_images(
        self, numbers: NDArray[np.integer[Any]], fluctuations: Mapping[str, Any]
    ) -> Floats:
        """Start images by number, (B, C, H, W)."""
        ...

    def score_starts(
        self,
        numbers: NDArray[np.integer[Any]],
        fluctuations: Mapping[str, Any],
        objective: Objective,
    ) -> Floats:
        """`Engine.score` of start images, (B, maps)."""
        ...


def as_images(shape: Image, images: Any) -> Floats:
    """`images` as contiguous float32 (B, C, H, W) of the network's (C, H, W)."""
    array = np.ascontiguousarray(images, dtype=np.float32)
    if array.shape[1:] != shape:
        sides = ", ".join(map(str, shape))
        raise InvalidArgument(f"images of shape {array.shape}: must be (count, {sides})")
    if not np.isfinite(array).all():
        raise InvalidArgument("images: hold NaN or infinite pixels; all must be finite")
    return array


def all_step_sizes(starts: Floats, settings: Settings, step_sizes: Floats | None) -> Floats:
    """One step size per start image, (B,)."""
    sizes = settings.step_size if step_sizes is None else step_sizes
    return np.array(np.broadcast_to(np.float32(sizes), len(starts)))


def as_targets(targets: Any, count: int, maps: int) -> Targets:
    """`targets` as one map number for each of `count` images, each below `maps`."""
    array = np.ascontiguousarray(targets, np.int32)
    if array.shape != (count,):
        raise InvalidArgument(
            f"targets of shape {array.shape}: must hold one map for each of {count} images"
        )
    wrong = array[(array < 0) | (array >= maps)]
    if len(wrong):
        raise InvalidArgument(f"target {wrong[0]}: must be a map in 0 … {maps - 1}")
    return array


def report(progress: Progress | None, done: int, total: int) -> None:
    """Tell how many images are done."""
    if progress is not None:
        progress(min(done, total), total)


def untouched(starts: Floats, settings: Settings) -> Ascents:
    """Ascents of which none has begun: NaN everywhere."""
    count, shape = len(starts), starts.shape[1:]
    nan = np.float32(np.nan)
    return Ascents(
        images=np.full((count, *shape), nan),
        activations=np.full(count, nan),
        preactivations=np.full(count, nan),
        history=np.full((count, settings.steps + 1), nan),
        snapshots=np.full((count, len(settings.snapshots), *shape), nan),
        steps=np.zeros(count, np.int32),
        woke=np.full(count, -1, np.int32),
        stops=np.full(count, STOPS.index("interrupted"), np.uint8),
    )
