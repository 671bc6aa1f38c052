"""A result in words: title, settings and verdict table, as plain text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .settings import Settings

VERDICTS = ("found", "unfinished", "weak", "silent", "dead")
WIDTH = 100
_ROW = "{:<12}{:>4}   {:<20}{:<14}"

Array = npt.NDArray[Any]


def ranges(numbers: Sequence[int] | Array) -> str:
    """Return ascending numbers as text, runs of them joined.

    Examples
    --------
    >>> ranges([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    runs: list[list[int]] = []
    for number in (int(n) for n in numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def steps_of(history: Array) -> Array:
    """Return the steps each ascent took.

    Parameters
    ----------
    history : ndarray, (n, steps + 1)
        Activations, NaN after the end.

    Returns
    -------
    ndarray of int64, (n,)
    """
    ran = np.isfinite(history)
    last = history.shape[1] - 1 - ran[:, ::-1].argmax(axis=1)
    return np.where(ran.any(axis=1), last, 0)


def verdict_table(
    maps: Array,
    verdicts: Sequence[str],
    activations: Array,
    steps: Array,
    bounds: Array,
    *,
    interrupted: bool = False,
) -> list[str]:
    """Return one line per verdict: count, activations, steps, and which maps were not found.

    Maps that were never activated are listed with the proven upper bound of their
    pre-activation.

    Parameters
    ----------
    maps, activations, steps, bounds : ndarray, (n,)
    verdicts : sequence of str
    interrupted : bool
        Ctrl-C came before any proof was tried (default False).

    Returns
    -------
    list of str
        At most 100 characters wide.
    """
    lines = [_ROW.format("verdict", "maps", "activation", "steps").rstrip()]
    for verdict in VERDICTS:
        at = np.flatnonzero([v == verdict for v in verdicts])
        if not at.size:
            continue
        values = "-" if verdict in ("silent", "dead") else _span(activations[at], ".3f")
        row = _ROW.format(verdict, at.size, values, _span(steps[at], "d"))
        if verdict == "found":
            lines.append(row.rstrip())
        elif verdict == "silent" and interrupted:
            lines += _hung(row, f"{ranges(maps[at])}: interrupted before a proof was tried")
        elif verdict in ("silent", "dead"):
            named = [f"{maps[i]} ({_bound(bounds[i])})" for i in at]
            lines += _hung(row, ", ".join(named))
        else:
            lines += _hung(row, ranges(maps[at]))
    return lines


def _hung(row: str, text: str) -> list[str]:
    """A row and what belongs to it, wrapped under its last column."""
    # the bound stays with its map number
    text = text.replace(" (", "\0(").replace("bound ", "bound\0")
    lines = textwrap.wrap(text, WIDTH - len(row))
    rows = [row + lines[0], *(" " * len(row) + line for line in lines[1:])]
    return [line.replace("\0", " ") for line in rows]


def _span(values: Array, form: str) -> str:
    low, high = format(values.min(), form), format(values.max(), form)
    return low if low == high else f"{low} to {high}"


def _bound(bound: float) -> str:
    return f"bound {bound:.2g}" if math.isfinite(bound) else "no bound"


def times(timing: Mapping[str, float]) -> str:
    """Return seconds by phase, the total first.

    Examples
    --------
    >>> times({"scores": 0.25, "ascent": 1.0})
    '1.25 s (scores 0.25, ascent 1.00)'
    """
    phases = {name: s for name, s in timing.items() if name != "total"}
    total = timing.get("total", sum(phases.values()))
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in phases.items())
    return f"{total:.2f} s ({parts})" if parts else f"{total:.2f} s"


def settings_line(settings: Settings, engine: str, *, own_starts: bool) -> str:
    """Return the settings that decide a result, for the head of a picture."""
    box = settings.constraint
    rule = "standardized images"
    if box.kind == "clip":
        rule = f"pixels {box.low:g} to {box.high:g}"
    starts = f"{settings.starts} of {settings.candidates} start images"
    if settings.kicks and settings.method == "tangent":
        starts += f", {settings.kicks} {'kick' if settings.kicks == 1 else 'kicks'}"
    parts = [
        f"mean {settings.objective}",
        rule,
        f"up to {settings.steps} steps of {settings.step_size:g}",
        "own start images" if own_starts else starts,
        f"seed {settings.seed}",
        f"engine {engine}",
    ]
    if settings.method == "article":
        parts.insert(3, "the article's method")
    if settings.precision == "fast":
        parts.append("fast precision")
    return ", ".join(parts)


def ascent_line(
    *,
    candidate: int,
    kicks: int,
    converged: bool,
    steps: int,
    woke: int,
    bound: float,
    activation: str,
) -> str:
    """Return how one OIP came about, for the head of its evolution strip."""
    origin = f"from candidate {candidate}" if candidate >= 0 else "from an own start image"
    if kicks:
        origin = f"kicked {'once' if kicks == 1 else f'{kicks} times'} {origin}"
    end = "converged" if converged else "stopped"
    parts = [f"activation {activation}", origin, f"{end} after {steps} steps"]
    if woke > 0:
        parts.append(f"silent until step {woke} of its first ascent")
    if math.isfinite(bound):
        parts.append(f"pre-activation proven ≤ {bound:.2g}")
    return ", ".join(parts)
