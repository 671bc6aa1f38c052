"""What all pictures of a survey share: the head of a page, small print, signs of verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ...canvas import (
    INK,
    MARGIN,
    MINUS,
    SIGNS,
    Window,
    blank_page,
    wrap,
    write,
)
from ...figures import MEANINGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..findings import Survey

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


def head_of(survey: Survey, what: str, small: str, width: int) -> Head:
    """Title, verdicts and small print; the verdicts in a line of their own where room is short."""
    plan = survey.plan
    if not survey.complete:
        what += f" Not complete: {survey.done} of {survey.total} pieces of work are done."
    title = f"{plan.network} · layer {plan.layer} ({plan.layer_name})"
    counts = survey.counts().items()
    legend = "   ".join(f"{sign_of(name)[0]} {count} {name}" for name, count in counts)
    lines = wrap(what, width, 7.4)
    if 11.2 * len(title) + 7.4 * len(legend) + 2 * MARGIN > width:
        lines, legend = [*lines, legend], ""
    return Head(title, tuple(lines), legend, tuple(wrap(small, width, LETTER)))


def meanings(survey: Survey, words: Iterable[str] = MEANINGS) -> str:
    """What the verdicts mean that a map has."""
    there = survey.counts()
    return "".join(f" {sign_of(w)[0]} {w}: {MEANINGS[w]}." for w in words if w in there)


def scale_in_words(window: Window) -> str:
    """Say what is black and what is white."""
    return f"black {window.low:.3g}, white {window.high:.3g}.".replace("-", MINUS)


def mixes_in_words(survey: Survey) -> str:
    """Say how many mixes."""
    count = len(survey.plan.mixes)
    return f"{count} mixes" if count > 1 else "one mix"


def sign_of(verdict: str) -> tuple[str, str]:
    """Return sign and colour of a verdict."""
    return SIGNS.get(verdict, MISSING)


def page_of(head: Head, size: tuple[int, int], figure: Figure | None) -> tuple[Figure, Axes]:
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


def start_images_in_words(survey: Survey) -> str:
    """Say which start images were scored: all of a survey's, or how many so far."""
    plan = survey.plan
    every = f"{len(plan.mixes)} × {plan.starts} start images"
    if survey.complete or survey.scored == len(plan.mixes) * plan.starts:
        return f"all {every}"
    return f"the {survey.scored} start images that are scored so far (to be {every})"


def maps_in_words(count: int) -> str:
    """Say how many maps."""
    return f"{count} maps" if count != 1 else "1 map"
