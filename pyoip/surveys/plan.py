"""What a survey is to do: mixes of length scales, and the pieces that the work falls into.

A *mix* is a setting of the fluctuations: a weight for each length scale, and how often the sum is
smoothed. Every mix draws the same random numbers, so that two of them differ in nothing but their
weights.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ..errors import EngineUnavailable, InvalidArgument
from ..fluctuations import Fluctuations
from ..settings import Constraint, Settings, require, whole

SMOOTHINGS = (0, 1, 2, 4)
LEVELS = (0.0, 1.0)

SCORED_AT_ONCE = 16384  # start images of one piece of work: a fraction of a second
CLIMBED_AT_ONCE = 32  # maps of one piece

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
    for name, given in (("levels", levels), ("smoothings", smoothings)):
        require(np.iterable(given) and len(given) > 0, name, given, "one number or more")
    seen: dict[tuple[float, ...], tuple[float, ...]] = {}
    for weights in itertools.product(levels, repeat=len(scales)):
        if max(weights) > 0:
            seen.setdefault(tuple(round(w / max(weights), 12) for w in weights), weights)
    mixes = [
        Fluctuations(tuple(scales), weights, smoothing)
        for smoothing in smoothings
        for weights in seen.values()
    ]
    require(bool(mixes), "levels", tuple(levels), "numbers of which one is above 0")
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
    whole("count", count, 1, 2**16)
    try:
        from scipy.stats import qmc
    except ImportError:
        raise EngineUnavailable("a Sobol sample takes SciPy: pip install 'pyoip[survey]'") from None
    sequence = qmc.Sobol(len(scales) + 1, scramble=False)
    sequence.fast_forward(1)  # the first point is all zeros: no image at all
    points = sequence.random(count)
    return tuple(
        Fluctuations(
            tuple(scales), tuple(point[:-1].tolist()), smoothings[int(point[-1] * len(smoothings))]
        )
        for point in points
    )


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
    """

    kind: Kind
    mix: int
    first: int
    count: int

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
        """Length scales that any mix has, ascending."""
        return tuple(sorted({scale for mix in self.mixes for scale in mix.scales}))

    def scorings(self, mix: int) -> Iterator[Task]:
        """Pieces that score the start images of a mix."""
        return _pieces("score", mix, self.starts, SCORED_AT_ONCE)

    def climbs(self, mix: int) -> Iterator[Task]:
        """Pieces that climb from the best of them; all scorings of the mix come first."""
        return _pieces("climb", mix, len(self.maps), CLIMBED_AT_ONCE)

    def articles(self) -> Iterator[Task]:
        """Pieces that go the article's way."""
        return _pieces("article", -1, self.article, 1)

    def tasks(self) -> Iterator[Task]:
        """All pieces, in the order in which one machine does them."""
        yield from self.articles()
        for mix in range(len(self.mixes)):
            yield from self.scorings(mix)
            yield from self.climbs(mix)

    def as_texts(self) -> dict[str, str]:
        """Every attribute as JSON, for the store."""
        return {name: json.dumps(value, sort_keys=True) for name, value in asdict(self).items()}

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


def as_mixes(given: Any) -> tuple[Fluctuations, ...]:
    """One or several mixes, checked; the default grid where None.

    Raises
    ------
    InvalidArgument
        Not fluctuations, none at all, or the same twice.
    """
    if given is None:
        return grid()
    one = isinstance(given, Fluctuations)
    mixes: tuple[Any, ...] = (given,) if one else tuple(given) if _several(given) else ()
    rule = "one or more pyoip.Fluctuations, such as pyoip.grid(...) makes"
    require(
        bool(mixes) and all(isinstance(mix, Fluctuations) for mix in mixes), "mixes", given, rule
    )
    if len(set(mixes)) < len(mixes):
        twice = next(mix for mix in mixes if mixes.count(mix) > 1)
        raise InvalidArgument(f"mixes: {describe(twice)} twice; each must be there once")
    return mixes


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


def shares(mix: Fluctuations, scales: Sequence[float]) -> list[float]:
    """What each of `scales` contributes to the variance of a mix; 1 in all.

    Examples
    --------
    >>> shares(Fluctuations((1, 4), (1, 1)), (1, 2, 4))
    [0.5, 0.0, 0.5]
    """
    of = dict.fromkeys(scales, 0.0)
    for scale, weight in zip(mix.scales, mix.weights, strict=True):
        of[scale] += weight**2
    total = sum(of.values())
    return [value / total for value in of.values()]
