"""How many maps one start image serves, and a set of them, beside the article's way."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count as count_up
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...canvas import (
    HAIR,
    INK,
    MARGIN,
    PAGE,
    SIGNS,
    SOFT,
    Array,
    write,
)
from .page import (
    Head,
    head_of,
    maps_in_words,
    page_of,
    start_images_in_words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..findings import Survey

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
    served = {number for starter in survey.cover for number in starter.maps}
    alone, found = len(survey.woken), len(served.union(survey.woken))
    covered = tuple(np.cumsum([0, *(starter.new for starter in survey.cover)]).tolist())
    article = tuple(survey.article_found().tolist())
    together = int((survey.article() > 0).any(axis=0).sum())
    one = (MARGIN + AXIS, MARGIN + AXIS + max(96.0, min(256.0, 16.0 * len(article))))
    two = (one[1] + 170, one[1] + 170 + max(96.0, min(480.0, 84.0 * (len(covered) - 1))))
    width = int(two[1]) + 320 + MARGIN
    head = head_of(survey, _COVERAGE, _coverage_in_words(survey), width)
    place = partial(_height_of, head.top + 20, total=total)
    beside_article = _article_labels(article, together)
    beside_greedy = [
        (total - dead / 2, _dead_in_words(dead, total), SIGNS["dead"][1] if dead else SOFT),
        (found, _found_in_words(survey, found, total - dead), INK),
        *([(found, f"{alone} of these in ascents alone", INK)] if alone else []),
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
        return f"{maps_in_words(total)}, none proven dead"
    return f"{dead} dead: no image can activate {'them' if dead > 1 else 'it'}"


def _found_in_words(survey: Survey, found: int, ceiling: int) -> str:
    rest = ", all that can be" if found == ceiling else ""
    whole = "the whole survey" if survey.complete else "the survey so far"
    return f"{found} activated by {whole}{rest}"


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
        "activate stays silent. One dot for each start image. The greedy set: of "
        f"{start_images_in_words(survey)} always the one that activates most maps that those "
        f"before it do not; counted before any ascent.{_woken_in_words(len(survey.woken))}"
    )


def _woken_in_words(count: int) -> str:
    """Why the survey activates more maps than any of its start images."""
    if not count:
        return ""
    return (
        f" No start image activates {count} of the maps that the survey does: an ascent follows a "
        "silent map's preactivation until it wakes."
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
    figure, axes = page_of(sheet.head, sheet.size, figure)
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
