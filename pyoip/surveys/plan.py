"""What a survey is to do: mixes of length scales, and the pieces that the work falls into.

A *mix* is a setting of the fluctuations: a weight for each length scale, and how often the sum is
smoothed. Every mix draws the same random numbers, so that two of them differ in nothing but their
weights, and a piece that scores start images draws them once for several mixes.

A piece costs some time of its own, so that one has about as many ascents as a moment allows.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineUnavailable, InvalidArgument
from ..fluctuations import Fluctuations, check_mix, start_images
from ..settings import Constraint, Settings, require, whole

SMOOTHINGS = (0, 1, 2, 4)
LEVELS = (0.0, 1.0)

SCORED_AT_ONCE = 16384  # start images of one piece of work, of all its mixes; fewer of large ones
SCORED_LEAST = 64  # of each of its mixes
MIXES_AT_ONCE = 64  # of one piece: all of the default grid, which build on one another
CLIMBED_AT_ONCE = 128  # pairs of map and mix of one piece; fewer where images are large
SCORED_PIXELS = 2**25
CLIMBED_PIXELS = 2**22  # start images of all its ascents
MOST_MIXES = 2**16

Kind = Literal["article", "score", "climb"]


def grid(
    scales: Sequence[float] = Fluctuations.scales,
    levels: Sequence[float] = LEVELS,
    smoothings: Sequence[int] = SMOOTHINGS,
) -> tuple[Fluctuations, ...]:
    """Return every mix of weights among `levels`, times every smoothing.

    Weights that differ by a factor alone make the same images and are taken once. The default is
    15 mixes of four scales (each in or out) times 4 smoothings: 60.

    Parameters
    ----------
    scales : sequence of float
        Length scales in pixels.
    levels : sequence of float
        Weights that a scale may have, 0 or more.
    smoothings : sequence of int
        Passes of a 3×3 blur.

    Examples
    --------
    >>> len(grid()), len(grid(scales=(1, 4), levels=(0, 0.5, 1), smoothings=(0,)))
    (60, 5)
    """
    scales, levels = _numbers("scales", scales), _numbers("levels", levels)
    passes = _numbers("smoothings", smoothings)
    count = len(levels) ** len(scales) * len(passes)
    require(
        count <= MOST_MIXES,
        "levels",
        levels,
        f"so few that there are {MOST_MIXES} mixes, not {count}",
    )
    seen: dict[tuple[float, ...], tuple[float, ...]] = {}
    for weights in itertools.product(levels, repeat=len(scales)):
        if max(weights) > 0:
            seen.setdefault(tuple(round(w / max(weights), 12) for w in weights), weights)
    mixes = [
        Fluctuations(scales, weights, smoothing)
        for smoothing in passes
        for weights in seen.values()
    ]
    require(bool(mixes), "levels", levels, "numbers of which one is above 0")
    return tuple(mixes)


def sobol(
    count: int,
    scales: Sequence[float] = Fluctuations.scales,
    smoothings: Sequence[int] = SMOOTHINGS,
) -> tuple[Fluctuations, ...]:
    """Return mixes whose weights fill (0, 1) evenly: points of the Sobol sequence.

    Parameters
    ----------
    count : int
        1 … 65536.
    scales, smoothings
        See `grid`; the smoothing is one more dimension of the sequence.

    Raises
    ------
    EngineUnavailable
        SciPy is not installed.

    Examples
    --------
    >>> mixes = sobol(8)  # doctest: +SKIP
    """
    whole("count", count, 1, MOST_MIXES)
    scales, passes = _numbers("scales", scales), _numbers("smoothings", smoothings)
    try:
        from scipy.stats import qmc
    except ImportError:
        raise EngineUnavailable("a Sobol sample takes SciPy: pip install 'pyoip[survey]'") from None
    sequence = qmc.Sobol(len(scales) + 1, scramble=False)
    sequence.fast_forward(1)  # the first point is all zeros: no image at all
    points = sequence.random(count)
    return tuple(
        Fluctuations(scales, tuple(point[:-1].tolist()), passes[int(point[-1] * len(passes))])
        for point in points
    )


def _numbers(name: str, given: Any) -> tuple[Any, ...]:
    """One number or more, as they were given."""
    ok = isinstance(given, Iterable) and not isinstance(given, str)
    numbers = tuple(given) if ok else ()
    ok = bool(numbers) and all(isinstance(n, Real) for n in numbers)
    require(ok, name, given, "a sequence of one number or more, as in (1, 2)")
    return numbers


@dataclass(frozen=True, order=True)
class Task:
    """A piece of the work, done and stored as a whole.

    Attributes
    ----------
    kind : {"article", "score", "climb"}
        A start image climbed as the article did, for all maps; start images scored for all maps;
        some maps' best starts of a mix climbed.
    mix : int
        -1 for the article's own fluctuations.
    first, count : int
        Start images by number; of "climb" maps by their place in the plan.
    mixes : int
        How many from `mix` on.
    """

    kind: Kind
    mix: int
    first: int
    count: int
    mixes: int = 1

    @property
    def covered(self) -> range:
        """Numbers of its mixes."""
        return range(self.mix, self.mix + self.mixes)

    @property
    def key(self) -> tuple[str, int, int]:
        """What names it in the store."""
        return (self.kind, self.mix, self.first)


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a survey finds.

    Attributes
    ----------
    network, sha256, scaling : str
        Name and checksum of the model, and how images are scaled for it.
    layer, layer_name : int, str
    maps : tuple of int
    shape : (C, H, W)
        Of an image.
    mixes : tuple of Fluctuations
    starts : int
        Start images scored per mix.
    ascents : int
        Of these, the best for each map that climb to the end.
    article : int
        Start images of the article's way.
    settings : Settings
        Of the ascents.
    engine : str
        As asked for.
    version : str
        Of pyoip.
    """

    network: str
    sha256: str
    scaling: str
    layer: int
    layer_name: str
    maps: tuple[int, ...]
    shape: tuple[int, int, int]
    mixes: tuple[Fluctuations, ...]
    starts: int
    ascents: int
    article: int
    settings: Settings
    engine: str
    version: str

    @property
    def scales(self) -> tuple[float, ...]:
        """Length scales that weigh anything in any mix, ascending."""
        pairs = (pair for mix in self.mixes for pair in zip(mix.scales, mix.weights, strict=True))
        return tuple(sorted({scale for scale, weight in pairs if weight}))

    def groups(self) -> Iterator[range]:
        """Neighbouring mixes of the same scales, which are scored together."""
        together = min(MIXES_AT_ONCE, self._scored_at_once // SCORED_LEAST)
        first = 0
        for _, same in itertools.groupby(self.mixes, lambda mix: mix.scales):
            count = len(list(same))
            yield from _parts(range(first, first + count), together)
            first += count

    @property
    def _scored_at_once(self) -> int:
        most = SCORED_PIXELS // math.prod(self.shape)
        return min(SCORED_AT_ONCE, max(SCORED_LEAST, most))

    def scorings(self, group: range) -> Iterator[Task]:
        """Pieces that score the start images of a group of mixes."""
        for piece in _pieces("score", group[0], self.starts, self._scored_at_once // len(group)):
            yield replace(piece, mixes=len(group))

    def climbs(self, group: range) -> Iterator[Task]:
        """Pieces that climb from the best of them; all scorings of the group come first."""
        pairs = CLIMBED_PIXELS // (math.prod(self.shape) * self.ascents)
        pairs = min(CLIMBED_AT_ONCE, max(1, pairs))
        for part in _parts(group, pairs // len(self.maps)):
            for piece in _pieces("climb", part[0], len(self.maps), pairs):
                yield replace(piece, mixes=len(part))

    def articles(self) -> Iterator[Task]:
        """Pieces that go the article's way."""
        most = max(1, CLIMBED_AT_ONCE // len(self.maps))
        return _pieces("article", -1, self.article, most)

    def tasks(self) -> Iterator[Task]:
        """All pieces, in the order in which one machine does them."""
        yield from self.articles()
        for group in self.groups():
            yield from self.scorings(group)
            yield from self.climbs(group)

    def as_texts(self) -> dict[str, str]:
        """Every attribute as JSON, for the store."""
        values = vars(self).items()
        return {name: json.dumps(value, default=vars, sort_keys=True) for name, value in values}

    @staticmethod
    def from_texts(texts: dict[str, str]) -> Plan:
        """The plan that `as_texts` wrote."""
        values: dict[str, Any] = {name: json.loads(text) for name, text in texts.items()}
        settings = values["settings"]
        settings["constraint"] = Constraint(**settings["constraint"])
        settings["snapshots"] = tuple(settings["snapshots"])
        mixes = tuple(Fluctuations(**mix) for mix in values["mixes"])
        tuples = {name: tuple(values[name]) for name in ("maps", "shape")}
        return Plan(**{**values, **tuples, "mixes": mixes, "settings": Settings(**settings)})


def _pieces(kind: Kind, mix: int, total: int, most: int) -> Iterator[Task]:
    for first in range(0, total, most):
        yield Task(kind, mix, first, min(most, total - first))


def _parts(group: range, most: int) -> Iterator[range]:
    """A group in parts of much the same length, `most` or fewer; 1 where that is 0."""
    count = math.ceil(len(group) / max(1, most))
    for part in range(count):
        yield group[len(group) * part // count : len(group) * (part + 1) // count]


def as_mixes(given: Any, shape: tuple[int, int, int]) -> tuple[Fluctuations, ...]:
    """One or several mixes, checked for images of `shape`.

    The default grid where None, without the scales that put but one cell on such an image.

    Raises
    ------
    InvalidArgument
        Not fluctuations, none at all, the same twice, or one that makes no image vary.
    """
    if given is None:
        return grid(default_scales(shape))
    one = isinstance(given, Fluctuations)
    mixes: tuple[Any, ...] = (given,) if one else tuple(given) if _several(given) else ()
    rule = "one or more pyoip.Fluctuations, such as pyoip.grid(...) makes"
    require(
        bool(mixes) and all(isinstance(mix, Fluctuations) for mix in mixes), "mixes", given, rule
    )
    if len(set(mixes)) < len(mixes):
        twice = next(mix for mix in mixes if mixes.count(mix) > 1)
        raise InvalidArgument(f"mixes: {describe(twice)} twice; each must be there once")
    for mix in mixes:
        check_mix(mix, *shape[1:])
    return mixes


def default_scales(shape: tuple[int, int, int]) -> tuple[float, ...]:
    """Those of `Fluctuations` that put two cells or more on an image."""
    return tuple(s for s in Fluctuations.scales if _varies(s, shape))


def _varies(scale: float, shape: tuple[int, int, int]) -> bool:
    return Fluctuations((scale,), (1.0,)).cells(*shape[1:]) != ((1, 1),)


def _several(given: Any) -> bool:
    return isinstance(given, Iterable) and not isinstance(given, str)


def describe(mix: Fluctuations) -> str:
    """A mix in a few words.

    Examples
    --------
    >>> describe(Fluctuations((1, 2, 4, 9), (1, 0, 0.5, 0), 2))
    '1 px + 0.5 × 4 px, smoothed twice'
    """
    parts = [
        f"{scale:g} px" if weight == 1 else f"{weight:.2g} × {scale:g} px"
        for scale, weight in zip(mix.scales, mix.weights, strict=True)
        if weight
    ]
    times = {0: "", 1: ", smoothed once", 2: ", smoothed twice"}
    return " + ".join(parts) + times.get(mix.smoothing, f", smoothed {mix.smoothing} times")


def shares(mix: Fluctuations, scales: Sequence[float], shape: tuple[int, int, int]) -> list[float]:
    """What each of `scales` contributes to the variance of a mix's images; 1 in all.

    Not the weights squared: coarse grids vary less from pixel to pixel than they do from cell to
    cell, and a blur takes most from the finest.

    Examples
    --------
    >>> smoothed = Fluctuations((1, 4), (1, 1), smoothing=4)
    >>> [round(share, 1) for share in shares(smoothed, (1, 2, 4), (1, 28, 28))]
    [0.1, 0.0, 0.9]
    """
    of = dict.fromkeys(scales, 0.0)
    powers = _powers(mix.scales, mix.smoothing, shape)
    for scale, weight, power in zip(mix.scales, mix.weights, powers, strict=True):
        of[scale] = of.get(scale, 0.0) + weight**2 * power
    total = sum(of.values())
    return [of[scale] / total for scale in scales]


@lru_cache(maxsize=256)
def _powers(
    scales: tuple[float, ...], smoothing: int, shape: tuple[int, int, int]
) -> tuple[float, ...]:
    """Variance of each scale alone, at weight 1, relative to the others.

    A start image is a sum of its scales' images, brought to unit deviation. So one of all scales
    is resolved into those of each: the coefficients are their deviations.
    """
    pixels = math.prod(shape)
    count = max(2, min(64, 2**16 // pixels))

    def drawn(weights: list[float]) -> NDArray[np.float32]:
        mix = Fluctuations(scales, tuple(weights), smoothing)
        return start_images(count, shape, mix).reshape(count, pixels)

    varied = [i for i, scale in enumerate(scales) if _varies(scale, shape)]
    alone = [drawn([float(k == i) for k in range(len(scales))]) for i in varied]
    together = drawn([float(k in varied) for k in range(len(scales))])
    solved = [
        np.linalg.lstsq(np.stack(parts, axis=1), image, rcond=None)[0]
        for image, *parts in zip(together, *alone, strict=True)
    ]
    powers = dict(zip(varied, np.square(solved).mean(axis=0).tolist(), strict=True))
    return tuple(powers.get(i, 0.0) for i in range(len(scales)))
