"""Which length scales wake a map, and how high they lead: one row per map, the hardest on top."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...canvas import (
    HAIR,
    INK,
    MARGIN,
    PAGE,
    SOFT,
    Array,
    Pixels,
    paint,
    write,
)
from .page import (
    MAX_WIDTH,
    MIN_WIDTH,
    Head,
    head_of,
    meanings,
    mixes_in_words,
    page_of,
    sign_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..findings import Survey


@dataclass(frozen=True)
class Steps:
    """A scale of colours in steps: `colours[i]` is for values up to `edges[i]`, light to dark.

    0 has a sign of its own, and so has what is missing: neither may pass for little.
    """

    edges: tuple[float, ...]
    colours: tuple[str, ...]

    def of(self, values: Array) -> Array:
        """Which step each value belongs to; -1 for 0, -2 for what is missing."""
        known = np.nan_to_num(values, nan=-1.0)
        steps = np.searchsorted(np.array(self.edges) + 1e-9, known)
        return np.where(known > 0, steps, np.where(known < 0, -2, -1))


# Fine at both ends, where maps differ; the same for every survey, so that layers compare.
WAKES = Steps(
    (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0),
    ("#dbe5ea", "#bfd2dd", "#9dbccd", "#789fb9", "#577fa1", "#3c6085", "#264366", "#14263f"),
)
LEADS = Steps(
    (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0),
    ("#f0e4cd", "#e4cd9f", "#d5b072", "#c0914d", "#a47334", "#845826", "#61401d", "#3c2713"),
)

# Number of maps up to which rows are so high and cells so wide.
ROWS = ((40, 18, 20), (80, 14, 16), (200, 12, 12), (math.inf, 9, 9))
LABELS = 46
PANEL_GAP = 20
BLOCK_GAP = 26
PANEL_HEAD = 46
MIN_PANEL, MAX_PANEL = 160, 760
MAX_HEIGHT = 2400
MAPS_IN_BLOCK = 64
GROUP_GAP = 4
KEY = 30
CELL_WITH_NAME = 9  # pixels from which a column has room for its smoothing


class Column(NamedTuple):
    """Mixes in the measure in which they have a scale, with a smoothing; None: all alike."""

    scale: float | None
    smoothing: int | None


@dataclass(frozen=True)
class Blocks:
    """Where the rows go: blocks of `rows` rows beside each other, read like columns of text.

    Attributes
    ----------
    rows, row, cell : int
        Rows of a block, height of a row, width of a cell.
    panel : int
        Width of each of a block's two panels.
    lefts : tuple of int
        Where the blocks begin.
    """

    rows: int
    row: int
    cell: int
    panel: int
    lefts: tuple[int, ...]

    @property
    def block(self) -> int:
        """Width of a block: map numbers and two panels."""
        return LABELS + 2 * self.panel + PANEL_GAP


@dataclass(frozen=True, eq=False)
class WakingMap:
    """Everything `draw_waking_map` paints.

    Attributes
    ----------
    head : Head
    maps, verdicts : tuple
        Rows, the map that is hardest to wake first.
    columns : tuple of Column
        Of both panels.
    waking, leading : ndarray, (maps, columns)
        Share of start images that activate the map; OIPs in units of the map's best.
    pictures : tuple of (ndarray of uint8, ndarray of uint8)
        The two panels of each block of rows.
    blocks : Blocks
    size : (int, int)
    """

    head: Head
    maps: tuple[int, ...]
    verdicts: tuple[str, ...]
    columns: tuple[Column, ...]
    waking: Array
    leading: Array
    pictures: tuple[tuple[Pixels, Pixels], ...]
    blocks: Blocks
    size: tuple[int, int]


def waking_map(survey: Survey) -> WakingMap:
    """Lay out how well each length scale and smoothing wakes each map, and how high it leads.

    Parameters
    ----------
    survey : Survey
        Complete or not.

    Returns
    -------
    WakingMap
    """
    columns, weights = _columns(survey)
    blocks = _blocks(len(survey.maps), columns)
    order = hardest_first(survey)
    waking = _averaged(survey.alive, weights)[order]
    leading = _averaged(_relative(survey), weights)[order]
    drawn = [
        [
            _cells(steps, values[first : first + blocks.rows], columns, blocks)
            for steps, values in ((WAKES, waking), (LEADS, leading))
        ]
        for first in range(0, len(order), blocks.rows)
    ]
    width = max(MIN_WIDTH, blocks.lefts[-1] + blocks.block + MARGIN)
    head = head_of(survey, _WAKING, _cells_in_words(survey, blocks), width)
    height = head.top + PANEL_HEAD + blocks.rows * blocks.row + 2 * KEY + 24 + head.foot
    rows = [survey.best[i] for i in order]
    return WakingMap(
        head,
        tuple(best.map for best in rows),
        tuple(best.verdict for best in rows),
        columns,
        waking,
        leading,
        tuple((left, right) for left, right in drawn),
        blocks,
        (width, height),
    )


def hardest_first(survey: Survey) -> list[int]:
    """Places of the maps in the plan: dead, silent, rarely awake, …, always awake, missing."""
    ranks = {"dead": 0, "silent": 1, "missing": 3}

    def hardness(place: int) -> tuple[float, ...]:
        best = survey.best[place]
        alive = 0.0 if math.isnan(best.alive) else best.alive
        return ranks.get(best.verdict, 2), alive, best.map

    return sorted(range(len(survey.maps)), key=hardness)


def _columns(survey: Survey) -> tuple[tuple[Column, ...], Array]:
    """Columns, and what each mix weighs in them, (mixes, columns)."""
    smoothing = np.array([mix.smoothing for mix in survey.plan.mixes])
    columns, weights = [Column(None, None)], [np.ones(len(smoothing))]
    for i, scale in enumerate(survey.plan.scales):
        for passes in sorted(set(smoothing.tolist())):
            weight = survey.shares[:, i] * (smoothing == passes)
            if weight.any():
                columns.append(Column(scale, passes))
                weights.append(weight)
    return tuple(columns), np.stack(weights, axis=1)


def _averaged(values: Array, weights: Array) -> Array:
    """Values (mixes, maps) averaged over the mixes that are stored, (maps, columns)."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).T @ weights
    with np.errstate(invalid="ignore"):
        means: Array = total / (known.T.astype(float) @ weights)
    return means


def _relative(survey: Survey) -> Array:
    """OIPs in units of the map's best, (mixes, maps); 0 where nothing activates the map."""
    heights = np.maximum(survey.activations, 0.0)
    best = np.max(np.nan_to_num(heights), axis=0, initial=0.0)
    shares: Array = heights / np.where(best > 0, best, 1.0)
    return shares


def _blocks(count: int, columns: tuple[Column, ...]) -> Blocks:
    """As few blocks as can be read; the more maps, the lower their rows."""
    row, cell = next((row, cell) for most, row, cell in ROWS if count <= most)
    cell = max(3, min(cell, MAX_PANEL // len(columns)))
    panel = max(MIN_PANEL, _lefts(columns, cell)[-1] + cell)
    block = LABELS + 2 * panel + PANEL_GAP
    fitting = max(1, (MAX_WIDTH - 2 * MARGIN + BLOCK_GAP) // (block + BLOCK_GAP))
    rows = math.ceil(count / min(fitting, math.ceil(count / MAPS_IN_BLOCK)))
    row = max(3, min(row, MAX_HEIGHT // rows))
    lefts = tuple(MARGIN + i * (block + BLOCK_GAP) for i in range(math.ceil(count / rows)))
    return Blocks(rows, row, cell, panel, lefts)


def _lefts(columns: tuple[Column, ...], cell: int) -> list[int]:
    """Where the columns of a panel begin: a gap before each new scale."""
    scales = [column.scale for column in columns]
    gaps = np.cumsum([0, *(one != next for one, next in pairwise(scales))])
    return [i * cell + GROUP_GAP * int(gap) for i, gap in enumerate(gaps)]


def _cells(steps: Steps, values: Array, columns: tuple[Column, ...], blocks: Blocks) -> Pixels:
    """A panel: a block of colour for each value, a dash for 0, hatching for what is missing."""
    cell, row = blocks.cell, blocks.row
    lefts = _lefts(columns, cell)
    kinds = [_cell(steps, kind, cell, row) for kind in range(-2, len(steps.colours))]
    picture = np.empty((len(values) * row, lefts[-1] + cell, 3), np.uint8)
    picture[:] = _rgb(PAGE)
    for i, line in enumerate(steps.of(values)):
        for left, kind in zip(lefts, line, strict=True):
            picture[i * row : (i + 1) * row, left : left + cell] = kinds[kind + 2]
    return picture


def _cell(steps: Steps, kind: int, cell: int, row: int) -> Pixels:
    """One cell, with a line of page at its right and lower edges where there is room."""
    high, wide = row - (row >= 6), cell - (cell >= 6)
    block = np.empty((row, cell, 3), np.uint8)
    block[:] = _rgb(PAGE)
    inner = block[:high, :wide]
    if kind >= 0:
        inner[:] = _rgb(steps.colours[kind])
    elif kind == -1:
        thick = 2 if row >= 14 else 1
        left, top = wide // 3, (high - thick) // 2
        inner[top : top + thick, left : max(left + 1, wide - left)] = _rgb(SOFT)
    else:
        y, x = np.indices((high, wide))
        inner[(x + y) % 4 == 0] = _rgb(HAIR)
    return block


def _rgb(colour: str) -> Array:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)


_PANELS = (("wakes", "share of start images"), ("leads", "part of the highest"))
_WAKING = "Which length scales wake a map, and how high they lead: the hardest map on top."


def _cells_in_words(survey: Survey, blocks: Blocks) -> str:
    plan, every = survey.plan, _numbered(blocks.row)
    few = f"best {plan.ascents}" if plan.ascents > 1 else "best one"
    further = ", on from block to block" if len(blocks.lefts) > 1 else ""
    thinned = f" Every {every} rows a number; a bar: not found." if every > 1 else ""
    return (
        f"Left: share of a mix's {plan.starts} start images that activate the map. Right: "
        f"activation of the OIP that the {few} of them lead to, divided by the map's highest. "
        f"A cell is the mean over those of the {mixes_in_words(survey)} that have its smoothing "
        "(passes, the small number above), each counted by what the length scale contributes "
        "to its variance; “all”: the mean over all mixes alike, by which the rows are sorted"
        f"{further}. Dash: exactly 0. Hatched: not computed yet.{thinned}{meanings(survey)}"
    )


def draw_waking_map(sheet: WakingMap, figure: Figure | None = None) -> Figure:
    """Paint a waking map.

    Parameters
    ----------
    sheet : WakingMap
    figure : matplotlib.figure.Figure, optional
        An empty figure to paint on (default: a new one that pyplot does not know).

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = page_of(sheet.head, sheet.size, figure)
    blocks, top = sheet.blocks, sheet.head.top + PANEL_HEAD
    for i, (left, pictures) in enumerate(zip(blocks.lefts, sheet.pictures, strict=True)):
        first = left + LABELS
        second = first + blocks.panel + PANEL_GAP
        for x, picture, words in zip((first, second), pictures, _PANELS, strict=True):
            write(axes, x, top - 34, words[0], 8.5, color=INK)
            write(axes, x + 46, top - 34, words[1], 7.5)
            _column_names(axes, sheet, x, top)
            paint(axes, picture, x, top)
        if blocks.cell >= CELL_WITH_NAME:
            write(axes, first + blocks.cell, top - 5, "smoothing", 6, ha="right")
        _row_names(axes, sheet, i, left, top)
    y = top + blocks.rows * blocks.row + 24
    _key(axes, WAKES, y, "share of start images")
    _key(axes, LEADS, y + KEY, "part of the highest")
    return figure


def _column_names(axes: Axes, sheet: WakingMap, x: int, top: int) -> None:
    """Scales above their groups, smoothings above their columns, as far as there is room."""
    cell, free = sheet.blocks.cell, -math.inf
    groups: dict[float | None, list[int]] = {}
    for column, left in zip(sheet.columns, _lefts(sheet.columns, cell), strict=True):
        groups.setdefault(column.scale, []).append(left)
        if column.smoothing is not None and cell >= CELL_WITH_NAME:
            write(axes, x + left + cell / 2, top - 5, f"{column.smoothing}", 6, ha="center")
    for scale, lefts in groups.items():
        name = "all" if scale is None else f"{scale:g} px"
        middle, half = (lefts[0] + lefts[-1] + cell) / 2, 2.8 * len(name)
        if middle - half > free:
            write(axes, x + middle, top - 16, name, 7, ha="center", color=INK)
            free = middle + half + 3


def _row_names(axes: Axes, sheet: WakingMap, block: int, left: int, top: int) -> None:
    """Numbers of the maps, every one or every few; the signs of those that were not found."""
    rows, row = sheet.blocks.rows, sheet.blocks.row
    size, every = 7.5 if row >= 12 else 6.3, _numbered(row)
    here = slice(block * rows, (block + 1) * rows)
    for i, (number, verdict) in enumerate(zip(sheet.maps[here], sheet.verdicts[here], strict=True)):
        y = top + (i + 0.5) * row - 0.5
        sign, colour = sign_of(verdict)
        usual = verdict == "found"
        at = {"ha": "right", "va": "center_baseline"}
        if i % every == 0:
            write(axes, left + LABELS - 18, y, f"{number}", size, color=INK, **at)
        if not usual and every == 1:
            write(axes, left + LABELS - 5, y, sign, size, color=colour, **at)
        elif not usual:  # no room for the sign
            axes.plot([left + LABELS - 10, left + LABELS - 4], [y, y], color=colour, linewidth=1.5)


def _numbered(row: int) -> int:
    """Of how many rows of that height one has room for its number."""
    return math.ceil(9 / row)


def _key(axes: Axes, steps: Steps, y: float, name: str) -> None:
    """The colours with the values at which they end; before them the signs of 0 and of missing."""
    write(axes, MARGIN, y + 9, name, 7.5, color=INK)
    left, wide = MARGIN + 132, 34
    for kind, text in ((-2, "missing"), (-1, "0")):
        paint(axes, _cell(steps, kind, 26, 12), left, y)
        write(axes, left + 13, y + 22, text, 6.5, ha="center")
        left += 46
    for i, edge in enumerate(steps.edges):
        paint(axes, _cell(steps, i, wide, 12), left, y)
        left += wide
        write(axes, left, y + 22, f"{100 * edge:g} %", 6.5, ha="center")
