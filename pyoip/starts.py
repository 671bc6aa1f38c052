"""Where ascents start: the best candidates of a shared pool, or one's own images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .engines import DrawingEngine, Engine
from .errors import InvalidArgument
from .fluctuations import Fluctuations, described, mixed_images
from .network import Layer, Network
from .reference import constrain
from .result import Result
from .settings import Constraint, Objective, Settings

Floats = NDArray[np.float32]

BLOCK_BYTES = 64 * 2**20  # of images handed to an engine at a time


@dataclass(frozen=True, eq=False)
class Starts:
    """K start images for each of n maps: numbers in the pool, or images of one's own."""

    candidates: NDArray[np.int64]  # (n, K), -1 for one's own
    images: Floats | None = None  # (n or 1, K, C, H, W)


@dataclass(frozen=True, eq=False)
class Job:
    """One call of `pyoip.ascend`, its arguments checked."""

    network: Network
    target: Layer
    maps: NDArray[np.int64]
    engine: Engine
    settings: Settings
    fluctuations: Fluctuations
    threads: int | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image, (C, H, W)."""
        return self.network.input_shape

    @cached_property
    def pixels(self) -> int:
        """Numbers in an image."""
        return int(np.prod(self.shape))

    def pool(self, indices: NDArray[np.integer[Any]]) -> Floats:
        """Candidates by number. One pool serves all maps of all layers (stream 0)."""
        images: Floats = self.pools(indices, [self.fluctuations])[0]
        return images

    def pools(
        self,
        indices: NDArray[np.integer[Any]],
        mixes: Sequence[Fluctuations],
        out: Floats | None = None,
    ) -> Floats:
        """Candidates by number in other fluctuations than its own, (mixes, count, C, H, W)."""
        return self._drawn(indices, mixes, 0, self.settings.constraint, out)

    def _drawn(
        self,
        indices: NDArray[np.integer[Any]],
        mixes: Sequence[Fluctuations],
        stream: int,
        rule: Constraint | str,
        out: Floats | None = None,
    ) -> Floats:
        engine = self.engine
        if isinstance(engine, DrawingEngine):
            told = [self._told(mix, stream, rule) for mix in mixes]
            return np.stack([engine.start_images(indices, mix) for mix in told], out=out)
        return mixed_images(
            self.shape,
            mixes,
            indices,
            seed=self.settings.seed,
            stream=stream,
            constraint=rule,
            threads=self.threads,
            out=out,
        )

    def _told(self, mix: Fluctuations, stream: int, rule: Constraint | str) -> dict[str, Any]:
        """A pool of one mix, for an engine that draws."""
        seed = self.settings.seed
        return described(self.shape, [mix], seed=seed, stream=stream, constraint=rule)

    def constrained(self, images: ArrayLike) -> Floats:
        """Images (count, C, H, W), each brought to the constraint."""
        whole = np.asarray(images, np.float64).reshape(-1, *self.shape)
        rule = self.settings.constraint
        out = np.empty(whole.shape, np.float32)
        for i, image in enumerate(whole):
            out[i] = constrain(rule, image)
        return out

    def perturbations(self, number: int, count: int) -> Floats:
        """Images of unit deviation for a round of kicks, the same for all maps (stream 1)."""
        numbers = np.arange((number - 1) * count, number * count)
        images: Floats = self._drawn(numbers, [self.fluctuations], 1, "standardize")[0]
        return images

    def best_candidates(self) -> Starts:
        """Each map's best candidates; by preactivation where none activates it."""
        best = self._ranked(self.settings.objective, self.maps)
        if self.settings.objective == "activation":
            silent = np.flatnonzero(best.scores[:, 0] <= 0)
            if len(silent):
                again = self._ranked("preactivation", self.maps[silent])
                best.numbers[silent] = again.numbers
        return Starts(best.numbers)

    def _ranked(self, objective: Objective, maps: NDArray[np.int64]) -> _Ranking:
        """The best `trials` candidates of each map, the earlier of equal ones first."""
        block = max(1, BLOCK_BYTES // (4 * self.pixels))
        ranking = _Ranking(len(maps), max(self.settings.trials, self.settings.starts))
        for first in range(0, self.settings.candidates, block):
            numbers = np.arange(first, min(first + block, self.settings.candidates))
            ranking.add(numbers, self._scores(numbers, objective)[:, maps])
        return ranking

    def _scores(self, numbers: NDArray[np.int64], objective: Objective) -> Floats:
        """Of candidates by number for all maps of the layer, (count, maps)."""
        if isinstance(self.engine, DrawingEngine):
            mix = self._told(self.fluctuations, 0, self.settings.constraint)
            return self.engine.score_starts(numbers, mix, objective)
        return self.engine.score(self.pool(numbers), objective)

    def own_starts(self, start: ArrayLike | Result) -> Starts:
        """Check and arrange one's own start images, or the OIPs of an earlier result."""
        if isinstance(start, Result):
            images = self._continued(start)[:, None]
        else:
            images = self._arranged(as_floats("start", self.network.planes(start)))
        deviation = images.astype(np.float64).reshape(-1, self.pixels).std(axis=1)
        if self.settings.constraint.kind == "standardize" and not (deviation > 0).all():
            raise InvalidArgument(
                "start: an image of one grey value cannot be standardised; must vary"
            )
        own = np.full((len(self.maps), images.shape[1]), -1, np.int64)
        return Starts(own, self.constrained(images).reshape(images.shape))

    def _continued(self, earlier: Result) -> Floats:
        rows = {number: i for i, number in enumerate(earlier.maps.tolist())}
        missing = [number for number in self.maps.tolist() if number not in rows]
        if earlier.layer != self.target.number or earlier.images.shape[1:] != self.shape:
            raise InvalidArgument(
                f"start: a result of layer {earlier.layer} with images {earlier.images.shape[1:]}; "
                f"must be of layer {self.target.number} with images {self.shape}"
            )
        if missing:
            raise InvalidArgument(
                f"start: the earlier result has no map {missing[0]}; its maps are {sorted(rows)}"
            )
        return np.asarray(earlier.images[[rows[n] for n in self.maps.tolist()]], np.float32)

    def _arranged(self, images: Floats) -> Floats:
        if images.ndim == 2:
            images = images[None]
        if images.ndim == 3:
            images = images[None]
        if images.ndim != 4 or images.shape[1:] != self.shape or not len(images):
            raise InvalidArgument(
                f"start of shape {images.shape}: must be {self.shape}, or "
                f"({len(self.maps)}, {', '.join(map(str, self.shape))}) for one image per map"
            )
        if len(self.maps) == 1:
            return images[None]
        if len(images) not in (1, len(self.maps)):
            raise InvalidArgument(
                f"start: {len(images)} images for {len(self.maps)} maps; must be 1 or as many"
            )
        return images[:, None]

    def real_maxima(self, compare: str | ArrayLike | None) -> Floats:
        """What real images reach, (n,); NaN where unknown."""
        unknown = np.full(len(self.maps), np.nan, np.float32)
        rule, objective = self.settings.constraint, self.settings.objective
        if compare is None:
            return unknown
        if isinstance(compare, str):
            if compare != "auto":
                raise InvalidArgument(f"compare={compare!r}: must be 'auto', real images or None")
            return known_maxima(self.network, self.target, rule, objective)[self.maps]
        images = as_floats("compare", self.network.planes(compare))
        if images.ndim != 4 or images.shape[1:] != self.shape or not len(images):
            raise InvalidArgument(
                f"compare: images of shape {images.shape}; must be (count, "
                f"{', '.join(map(str, self.shape))})"
            )
        scores = self.engine.score(self.constrained(images), objective)
        best: Floats = scores.max(axis=0)[self.maps]
        return best


def known_maxima(network: Network, target: Layer, rule: Constraint, objective: Objective) -> Floats:
    """What real images reach by the model's metadata, all maps of a layer; NaN where unknown."""
    maxima = None
    if rule.kind == "standardize" or (rule.low, rule.high) == (0.0, 1.0):
        maxima = network.real_maxima(target.number, rule.kind, objective)
    return np.full(target.maps, np.nan, np.float32) if maxima is None else maxima


def as_floats(name: str, values: Any) -> Floats:
    """`values` as float32, all finite; or `InvalidArgument`."""
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "fiub":
        raise InvalidArgument(f"{name}: holds no real numbers; must be an array of finite numbers")
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32)
    if not np.isfinite(floats).all():
        raise InvalidArgument(f"{name}: holds NaN, infinite or huge pixels; all must be finite")
    return floats


class _Ranking:
    """The best K of a stream of scores, for each of n maps."""

    def __init__(self, maps: int, keep: int) -> None:
        self._keep = keep
        self.scores = np.empty((maps, 0), np.float32)
        self.numbers = np.empty((maps, 0), np.int64)

    def add(self, numbers: NDArray[np.int64], scores: Floats) -> None:
        """Take scores (len(numbers), maps); numbers only ever rise, so ties keep the earlier."""
        if self.scores.shape[1] == self._keep:  # few of many images are among the best of any map
            better = (scores > self.scores[:, -1]).any(axis=1)
            numbers, scores = numbers[better], scores[better]
        all_scores = np.concatenate([self.scores, scores.T], axis=1)
        new = np.broadcast_to(numbers, (len(self.numbers), len(numbers)))
        all_numbers = np.concatenate([self.numbers, new], axis=1)
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, : self._keep]
        self.scores = np.take_along_axis(all_scores, order, axis=1)
        self.numbers = np.take_along_axis(all_numbers, order, axis=1)
