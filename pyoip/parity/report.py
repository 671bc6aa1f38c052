"""What a comparison found, as numbers and as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..settings import Objective
from ..summary import ranges

_NAN = math.nan


@dataclass(frozen=True)
class Row:
    """One engine at one layer.

    Attributes
    ----------
    layer, name : int, str
        Number and name of the layer.
    engine : str
    refused : str or None
        Why the engine does not take the layer; nothing was measured then.
    objective : {"activation", "preactivation"}
        What was compared: the preactivation where no image activates any map, or where a pooling
        stands before the activation function.
    forward : float
        Largest difference of an activation from the model's own, relative to the largest.
    gradient : float
        Difference of slopes from the model's central differences, relative to the slopes, root
        mean square over the images; the worst of several directions, before and after the
        activation function. What rounding of the model's own values leaves is not counted.
    oip : float
        What the ascents reach, median over the images.
    apart : float
        Median relative difference of that from the first engine's; NaN for the first.
    seconds, rate : float
        Time of the ascents, and their image-steps per second.
    problems : tuple of str
        Which of the differences are too large: ``"forward"``, ``"gradient"``, ``"OIP"``; and
        ``"climb"``, where ascents end lower than they began.
    """

    layer: int
    name: str
    engine: str
    refused: str | None = None
    objective: Objective = "activation"
    forward: float = _NAN
    gradient: float = _NAN
    oip: float = _NAN
    apart: float = _NAN
    seconds: float = _NAN
    rate: float = _NAN
    problems: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values: None for what was not measured, text for what is not finite."""
        values = asdict(self)
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                values[name] = None if math.isnan(value) else "infinite"
        return values


@dataclass(frozen=True)
class Parity:
    """What `pyoip.check` found; printed as a table.

    Attributes
    ----------
    network : str
    runtime : str
        What ran the model itself.
    images, steps : int
        Images compared per layer, and the length of the ascents.
    rows : tuple of Row
        Layer by layer, engine by engine.
    """

    network: str
    runtime: str
    images: int
    steps: int
    rows: tuple[Row, ...]

    @property
    def agrees(self) -> bool:
        """Tell whether no engine differs anywhere."""
        return not any(row.problems for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        head = {name: getattr(self, name) for name in ("network", "runtime", "images", "steps")}
        return {**head, "agrees": self.agrees, "rows": [row.as_dict() for row in self.rows]}

    def __str__(self) -> str:
        layers = sorted({row.layer for row in self.rows})
        what = f"{len(layers)} layers" if len(layers) > 1 else f"layer {layers[0]}"
        head = [
            f"{self.network}, {what}, beside the model itself ({self.runtime})",
            f"{self.images} start images, ascents of {self.steps} steps",
        ]
        tail = [*_notes(self.rows), _conclusion(self.rows)]
        return "\n".join([*head, "", *_table(list(_shown(self.rows))), "", *tail])


_COLUMNS = (
    *("layer", "name", "engine", "forward", "gradient", "OIP", "apart", "seconds"),
    *("image-steps/s", "verdict"),
)
_LEFT = ("name", "engine", "verdict")


def _shown(rows: Sequence[Row]) -> Iterator[Row]:
    """Engines that take a layer; the first that does not, where none does."""
    for row in rows:
        others = [other for other in rows if other.layer == row.layer]
        nobody = all(other.refused for other in others)
        if row.refused is None or (nobody and row is others[0]):
            yield row


def _table(rows: Sequence[Row]) -> list[str]:
    above = [None, *(row.layer for row in rows)]
    cells = [_COLUMNS, *(_cells(row, before) for row, before in zip(rows, above, strict=False))]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    lines = []
    for line in cells:
        placed = (
            text.ljust(width) if title in _LEFT else text.rjust(width)
            for text, width, title in zip(line, widths, _COLUMNS, strict=True)
        )
        lines.append("  ".join(placed).rstrip())
    return lines


def _cells(row: Row, above: int | None) -> tuple[str, ...]:
    name = row.name if len(row.name) <= 24 else row.name[:23] + "…"
    head = ("", "") if above == row.layer else (str(row.layer), name)
    if row.refused is not None:
        return (*head, *"-------", "no engine takes it")
    mark = "*" if row.objective == "preactivation" else ""
    return (
        *head,
        row.engine,
        f"{row.forward:.0e}",
        f"{row.gradient:.0e}",
        f"{row.oip:.3f}{mark}",
        "-" if math.isnan(row.apart) else f"{row.apart:.0e}",
        f"{row.seconds:.2f}",
        f"{row.rate:,.0f}",
        "DIFFERS: " + ", ".join(row.problems) if row.problems else "agrees",
    )


def _notes(rows: Sequence[Row]) -> list[str]:
    """Who does not take what, and what the star means."""
    lines = []
    if any(row.objective == "preactivation" for row in rows if row.refused is None):
        lines.append("* before the activation function")
    for engine in dict.fromkeys(row.engine for row in rows):
        out = [row for row in rows if row.engine == engine and row.refused]
        if out:
            numbers = ranges([row.layer for row in out])
            more = f"; not taken: layers {numbers}" if len(out) > 1 else ""
            lines.append(f"{engine} does not take {out[0].refused}{more}")
    return lines


def _conclusion(rows: Sequence[Row]) -> str:
    compared = [row for row in rows if row.refused is None]
    differing = [row for row in compared if row.problems]
    if differing:
        return f"{len(differing)} of {len(compared)} comparisons differ"
    return f"all {len(compared)} comparisons agree" if len(compared) > 1 else "it agrees"
