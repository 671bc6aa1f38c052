"""The answers: which scales wake a map, which start images serve a layer, one OIP or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument
from ..settings import real as number_in
from ..settings import whole
from ..summary import ranges
from .likeness import Cluster, mean_correlation, sorted_by_looks
from .plan import Plan, describe, shares
from .starters import Starter, cover
from .store import reading
from .work import bits

Array = NDArray[Any]
Exact = NDArray[np.float64]

CONFIDENCE = 1.96
"""Standard deviations of a normal distribution that hold 95 %."""


@dataclass(frozen=True, eq=False)
class Best:
    """A map's best OIP over all mixes.

    Attributes
    ----------
    map, mix, start : int
        Map, and the mix and start image that led there.
    activation, preactivation : float
    verdict : str
        Of `pyoip.Result.verdicts`, and "missing" where nothing is stored yet.
    alive : float
        Share of all start images of all mixes that activate it.
    """

    map: int
    mix: int
    start: int
    activation: float
    preactivation: float
    verdict: str
    alive: float


@dataclass(frozen=True, eq=False)
class Survey:
    """What a survey has found so far; made by `pyoip.survey` and `pyoip.load_survey`.

    Arrays have a row per mix and a column per map of the plan; NaN, or "" for texts, where a piece
    is not stored yet. Images are read when they are asked for.

    Attributes
    ----------
    path : Path
    plan : Plan
        Network, layer, maps, mixes, settings.
    alive : float64 (mixes, maps)
        Share of the mix's start images that activate the map.
    activations, preactivations : float64 (mixes, maps)
        Of the best OIP.
    verdicts, stops : str (mixes, maps)
    steps, woke, starts : float64 (mixes, maps)
        Steps of its ascent; step at which a silent start came alive, 0 alive at once, -1 never;
        number of the start image that it goes back to.
    real, bounds : float64 (maps,)
        What real images reach by the model's metadata, and the proven bound of the preactivation.
    done, total : int
        Pieces of work stored, and all of them.
    seconds, ascents, images_scored : float, int, int
        Of all sessions: time, ascents made, start images scored.
    """

    path: Path
    plan: Plan
    alive: Exact
    activations: Exact
    preactivations: Exact
    verdicts: NDArray[np.str_]
    stops: NDArray[np.str_]
    steps: Exact
    woke: Exact
    starts: Exact
    real: Exact
    bounds: Exact
    done: int
    total: int
    seconds: float
    ascents: int
    images_scored: int
    _article: Mapping[str, Array] = field(repr=False)
    _kinds: dict[tuple[int, float | None], tuple[Cluster, ...]] = field(
        repr=False, default_factory=dict
    )

    @property
    def maps(self) -> tuple[int, ...]:
        """Numbers of the maps."""
        return self.plan.maps

    @property
    def mixes(self) -> tuple[str, ...]:
        """The mixes in words."""
        return tuple(describe(mix) for mix in self.plan.mixes)

    @property
    def complete(self) -> bool:
        """Whether every piece is stored."""
        return self.done == self.total

    def __str__(self) -> str:
        from .report import summary

        return "\n".join(summary(self))

    def as_dict(self) -> dict[str, Any]:
        """Where it stands and what it found, as plain values."""
        plan = self.plan
        return {
            **{name: getattr(plan, name) for name in ("network", "layer", "layer_name", "engine")},
            **{"maps": len(plan.maps), "mixes": len(plan.mixes), "starts": plan.starts},
            **{"ascents": plan.ascents, "seed": plan.settings.seed, "version": plan.version},
            **{"done": self.done, "total": self.total, "seconds": self.seconds},
            "verdicts": self.counts(),
            "silent": [best.map for best in self.best if best.activation <= 0],
            "article": self.article_found().tolist(),
        }

    def map_as_dict(self, map: int) -> dict[str, Any]:
        """What is known of one map, as plain values; None for what is not."""
        column = self.column(map)
        low, high = self.intervals()
        by_mix = (self.alive[:, column], low[:, column], high[:, column])
        mixes = [
            {"mix": name, "alive": _known(alive), "interval": [_known(least), _known(most)]}
            for name, alive, least, most in zip(self.mixes, *by_mix, strict=True)
        ]
        clusters = [
            {"activation": c.activation, "mix": c.mix, "mixes": list(c.mixes)}
            for c in self.clusters(map)
        ]
        waking = (self.waking()[column], *(ends[column] for ends in self.waking_intervals()))
        by_scale = [
            {
                "scale": s,
                "alive": _known(alive),
                "interval": [_known(least), _known(most)],
                "leads": _known(leads),
            }
            for s, alive, least, most, leads in zip(
                self.plan.scales, *waking, self.leading()[column], strict=True
            )
        ]
        best = {name: _known(value) for name, value in asdict(self.best[column]).items()}
        limits = {"real": _known(self.real[column]), "bound": _known(self.bounds[column])}
        alike = _known(self.alikeness(map))
        return {
            **{**best, **limits, "alikeness": alike},
            **{"scales": by_scale, "mixes": mixes, "clusters": clusters},
        }

    # --- which scales --------------------------------------------------------------------------

    def intervals(self) -> tuple[Exact, Exact]:
        """95 % confidence intervals of `alive`: lower and upper bounds, (mixes, maps) each.

        Wilson's score interval, which stays sensible at 0 and 1.
        """
        return wilson(self.alive, self.plan.starts)

    @cached_property
    def shares(self) -> Exact:
        """What each length scale contributes to a mix's variance, (mixes, scales)."""
        plan = self.plan
        return np.array([shares(mix, plan.scales, plan.shape) for mix in plan.mixes])

    def waking(self) -> Exact:
        """How well each scale wakes each map, (maps, scales).

        The share of start images that activate it, averaged over the mixes in the measure in which
        they consist of that scale.
        """
        return self._by_scale(self.alive)

    def waking_intervals(self) -> tuple[Exact, Exact]:
        """95 % confidence intervals of `waking`, (maps, scales) each.

        All mixes draw the same random numbers, so they count as one sample of start images.
        """
        return wilson(self.waking(), self.plan.starts)

    def best_scales(self) -> list[float | None]:
        """For each map the scale that wakes it best; None where intervals say of none that it does.

        Its interval lies above those of all other scales.
        """
        low, high = self.waking_intervals()
        return [self._ahead(*ends) for ends in zip(low, high, strict=True)]

    def _ahead(self, low: Exact, high: Exact) -> float | None:
        best = int(np.nanargmax(low)) if np.isfinite(low).any() else 0
        others = np.delete(high, best)
        apart = len(others) > 0 and bool((low[best] > np.nan_to_num(others, nan=1.0)).all())
        return self.plan.scales[best] if apart else None

    def leading(self) -> Exact:
        """How high each scale leads, (maps, scales): OIPs in units of the map's best, averaged.

        NaN for a map that nothing activates.
        """
        highest = np.nanmax(np.where(self._stored, self.activations, np.nan), axis=0, initial=0.0)
        best = np.where(highest > 0, highest, np.nan)
        return self._by_scale(np.maximum(self.activations, 0) / best)

    def _by_scale(self, values: Exact) -> Exact:
        weights = self.shares[:, None, :] * self._stored[:, :, None]
        total = np.where(self._stored, values, 0.0)[:, :, None] * weights
        with np.errstate(invalid="ignore"):
            means: Exact = total.sum(axis=0) / weights.sum(axis=0)
        return means

    @property
    def _stored(self) -> NDArray[np.bool_]:
        return np.isfinite(self.activations)

    # --- each map's best -----------------------------------------------------------------------

    @cached_property
    def best(self) -> tuple[Best, ...]:
        """Every map's best OIP over all mixes."""
        return tuple(self._best(column) for column in range(len(self.maps)))

    def _best(self, column: int) -> Best:
        number, there = self.maps[column], self._stored[:, column]
        if not there.any():
            return Best(number, -1, -1, np.nan, np.nan, "missing", np.nan)
        values = np.where(there, self.activations[:, column], -np.inf)
        if values.max() <= 0:  # the one that came nearest to waking
            values = np.where(there, self.preactivations[:, column], -np.inf)
        mix = int(values.argmax())
        return Best(
            number,
            mix,
            int(self.starts[mix, column]),
            float(self.activations[mix, column]),
            float(self.preactivations[mix, column]),
            str(self.verdicts[mix, column]),
            float(self.alive[there, column].mean()),
        )

    def counts(self) -> dict[str, int]:
        """How many maps have a best OIP of which verdict."""
        names = [best.verdict for best in self.best]
        order = ("found", "unfinished", "weak", "silent", "dead", "missing")
        return {name: names.count(name) for name in order if name in names}

    def column(self, map: int) -> int:
        """Place of a map in the arrays.

        Raises
        ------
        InvalidArgument
            The survey has no such map.
        """
        if map not in self.maps:
            rule = f"a map of this survey, which has {ranges(sorted(self.maps))}"
            raise InvalidArgument(f"map {map!r}: must be {rule}")
        return self.maps.index(map)

    def image(self, map: int, mix: int) -> Array:
        """The OIP (C, H, W) of a map that a mix led to; NaN where it is not stored yet."""
        self.column(map)
        whole("mix", mix, 0, len(self.plan.mixes) - 1)
        with reading(self.path) as database:
            row = database.execute(
                "SELECT image FROM oips WHERE mix = ? AND map = ?", (mix, map)
            ).fetchone()
        if row is None:
            return np.full(self.plan.shape, np.nan, np.float32)
        return np.frombuffer(row[0], np.float32).reshape(self.plan.shape)

    def images(self, map: int) -> tuple[NDArray[np.int64], Array]:
        """All OIPs of a map: the mixes that led to them (n,), and the images (n, C, H, W)."""
        self.column(map)
        asked = "SELECT mix, image FROM oips WHERE map = ? ORDER BY mix"
        with reading(self.path) as database:
            rows = database.execute(asked, (map,)).fetchall()
        images = [np.frombuffer(image, np.float32) for _, image in rows]
        mixes = np.array([mix for mix, _ in rows], np.int64)
        return mixes, np.array(images, np.float32).reshape(-1, *self.plan.shape)

    # --- one OIP or several --------------------------------------------------------------------

    def clusters(self, map: int, likeness: float | None = None) -> tuple[Cluster, ...]:
        """Sort a map's OIPs by what they look like.

        From the highest downwards each joins the first cluster whose highest member it correlates
        with, shifted as fits best, by `likeness` or more; else it begins another. OIPs that do not
        activate the map are left out.

        Parameters
        ----------
        map : int
        likeness : float, optional
            Correlation, 0 … 1; by default `LIKENESS`, or more for a map whose best OIP is so smooth
            that images of its spectrum reach it by chance (`by_chance`).
        """
        if likeness is not None:
            number_in("likeness", likeness, 0.0, 1.0)
        if (map, likeness) not in self._kinds:
            self._kinds[map, likeness] = sorted_by_looks(*self._ranked(map), likeness)
        return self._kinds[map, likeness]

    def alikeness(self, map: int) -> float:
        """How alike a map's OIPs are: mean correlation with the highest, shifted as fits best.

        NaN where there is but one, or none that activates the map.
        """
        return mean_correlation(self._ranked(map)[1])

    def _ranked(self, map: int) -> tuple[NDArray[np.int64], Array, Exact]:
        """Mixes, images and activations of a map's OIPs that activate it, the highest first."""
        mixes, images = self.images(map)
        values = self.activations[mixes, self.column(map)]
        order = np.argsort(-values, kind="stable")
        order = order[values[order] > 0]
        return mixes[order], images[order], values[order]

    # --- which start images serve a layer --------------------------------------------------------

    @cached_property
    def cover(self) -> tuple[Starter, ...]:
        """The smallest set of start images that activates what can be, found greedily.

        See `starters.cover`. An ascent can begin from any of them without waking its map first.
        """
        return cover(self._awake, self.maps)

    @cached_property
    def scored(self) -> int:
        """Start images that are scored so far, of all mixes together."""
        with reading(self.path) as database:
            count: int = database.execute("SELECT IFNULL(SUM(count), 0) FROM scores").fetchone()[0]
        return count

    @cached_property
    def woken(self) -> tuple[int, ...]:
        """Maps that some ascent activates and no start image does.

        An ascent follows a silent map's preactivation until it wakes.
        """
        served = {number for starter in self.cover for number in starter.maps}
        return tuple(b.map for b in self.best if b.activation > 0 and b.map not in served)

    def _awake(self) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
        """Piece by piece: mix, first start image, which activates which map (count, maps)."""
        asked = "SELECT mix, first, count, awake FROM scores ORDER BY mix, first"
        with reading(self.path) as database:
            rows = database.execute(asked)
            for mix, first, count, awake in rows:
                yield mix, first, bits(awake, count, len(self.maps))

    # --- the article's way -----------------------------------------------------------------------

    def article(self) -> Exact:
        """Activations (start images, maps) that the article's way reaches; 0 stays silent."""
        return self._article["activations"]

    def article_found(self) -> NDArray[np.int64]:
        """From each of its start images: how many maps the article's way activates."""
        counts: NDArray[np.int64] = (self.article() > 0).sum(axis=1)
        return counts


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def wilson(share: Exact, count: int) -> tuple[Exact, Exact]:
    """Wilson's 95 % score intervals of shares of `count`: lower and upper ends."""
    z = CONFIDENCE
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    spread = np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    half = z * spread / (1 + z**2 / count)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
