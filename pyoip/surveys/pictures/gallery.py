"""One OIP or several: the best of each kind of a map's OIPs, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...canvas import (
    INK,
    MARGIN,
    SOFT,
    Pixels,
    Window,
    format_values,
    paint,
    write,
)
from ...figures import FRAMES
from ...fluctuations import Fluctuations
from ...pictures import picture_of, size_of, window_of
from .page import (
    MIN_WIDTH,
    Head,
    head_of,
    meanings,
    mixes_in_words,
    page_of,
    scale_in_words,
    sign_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..findings import Survey
    from ..likeness import Cluster

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
    images = np.array([survey.image(best.map, best.mix) for best in active])
    return window_of(images.reshape(-1, *survey.plan.shape))


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
    head = head_of(survey, _GALLERY, _gallery_in_words(survey, window), places.page)
    rows = tuple(
        _kinds(survey, number, places, window, head.top + i * places.row)
        for i, number in enumerate(chosen)
    )
    size = (places.page, head.top + len(rows) * places.row + head.foot)
    return Gallery(head, rows, places.frame, size, window)


class Places(NamedTuple):
    """Where portraits go: their `lefts`, height of a row; size of an empty frame."""

    frame: tuple[int, int]
    lefts: tuple[int, ...]
    row: int
    page: int


def _places(shape: tuple[int, int, int]) -> Places:
    (high, wide), (_, less) = size_of(shape, FIRST), size_of(shape, OTHER)
    begin = MARGIN + NAME + max(wide, CAPTION) + BETWEEN
    step = max(less, CAPTION) + BETWEEN
    lefts = (MARGIN + NAME, *(begin + k * step for k in range(MOST_KINDS - 1)))
    page = max(MIN_WIDTH, lefts[-1] + step + MORE + MARGIN)
    return Places((wide, high), lefts, high + UNDER, page)


def _kinds(survey: Survey, number: int, places: Places, window: Window, y: int) -> Kinds:
    """A map's row, with the best of each of its clusters."""
    clusters, base = survey.clusters(number), y + places.frame[1]
    portraits = tuple(
        _portrait(survey, clusters[0], cluster, window, places.lefts[k], base)
        for k, cluster in enumerate(clusters[:MOST_KINDS])
    )
    verdict = survey.best[survey.maps.index(number)].verdict
    return Kinds(number, verdict, y, len(clusters), portraits)


def _portrait(
    survey: Survey, best: Cluster, cluster: Cluster, window: Window, x: int, base: int
) -> Portrait:
    """A cluster's best image, standing on the row's base line."""
    picture = picture_of(cluster.image, window, FIRST if cluster is best else OTHER)
    share = 100 * cluster.activation / best.activation
    value = format_values([cluster.activation])[0] if cluster is best else f"{share:.0f} %"
    mix = in_short(survey.plan.mixes[cluster.mix])
    return Portrait(x, base - len(picture), picture, value, f"×{len(cluster.mixes)}", mix)


def in_short(mix: Fluctuations) -> tuple[str, ...]:
    """Scales with a tenth of a mix's weights or more, heaviest first; its smoothing.

    Examples
    --------
    >>> in_short(Fluctuations((1, 2, 4, 9), (0, 0.5, 1, 0.1), 2))
    ('4+2 px', 'smoothed 2×')
    """
    least = sum(mix.weights) / 10
    parts = sorted(zip(mix.weights, mix.scales, strict=True), key=lambda part: -part[0])
    heavy = [scale for weight, scale in parts[:4] if weight >= least] or [parts[0][1]]
    scales = "+".join(f"{scale:g}" for scale in heavy) + " px"
    return (scales, f"smoothed {mix.smoothing}×") if mix.smoothing else (scales,)


_GALLERY = "One OIP or several: the best of each kind, from the highest down."


def _gallery_in_words(survey: Survey, window: Window) -> str:
    from ..likeness import LIKENESS

    return (
        f"A kind is a cluster of the OIPs that {mixes_in_words(survey)} led to: those "
        f"that correlate with its best by {LIKENESS:g} or more, shifted as fits best, and by more "
        "than chance does. Under each: activation, of the others in per cent of the first; × mixes "
        "that lead there; the mix of the one shown: scales with a tenth of its weights or more, "
        "heaviest first. One linear "
        f"scale for all pages: {scale_in_words(window)}{meanings(survey, FRAMES)}"
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
    figure, axes = page_of(sheet.head, sheet.size, figure)
    for row in sheet.rows:
        write(axes, MARGIN, row.y + 12, f"{row.map}", 12, color=INK, weight="bold")
        sign, colour = sign_of(row.verdict)
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
