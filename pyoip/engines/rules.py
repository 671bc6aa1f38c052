"""The decisions of an ascent for many images at once, on numbers that a device hands out.

They are those of `pyoip.reference.ascend_one`, written for a batch of images that began together:
which image is the best so far, when a step size halves, why an ascent ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..reference import CONVERGED, QUIET_WINDOWS, STEPS, ZERO_GRADIENT
from ..settings import Settings
from .base import Ascents, Floats


@dataclass(frozen=True, eq=False)
class Seen:
    """What one evaluation says of each image, (B,) each.

    `merit` is what counts for the best image; `slope` the largest absolute value of the gradient.
    """

    activation: Floats
    preactivation: Floats
    merit: Floats
    slope: Floats


class Batch:
    """The ascents that are still running, and where their outcome goes.

    Parameters
    ----------
    out : Ascents
        Rows of all ascents, filled in as they go.
    rows : (B,) int
        Those of this batch.
    sizes : (B,) float32
        First step sizes.
    settings : Settings
    gates : bool
        The activation function can put a map to sleep.
    """

    def __init__(
        self,
        out: Ascents,
        rows: NDArray[np.intp],
        sizes: Floats,
        settings: Settings,
        *,
        gates: bool,
    ) -> None:
        self.out, self.rows, self.settings, self.gates = out, rows, settings, gates
        self.size = sizes.astype(np.float64)
        self.best = np.full(len(rows), -np.inf)
        self.mark = np.full(len(rows), -np.inf)
        self.quiet = np.zeros(len(rows), np.int64)
        self.since = 0
        out.woke[rows] = -1

    def see(self, t: int, seen: Seen) -> NDArray[np.bool_]:
        """Take what step `t` shows; return which ascents go on."""
        out, s, article = self.out, self.settings, self.settings.method == "article"
        linear = s.objective == "preactivation"
        out.history[self.rows, t] = seen.preactivation if linear else seen.activation
        awake = ~((seen.activation <= 0) & self.gates)
        out.woke[self.rows[awake & (out.woke[self.rows] < 0)]] = t
        merit = seen.merit.astype(np.float64)
        better = merit > self.best
        self.best = np.where(better, merit, self.best)
        out.activations[self.rows[better]] = seen.activation[better]
        out.preactivations[self.rows[better]] = seen.preactivation[better]
        out.steps[self.rows] = t
        stop = np.full(len(self.rows), STEPS, np.uint8)
        if t == 0:
            self.mark = self.best
        elif not article:
            self._window(stop)
        stop[seen.slope == 0] = ZERO_GRADIENT
        out.stops[self.rows] = stop
        going: NDArray[np.bool_] = (stop == STEPS) & (t < s.steps)
        return going

    def _window(self, stop: NDArray[np.uint8]) -> None:
        """At the end of a window of patience, halve step sizes and end what has converged."""
        self.since += 1
        if self.since < max(self.settings.patience, self.settings.smooth):
            return
        small = self.best - self.mark <= self.settings.tolerance * np.abs(self.best)
        self.since, self.mark = 0, self.best
        self.quiet = np.where(small, self.quiet + 1, 0)
        self.size = np.where(small, self.size / 2, self.size)
        stop[self.quiet > QUIET_WINDOWS] = CONVERGED

    def keep(self, on: NDArray[np.intp]) -> None:
        """Go on with some of the ascents."""
        self.rows, self.size, self.best = self.rows[on], self.size[on], self.best[on]
        self.mark, self.quiet = self.mark[on], self.quiet[on]
