"""How one OIP came about: start image, images along the way, OIP, and the activation curve.

Data first (`evolution`), drawing second (`draw_evolution`), as in `figures`. Pictures
and curve share one step axis: every picture stands exactly above its step. The axis
is linear between neighbouring pictures and labelled at each of them, so that steps
at 1, 2, 4, 8, … , where an ascent changes most, get the room they need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .canvas import (
    HAIR,
    INK,
    MARGIN,
    MINUS,
    PAGE,
    SIGNS,
    SOFT,
    Array,
    Pixels,
    Window,
    blank_page,
    format_values,
    paint,
    wrap,
    write,
)
from .pictures import picture_of, scale_rule, size_of, window_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE = 112
GAP = 22
AXIS_ROOM = 44
CURVE = 190
TOP = 112
MIN_WIDTH = 720


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of the strip: at `step`, painted from x on, `label` under it."""

    step: int
    x: float
    picture: Pixels
    label: str
    value: str


@dataclass(frozen=True, eq=False)
class Evolution:
    """Everything `draw_evolution` paints.

    Attributes
    ----------
    title, note : str
        Head: network, layer and map; what the verdict rests on.
    verdict : str
    frames : tuple of Frame
        Start image first, OIP last.
    curve_x : ndarray, (k,)
        Position on the page of each step 0 … k - 1.
    curve : ndarray, (k,)
        Objective after that many steps.
    best : int
        Step of the OIP.
    real : float or None
        Value of the best real image, where one is known.
    objective : str
        What the curve shows.
    rule : tuple of str
        Small print with the contrast rule.
    size : (int, int)
    window : Window
    """

    title: str
    note: str
    verdict: str
    frames: tuple[Frame, ...]
    curve_x: Array
    curve: Array
    best: int
    real: float | None
    objective: str
    rule: tuple[str, ...]
    size: tuple[int, int]
    window: Window


def evolution(
    start: Array,
    image: Array,
    history: Array,
    *,
    title: str,
    verdict: str = "found",
    note: str = "",
    snapshot_steps: Array | None = None,
    snapshots: Array | None = None,
    real: float | None = None,
    objective: str = "activation",
    kicked: bool = False,
) -> Evolution:
    """Lay out start image, snapshots, OIP and curve of one map.

    Parameters
    ----------
    start, image : ndarray, (C, H, W)
        Start image and OIP.
    history : ndarray, (steps + 1,)
        Objective after 0, 1, … steps, NaN after the end. The OIP stands at its maximum.
    title, note, verdict : str
        Captions.
    snapshot_steps, snapshots : ndarray, (S,) and (S, C, H, W), optional
        Images along the way; only those between start and OIP are shown.
    real : float, optional
        Value of the best real image: a dashed line.
    objective : str
        What the curve shows, its label (default "activation").
    kicked : bool
        The start image is an earlier OIP of the map, perturbed; its caption says so.

    Returns
    -------
    Evolution

    Examples
    --------
    >>> import numpy as np
    >>> flat = np.zeros((1, 28, 28))
    >>> strip = evolution(flat, flat, np.array([0.0, 1.0, 3.0, 2.0]), title="map 0")
    >>> [(frame.step, frame.label) for frame in strip.frames]
    [(0, 'start'), (2, 'OIP')]
    """
    curve = _until_the_end(history)
    best = int(np.argmax(curve))
    steps, images = _along(start, image, best, snapshot_steps, snapshots)
    window = window_of(np.stack(images))
    high, wide = size_of(image.shape, PICTURE)
    across = len(steps) * (max(wide, 72) + GAP) - GAP
    width = max(MIN_WIDTH, 2 * MARGIN + AXIS_ROOM + across + GAP)
    lefts = np.linspace(MARGIN + AXIS_ROOM, width - MARGIN - GAP - wide, max(2, len(steps)))
    values = format_values(curve[list(steps)])
    labels = _labels(steps, kicked=kicked)
    frames = tuple(
        Frame(step, float(np.rint(x)), picture_of(shown, window, PICTURE), label, value)
        for step, x, shown, label, value in zip(steps, lefts, images, labels, values, strict=False)
    )
    xs = _positions(frames, wide, len(curve) - 1, width - MARGIN)
    rule = tuple(wrap(_small_print(image.shape, window), width, 5.4))
    height = TOP + high + 54 + CURVE + 78 + 15 * len(rule)
    shown = (frames, xs, curve, best, real, objective)
    return Evolution(title, note, verdict, *shown, rule, (width, height), window)


def _until_the_end(history: Array) -> Array:
    ran = np.flatnonzero(np.isfinite(history))
    return np.asarray(history[: ran[-1] + 1], np.float64) if ran.size else np.zeros(1)


def _along(
    start: Array, image: Array, best: int, steps: Array | None, snapshots: Array | None
) -> tuple[list[int], list[Array]]:
    """Start, the snapshots strictly between, OIP; the start alone where it was never bettered."""
    if best == 0:
        return [0], [start]
    between: list[tuple[int, Array]] = []
    if steps is not None and snapshots is not None:
        between = [(int(k), x) for k, x in zip(steps, snapshots, strict=True) if 0 < k < best]
    shown = [(0, start), *sorted(between, key=lambda pair: pair[0]), (best, image)]
    return [step for step, _ in shown], [x for _, x in shown]


def _labels(steps: list[int], *, kicked: bool) -> list[str]:
    first = "kicked OIP" if kicked else "start"
    if len(steps) == 1:
        return [f"{first}, never bettered"]
    return [first, *(f"step {k}" for k in steps[1:-1]), "OIP"]


def _positions(frames: tuple[Frame, ...], wide: int, last: int, right: float) -> Array:
    """Where each step lies on the page: under the middle of its picture."""
    steps = [frame.step for frame in frames]
    middles = [frame.x + wide / 2 for frame in frames]
    if last > steps[-1]:  # what came after the OIP, up to the margin
        steps, middles = [*steps, last], [*middles, right]
    return np.interp(np.arange(last + 1), steps, middles)


def _small_print(shape: tuple[int, ...], window: Window) -> str:
    return (
        f"{scale_rule(shape, window, 'strip')} Every picture stands above its step; "
        "the axis is linear between neighbouring pictures."
    )


def draw_evolution(strip: Evolution, figure: Figure | None = None) -> Figure:
    """Paint an evolution strip.

    Parameters
    ----------
    strip : Evolution
        From `evolution`.
    figure : matplotlib.figure.Figure, optional
        An empty figure to paint on (default: a new one that pyplot does not know).

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = blank_page(strip.size, figure)
    width, height = strip.size
    sign, colour = SIGNS[strip.verdict]
    write(axes, MARGIN, 58, strip.title, 15, color=INK)
    write(axes, width - MARGIN, 58, f"{sign} {strip.verdict}", 9, ha="right", color=colour)
    write(axes, MARGIN, 81, strip.note, 9)
    for frame in strip.frames:
        paint(axes, frame.picture, frame.x, TOP)
        base = TOP + frame.picture.shape[0]
        middle = frame.x + frame.picture.shape[1] / 2
        write(axes, middle, base + 17, frame.label, 8, ha="center", color=INK)
        write(axes, middle, base + 31, frame.value, 8, ha="center")
    base = TOP + strip.frames[0].picture.shape[0] + 54
    _draw_curve(axes, strip, base)
    for i, line in enumerate(strip.rule):
        write(axes, MARGIN, height - 24 - 15 * (len(strip.rule) - 1 - i), line, 7.5)
    return figure


def _draw_curve(axes: Axes, strip: Evolution, top: int) -> None:
    """The activation curve, in page coordinates like everything else."""
    levels = [*strip.curve, 0.0] if strip.real is None else [*strip.curve, 0.0, strip.real]
    low, high = min(levels), max(levels)
    span = (high - low) or 1.0

    def height_of(value: Array | float) -> Array:
        return np.asarray(top + CURVE * (1.0 - (value - low) / span))

    left, right = MARGIN + AXIS_ROOM - 8, strip.size[0] - MARGIN
    for value in _ticks(low, high):
        y = float(height_of(value))
        axes.plot([left, right], [y, y], color=HAIR, linewidth=0.7, zorder=1)
        write(axes, left - 8, y, f"{value:g}".replace("-", MINUS), 7.5, ha="right", va="center")
    _draw_step_axis(axes, strip, top, right)
    write(axes, MARGIN, top - 14, strip.objective, 7.5)
    if strip.real is not None:
        y = float(height_of(strip.real))
        axes.plot([left, right], [y, y], color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
        write(axes, right, y - 5, "best real image", 7.5, ha="right")
    axes.plot(strip.curve_x, height_of(strip.curve), color=INK, linewidth=1.3, zorder=3)
    for frame in strip.frames:
        x, y = float(strip.curve_x[frame.step]), float(height_of(strip.curve[frame.step]))
        face = INK if frame is strip.frames[-1] else PAGE
        axes.plot([x], [y], "o", ms=5, mec=INK, mfc=face, mew=1.0, zorder=4)


def _draw_step_axis(axes: Axes, strip: Evolution, top: int, right: int) -> None:
    for frame in strip.frames:
        x = float(strip.curve_x[frame.step])
        axes.plot([x, x], [top - 14, top + CURVE], color=HAIR, linewidth=0.7, zorder=1)
        write(axes, x, top + CURVE + 17, str(frame.step), 7.5, ha="center")
    if strip.curve_x[-1] > x + 20:  # where the ascent ended, unless that is where the OIP is
        write(axes, right, top + CURVE + 17, str(len(strip.curve) - 1), 7.5, ha="right")
    write(axes, MARGIN, top + CURVE + 17, "step", 7.5)


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers within the range."""
    if high == low:
        return [low]
    raw = (high - low) / 4
    unit = 10.0 ** np.floor(np.log10(raw))
    step = float(unit * min((1, 2, 5, 10), key=lambda m: abs(m * unit - raw)))
    first = int(np.ceil(low / step - 1e-9))
    return [round(k * step, 12) for k in range(first, int(np.floor(high / step + 1e-9)) + 1)]
