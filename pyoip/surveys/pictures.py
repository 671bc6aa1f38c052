"""The answers as pictures: which scales wake a map, what serves a layer, one OIP or several.

Data first, drawing second, as in `figures`: `waking_map`, `coverage`, `gallery` and `starters` are
pure functions of a survey that say everything a page shows, `draw_…` puts it on a matplotlib
figure, and `write_pictures` writes them all. A survey that is not complete is drawn as it stands.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count as count_up
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..canvas import (
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
    contrast_window,
    format_values,
    paint,
    to_pixels,
    wrap,
    write,
    write_figure,
    zoom_for,
)
from ..figures import FRAMES, MEANINGS
from ..fluctuations import Fluctuations, start_images
from .plan import shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .findings import Cluster, Survey

MISSING = ("?", "#b3afa6")  # sign and colour of a map of which nothing is stored yet

TOP = 104  # of a page, below which its lines of settings begin
LINE = 15
LETTER = 5.4  # width of a letter of small print, in pixels
MIN_WIDTH = 720
MAX_WIDTH = 1800


class Head(NamedTuple):
    """What is written above and below any of these pages."""

    title: str
    subtitle: tuple[str, ...]
    legend: str
    rule: tuple[str, ...]

    @property
    def top(self) -> int:
        """Where the page's own content begins."""
        return TOP + 17 * len(self.subtitle)

    @property
    def foot(self) -> int:
        """Height of the small print, with the margin under it."""
        return 40 + LINE * len(self.rule)


def _head(survey: Survey, what: str, small: str, width: int) -> Head:
    """Title, verdicts and small print; the verdicts in a line of their own where room is short."""
    plan = survey.plan
    if not survey.complete:
        what += f" Not complete: {survey.done} of {survey.total} pieces of work are done."
    title = f"{plan.network} · layer {plan.layer} ({plan.layer_name})"
    counts = survey.counts().items()
    legend = "   ".join(f"{_sign(name)[0]} {count} {name}" for name, count in counts)
    lines = wrap(what, width, 7.4)
    if 11.2 * len(title) + 7.4 * len(legend) + 2 * MARGIN > width:
        lines, legend = [*lines, legend], ""
    return Head(title, tuple(lines), legend, tuple(wrap(small, width, LETTER)))


def _meanings(survey: Survey, words: Iterable[str] = MEANINGS) -> str:
    """What the verdicts mean that a map has."""
    there = survey.counts()
    return "".join(f" {_sign(w)[0]} {w}: {MEANINGS[w]}." for w in words if w in there)


def _scale_in_words(window: Window) -> str:
    return f"black {window.low:.3g}, white {window.high:.3g}.".replace("-", MINUS)


def _mixes(survey: Survey) -> str:
    count = len(survey.plan.mixes)
    return f"{count} mixes" if count > 1 else "one mix"


def _sign(verdict: str) -> tuple[str, str]:
    return SIGNS.get(verdict, MISSING)


def _page(head: Head, size: tuple[int, int], figure: Figure | None) -> tuple[Figure, Axes]:
    """A page with its head and its small print."""
    figure, axes = blank_page(size, figure)
    width, height = size
    write(axes, MARGIN, 58, head.title, 15, color=INK)
    write(axes, width - MARGIN, 58, head.legend, 9, ha="right")
    for i, line in enumerate(head.subtitle):
        write(axes, MARGIN, 81 + 17 * i, line, 9)
    for i, line in enumerate(head.rule):
        write(axes, MARGIN, height - 24 - LINE * (len(head.rule) - 1 - i), line, 7.5)
    return figure, axes


# --- which scales wake a map ---------------------------------------------------------------------


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
    head = _head(survey, _WAKING, _cells_in_words(survey, blocks), width)
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
        f"A cell is the mean over those of the {_mixes(survey)} that have its smoothing (passes, "
        "the small number above), each counted by what the length scale contributes to its "
        "variance; “all”: the mean over all mixes alike, by which the rows are sorted"
        f"{further}. Dash: exactly 0. Hatched: not computed yet.{thinned}{_meanings(survey)}"
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
    figure, axes = _page(sheet.head, sheet.size, figure)
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
        sign, colour = _sign(verdict)
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


# --- which start images serve a layer ------------------------------------------------------------

PLOT = 320
AXIS = 40
BESIDE = 14  # least distance of two labels
ARTICLE = "#a06a1c"
GREEDY = "#264366"


class Label(NamedTuple):
    """Words beside a plot at `y`, for the value that is drawn at `anchor`."""

    anchor: float
    y: float
    text: str
    colour: str


@dataclass(frozen=True, eq=False)
class Coverage:
    """Everything `draw_coverage` paints.

    Attributes
    ----------
    head : Head
    total, dead : int
        Maps, and those that no image can activate.
    covered : tuple of int
        By the first 0, 1, 2, … start images of the greedy set together.
    article : tuple of int
        From each start image of the article's way.
    planned : int
        How many of these the survey is to have.
    together, found : int
        By all of these together; by the whole survey.
    article_x, covered_x : ndarray
        Where their points lie on the page.
    panels : ((float, float), (float, float))
        Left and right edges of the two plots.
    labels : (tuple of Label, tuple of Label)
        Beside them.
    size : (int, int)
    """

    head: Head
    total: int
    dead: int
    covered: tuple[int, ...]
    article: tuple[int, ...]
    planned: int
    together: int
    found: int
    article_x: Array
    covered_x: Array
    panels: tuple[tuple[float, float], tuple[float, float]]
    labels: tuple[tuple[Label, ...], tuple[Label, ...]]
    size: tuple[int, int]

    def y(self, count: float) -> float:
        """Where so many maps lie on the page."""
        return _height_of(self.head.top + 20, count, self.total)


def coverage(survey: Survey) -> Coverage:
    """Lay out how many maps the greedy set serves, beside what the article's way finds.

    Parameters
    ----------
    survey : Survey
        Complete or not.

    Returns
    -------
    Coverage
    """
    total, counts = len(survey.maps), survey.counts()
    dead = counts.get("dead", 0)
    found = sum(best.activation > 0 for best in survey.best)
    covered = tuple(np.cumsum([0, *(starter.new for starter in survey.cover)]).tolist())
    article = tuple(survey.article_found().tolist())
    together = int((survey.article() > 0).any(axis=0).sum())
    one = (MARGIN + AXIS, MARGIN + AXIS + max(96.0, min(256.0, 16.0 * len(article))))
    two = (one[1] + 170, one[1] + 170 + max(96.0, min(480.0, 84.0 * (len(covered) - 1))))
    width = int(two[1]) + 320 + MARGIN
    head = _head(survey, _COVERAGE, _coverage_in_words(survey), width)
    place = partial(_height_of, head.top + 20, total=total)
    beside_article = _article_labels(article, together)
    beside_greedy = [
        (total - dead / 2, _dead_in_words(dead, total), SIGNS["dead"][1] if dead else SOFT),
        (found, _found_in_words(found, total - dead), INK),
        (covered[-1], _greedy_in_words(covered), GREEDY),
    ]
    return Coverage(
        head,
        total,
        dead,
        covered,
        article,
        survey.plan.article,
        together,
        found,
        np.linspace(*one, len(article) + 2)[1:-1],
        np.linspace(two[0], two[1], max(2, len(covered)))[: len(covered)],
        (one, two),
        (_apart(beside_article, place), _apart(beside_greedy, place)),
        (width, head.top + 20 + PLOT + 76 + head.foot),
    )


def _height_of(top: float, count: float, total: int) -> float:
    return top + PLOT * (1.0 - count / total)


def _apart(
    wanted: Sequence[tuple[float, str, str]], place: Callable[[float], float]
) -> tuple[Label, ...]:
    """Labels from the top down, each at its value or as far below as the one before demands."""
    labels: list[Label] = []
    for count, text, colour in sorted(wanted, key=lambda label: -label[0]):
        anchor = place(count)
        y = max(anchor, labels[-1].y + BESIDE) if labels else anchor
        labels.append(Label(anchor, y, text, colour))
    return tuple(labels)


def _article_labels(article: tuple[int, ...], together: int) -> list[tuple[float, str, str]]:
    if not article:
        return []
    low, high = min(article), max(article)
    each = f"{low}" if low == high else f"{low} to {high}"
    alone = (float(np.median(article)), f"{each} each", ARTICLE)
    return [(together, f"{together} together", ARTICLE), alone] if len(article) > 1 else [alone]


def _dead_in_words(dead: int, total: int) -> str:
    if not dead:
        return f"{_of_maps(total)}, none proven dead"
    return f"{dead} dead: no image can activate {'them' if dead > 1 else 'it'}"


def _found_in_words(found: int, ceiling: int) -> str:
    rest = ", all that can be" if found == ceiling else ""
    return f"{found} activated by the whole survey{rest}"


def _greedy_in_words(covered: tuple[int, ...]) -> str:
    count = len(covered) - 1
    if count < 2:
        return f"{covered[-1]} by {'one' if count else 'no'} start image"
    return f"{covered[-1]} by {count} start images together"


_COVERAGE = "How many maps a start image wakes: the article's way, beside a set chosen among all."


def _coverage_in_words(survey: Survey) -> str:
    plan = survey.plan
    return (
        f"Maps of {len(plan.maps)} that are active. The article's way: a start image with "
        "fluctuations of one and two pixels, climbed with constant steps; a map that it does not "
        "activate stays silent. One dot for each start image. The greedy set: of all "
        f"{len(plan.mixes)} × {plan.starts} start images always the one that activates most maps "
        "that those before it do not; counted before any ascent."
    )


def draw_coverage(sheet: Coverage, figure: Figure | None = None) -> Figure:
    """Paint a coverage page.

    Parameters
    ----------
    sheet : Coverage
    figure : matplotlib.figure.Figure, optional
        An empty figure to paint on (default: a new one that pyplot does not know).

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = _page(sheet.head, sheet.size, figure)
    for panel, labels in zip(sheet.panels, sheet.labels, strict=True):
        _ground(axes, sheet, panel)
        for label in labels:
            _beside(axes, label, panel[1])
    _draw_article(axes, sheet)
    _draw_greedy(axes, sheet)
    return figure


def _ground(axes: Axes, sheet: Coverage, panel: tuple[float, float]) -> None:
    """Lines to read counts from, the ceiling, what the survey finds."""
    left, right = panel
    for count in _counts(sheet.total):
        y = sheet.y(count)
        axes.plot([left, right], [y, y], color=HAIR, linewidth=0.7, zorder=1)
        write(axes, left - 7, y, f"{count}", 7.5, ha="right", va="center_baseline")
    if sheet.dead:
        low, high = sheet.y(sheet.total - sheet.dead), sheet.y(sheet.total)
        colour = SIGNS["dead"][1]
        axes.fill_between([left, right], low, high, color=colour, alpha=0.16, linewidth=0)
        axes.plot([left, right], [low, low], color=colour, linewidth=0.9)
    else:
        y = sheet.y(sheet.total)
        axes.plot([left, right], [y, y], color=SOFT, linewidth=0.9)
    y = sheet.y(sheet.found)
    axes.plot([left, right], [y, y], color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=2)


def _counts(total: int) -> list[int]:
    """Round numbers from 0, and `total`, which takes the place of one that is close to it.

    Examples
    --------
    >>> _counts(128), _counts(1)
    ([0, 20, 40, 60, 80, 100, 120, 128], [0, 1])
    """
    step = next(m * 10**k for k in count_up() for m in (1, 2, 5) if total <= 9 * m * 10**k)
    room = total * BESIDE / PLOT
    return [count for count in range(0, total, step) if total - count >= room] + [total]


def _beside(axes: Axes, label: Label, edge: float) -> None:
    axes.plot(
        [edge + 3, edge + 8, edge + 14],
        [label.anchor, label.anchor, label.y],
        color=label.colour,
        linewidth=0.7,
    )
    style = {"color": label.colour, "va": "center_baseline"}
    write(axes, edge + 18, label.y, label.text, 8.5, **style)


def _draw_article(axes: Axes, sheet: Coverage) -> None:
    (left, right), base = sheet.panels[0], sheet.y(0)
    heights = [sheet.y(count) for count in sheet.article]
    axes.plot(sheet.article_x, heights, "o", ms=5, mec=PAGE, mfc=ARTICLE, mew=0.6, zorder=4)
    if len(sheet.article) > 1:
        y = sheet.y(sheet.together)
        axes.plot([left, right], [y, y], color=ARTICLE, linewidth=1.3, zorder=3)
    write(axes, left, base + 37, "the article's way", 8.5, color=ARTICLE)
    write(axes, left, base + 52, _article_in_words(len(sheet.article), sheet.planned), 8)


def _article_in_words(count: int, planned: int) -> str:
    if count < planned:
        return f"{count} of {planned} start images yet"
    return f"{count} start image{'s' * (count > 1)}" if count else "no part of this survey"


def _draw_greedy(axes: Axes, sheet: Coverage) -> None:
    (left, _), base = sheet.panels[1], sheet.y(0)
    heights = [sheet.y(count) for count in sheet.covered]
    many = len(heights) > 24
    axes.plot(
        sheet.covered_x,
        heights,
        "-" if many else "o-",
        color=GREEDY,
        linewidth=1.6,
        ms=5,
        mec=PAGE,
        mew=0.6,
        zorder=4,
    )
    every = math.ceil(len(heights) / 12)
    for i in range(0, len(heights), every):
        write(axes, sheet.covered_x[i], base + 15, f"{i}", 7.5, ha="center")
    for i in range(every, len(heights) - 1 - every // 2, every):
        text = f"{sheet.covered[i]}"
        write(axes, sheet.covered_x[i] + 4, heights[i] + 15, text, 8, color=GREEDY)
    write(axes, left, base + 37, "the greedy set", 8.5, color=GREEDY)
    write(axes, left, base + 52, "number of start images", 8)


# --- one OIP or several --------------------------------------------------------------------------

MOST_KINDS = 8
MAPS_ON_PAGE = 12
FIRST, OTHER = 112, 84  # longer side of pictures
NAME = 78
BETWEEN = 12
CAPTION = 76  # least width of a caption
UNDER = 60  # room for it
MORE = 68  # for the count of those that are not shown


class Portrait(NamedTuple):
    """One kind of OIP: its best, and what is written under it."""

    x: int
    y: int
    picture: Pixels
    value: str
    size: str
    mix: tuple[str, ...]


class Kinds(NamedTuple):
    """A map's row of a gallery; without portraits where nothing activates it."""

    map: int
    verdict: str
    y: int
    different: int
    portraits: tuple[Portrait, ...]


@dataclass(frozen=True, eq=False)
class Gallery:
    """Everything `draw_gallery` paints.

    Attributes
    ----------
    head : Head
    rows : tuple of Kinds
    frame : (int, int)
        Width and height of an empty frame.
    size : (int, int)
    window : Window
    """

    head: Head
    rows: tuple[Kinds, ...]
    frame: tuple[int, int]
    size: tuple[int, int]
    window: Window


def gallery_window(survey: Survey) -> Window:
    """The one contrast of all pages: that of every map's best OIP."""
    active = [best for best in survey.best if best.activation > 0]
    return contrast_window(np.array([survey.image(best.map, best.mix) for best in active]))


def gallery(
    survey: Survey, maps: Sequence[int] | None = None, window: Window | None = None
) -> Gallery:
    """Lay out the different OIPs of each map, the best of each cluster, best first.

    Parameters
    ----------
    survey : Survey
        Complete or not.
    maps : sequence of int, optional
        Numbers of the maps; default the first that fit a page.
    window : Window, optional
        Contrast, default `gallery_window`.

    Returns
    -------
    Gallery
    """
    chosen = survey.maps[:MAPS_ON_PAGE] if maps is None else tuple(maps)
    window = gallery_window(survey) if window is None else window
    places = _places(survey.plan.shape)
    head = _head(survey, _GALLERY, _gallery_in_words(survey, window), places.page)
    rows = tuple(
        _kinds(survey, number, places, window, head.top + i * places.row)
        for i, number in enumerate(chosen)
    )
    size = (places.page, head.top + len(rows) * places.row + head.foot)
    return Gallery(head, rows, places.frame, size, window)


class Places(NamedTuple):
    """Where portraits go: `zooms` of the first and the others, `lefts`, height of a row."""

    zooms: tuple[int, int]
    frame: tuple[int, int]
    lefts: tuple[int, ...]
    row: int
    page: int


def _places(shape: tuple[int, int, int]) -> Places:
    first = zoom_for(shape, FIRST)
    other = max(1, min(zoom_for(shape, OTHER), first - 1))
    wide, high = shape[2] * first, shape[1] * first
    begin = MARGIN + NAME + max(wide, CAPTION) + BETWEEN
    step = max(shape[2] * other, CAPTION) + BETWEEN
    lefts = (MARGIN + NAME, *(begin + k * step for k in range(MOST_KINDS - 1)))
    page = max(MIN_WIDTH, lefts[-1] + step + MORE + MARGIN)
    return Places((first, other), (wide, high), lefts, high + UNDER, page)


def _kinds(survey: Survey, number: int, places: Places, window: Window, y: int) -> Kinds:
    """A map's row, with the best of each of its clusters."""
    clusters, base = survey.clusters(number), y + places.frame[1]
    portraits = tuple(
        _portrait(survey, clusters[0], cluster, window, places.zooms[k > 0], places.lefts[k], base)
        for k, cluster in enumerate(clusters[:MOST_KINDS])
    )
    verdict = survey.best[survey.maps.index(number)].verdict
    return Kinds(number, verdict, y, len(clusters), portraits)


def _portrait(
    survey: Survey, best: Cluster, cluster: Cluster, window: Window, zoom: int, x: int, base: int
) -> Portrait:
    """A cluster's best image, standing on the row's base line."""
    picture = to_pixels(cluster.image, window, zoom)
    share = 100 * cluster.activation / best.activation
    value = format_values([cluster.activation])[0] if cluster is best else f"{share:.0f} %"
    mix = in_short(survey.plan.mixes[cluster.mix])
    return Portrait(x, base - len(picture), picture, value, f"×{len(cluster.mixes)}", mix)


def in_short(mix: Fluctuations) -> tuple[str, ...]:
    """Scales that make up a tenth of a mix or more, strongest first; its smoothing.

    Examples
    --------
    >>> in_short(Fluctuations((1, 2, 4, 9), (0, 0.5, 1, 0.1), 2))
    ('4+2 px', 'smoothed 2×')
    """
    parts = zip(mix.scales, shares(mix, mix.scales), strict=True)
    strong = sorted((part for part in parts if part[1] >= 0.1), key=lambda part: -part[1])
    shown = strong[:4] or [max(zip(mix.scales, mix.weights, strict=True), key=lambda part: part[1])]
    scales = "+".join(f"{scale:g}" for scale, _ in shown) + " px"
    return (scales, f"smoothed {mix.smoothing}×") if mix.smoothing else (scales,)


_GALLERY = "One OIP or several: the best of each kind, from the highest down."


def _gallery_in_words(survey: Survey, window: Window) -> str:
    from .findings import LIKENESS

    return (
        f"A kind is a cluster of the OIPs that {_mixes(survey)} led to: those "
        f"that correlate with its best by {LIKENESS:g} or more, shifted as fits best. Under each: "
        "activation, of the others in per cent of the first; × mixes that lead there; the mix of "
        "the one shown: scales of a tenth of the variance or more, strongest first. One linear "
        f"scale for all pages: {_scale_in_words(window)}{_meanings(survey, FRAMES)}"
    )


def draw_gallery(sheet: Gallery, figure: Figure | None = None) -> Figure:
    """Paint a page of a gallery.

    Parameters
    ----------
    sheet : Gallery
    figure : matplotlib.figure.Figure, optional
        An empty figure to paint on (default: a new one that pyplot does not know).

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = _page(sheet.head, sheet.size, figure)
    for row in sheet.rows:
        write(axes, MARGIN, row.y + 12, f"{row.map}", 12, color=INK, weight="bold")
        sign, colour = _sign(row.verdict)
        if row.verdict != "found":
            write(axes, MARGIN, row.y + 28, f"{sign} {row.verdict}", 7.5, color=colour)
        if not row.portraits:
            _empty_frame(axes, sheet.frame, row)
            continue
        kinds = f"{row.different} kinds" if row.different > 1 else "one kind"
        write(axes, MARGIN, row.y + (42 if row.verdict != "found" else 28), kinds, 7.5)
        for portrait in row.portraits:
            _draw_portrait(axes, portrait, first=portrait is row.portraits[0])
        if row.different > len(row.portraits):
            text = f"+{row.different - len(row.portraits)} more"
            x = row.portraits[-1].x + row.portraits[-1].picture.shape[1]
            write(axes, x + BETWEEN, row.y + sheet.frame[1] - 2, text, 9)
    return figure


def _draw_portrait(axes: Axes, portrait: Portrait, *, first: bool) -> None:
    paint(axes, portrait.picture, portrait.x, portrait.y)
    base = portrait.y + portrait.picture.shape[0]
    weight = "bold" if first else "normal"
    write(axes, portrait.x, base + 14, portrait.value, 8, color=INK, weight=weight)
    right = portrait.x + max(CAPTION, portrait.picture.shape[1])
    write(axes, right, base + 14, portrait.size, 8, ha="right")
    for i, line in enumerate(portrait.mix):
        write(axes, portrait.x, base + 26 + 11 * i, line, 6.8)


def _empty_frame(axes: Axes, frame: tuple[int, int], row: Kinds) -> None:
    """Where nothing activates the map: dashed while unproven, struck through when proven dead."""
    style, struck = FRAMES.get(row.verdict, ((0, (1, 3)), False))
    left, top = MARGIN + NAME, row.y
    right, base = left + frame[0], top + frame[1]
    x, y = [left, right, right, left, left], [top, top, base, base, top]
    axes.plot(x, y, color=SOFT, linewidth=0.7, linestyle=style)
    if struck:
        axes.plot([left, right], [base, top], color=SOFT, linewidth=0.7)


# --- the start images that serve a layer ---------------------------------------------------------

START = 112
IN_A_ROW = 8


class Served(NamedTuple):
    """A start image of the greedy set, and what is written under it."""

    x: int
    y: int
    picture: Pixels
    maps: str
    new: str
    mix: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Starters:
    """Everything `draw_starters` paints.

    Attributes
    ----------
    head : Head
    images : tuple of Served
    size : (int, int)
    window : Window
    """

    head: Head
    images: tuple[Served, ...]
    size: tuple[int, int]
    window: Window


def starters(survey: Survey) -> Starters:
    """Lay out the start images of the greedy set, each with the maps that it activates.

    Parameters
    ----------
    survey : Survey
        Complete or not.

    Returns
    -------
    Starters
    """
    plan, cover = survey.plan, survey.cover
    images = [
        start_images(
            shape=plan.shape,
            fluctuations=plan.mixes[starter.mix],
            indices=[starter.start],
            seed=plan.settings.seed,
            constraint=plan.settings.constraint,
        )[0]
        for starter in cover
    ]
    window = contrast_window(np.array(images))
    zoom = zoom_for(plan.shape, START)
    cell = max(96, plan.shape[2] * zoom) + 20
    width = max(MIN_WIDTH, 2 * MARGIN + cell * min(IN_A_ROW, max(1, len(cover))) - 20)
    small = _starter_in_words(survey, window) if cover else ""
    head = _head(survey, _starters_in_words(survey), small, width)
    row = plan.shape[1] * zoom + 76
    served = tuple(
        Served(
            MARGIN + (i % IN_A_ROW) * cell,
            head.top + (i // IN_A_ROW) * row,
            to_pixels(image, window, zoom),
            _of_maps(len(starter.maps)),
            f"+{starter.new}" if i else "",
            (*in_short(plan.mixes[starter.mix]), f"image {starter.start}"),
        )
        for i, (starter, image) in enumerate(zip(cover, images, strict=True))
    )
    height = head.top + math.ceil(len(cover) / IN_A_ROW) * row + head.foot
    return Starters(head, served, (width, height), window)


def _of_maps(count: int) -> str:
    return f"{count} maps" if count != 1 else "1 map"


def _starters_in_words(survey: Survey) -> str:
    count, total = len(survey.cover), len(survey.maps)
    if not count:
        return "No start image that was scored activates any map."
    covered = sum(starter.new for starter in survey.cover)
    if count == 1:
        return f"One start image activates {covered} of {_of_maps(total)}."
    return f"{count} start images that together activate {covered} of {_of_maps(total)}."


def _starter_in_words(survey: Survey, window: Window) -> str:
    return (
        f"The greedy set of all {len(survey.plan.mixes)} × {survey.plan.starts} start images. "
        "Under each: maps that it activates; + those that none before it does; its mix (scales of "
        "a tenth of the variance or more, strongest first) and its number. One linear scale: "
        f"{_scale_in_words(window)}"
    )


def draw_starters(sheet: Starters, figure: Figure | None = None) -> Figure:
    """Paint the start images of the greedy set.

    Parameters
    ----------
    sheet : Starters
    figure : matplotlib.figure.Figure, optional
        An empty figure to paint on (default: a new one that pyplot does not know).

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = _page(sheet.head, sheet.size, figure)
    for image in sheet.images:
        paint(axes, image.picture, image.x, image.y)
        base, right = image.y + image.picture.shape[0], image.x + max(96, image.picture.shape[1])
        write(axes, image.x, base + 16, image.maps, 8.5, color=INK, weight="bold")
        write(axes, right, base + 16, image.new, 8.5, color=INK, ha="right")
        for i, line in enumerate(image.mix):
            write(axes, image.x, base + 30 + 12 * i, line, 7.5)
    return figure


# --- all of them ---------------------------------------------------------------------------------


def write_pictures(survey: Survey, folder: str | os.PathLike[str]) -> list[Path]:
    """Write every picture of a survey as PNG.

    Parameters
    ----------
    survey : Survey
        Complete or not; what is missing is drawn as missing.
    folder : path
        Made where it does not exist.

    Returns
    -------
    list of Path
        waking.png, coverage.png, starters.png, and gallery.png, or gallery_1.png, … where the
        maps do not fit one page.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    window = gallery_window(survey)
    chunks = [
        survey.maps[first : first + MAPS_ON_PAGE]
        for first in range(0, len(survey.maps), MAPS_ON_PAGE)
    ]
    pages = {
        "waking.png": lambda: draw_waking_map(waking_map(survey)),
        "coverage.png": lambda: draw_coverage(coverage(survey)),
        "starters.png": lambda: draw_starters(starters(survey)),
    }
    for i, chunk in enumerate(chunks):
        name = f"gallery_{i + 1}.png" if len(chunks) > 1 else "gallery.png"
        pages[name] = partial(_gallery_page, survey, chunk, window)
    paths = [target / name for name in pages]
    for path, draw in zip(paths, pages.values(), strict=True):
        write_figure(draw, path)
    return paths


def write_gallery(survey: Survey, maps: Sequence[int], path: str | os.PathLike[str]) -> None:
    """Write the different OIPs of some maps on one page, as PNG."""
    write_figure(partial(_gallery_page, survey, maps, None), path)


def _gallery_page(survey: Survey, maps: Sequence[int], window: Window | None) -> Figure:
    return draw_gallery(gallery(survey, maps, window))
