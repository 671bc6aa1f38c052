"""The start images that serve a layer, as pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...canvas import (
    INK,
    MARGIN,
    Pixels,
    Window,
    paint,
    write,
)
from ...fluctuations import start_images
from ...pictures import picture_of, size_of, window_of
from .gallery import in_short
from .page import (
    MIN_WIDTH,
    Head,
    head_of,
    maps_in_words,
    page_of,
    scale_in_words,
    start_images_in_words,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..findings import Survey

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
    window = window_of(np.array(images).reshape(-1, *plan.shape))
    high, wide = size_of(plan.shape, START)
    cell = max(96, wide) + 20
    width = max(MIN_WIDTH, 2 * MARGIN + cell * min(IN_A_ROW, max(1, len(cover))) - 20)
    small = _starter_in_words(survey, window) if cover else ""
    head = head_of(survey, _starters_in_words(survey), small, width)
    row = high + 76
    served = tuple(
        Served(
            MARGIN + (i % IN_A_ROW) * cell,
            head.top + (i // IN_A_ROW) * row,
            picture_of(image, window, START),
            maps_in_words(len(starter.maps)),
            f"+{starter.new}" if i else "",
            (*in_short(plan.mixes[starter.mix]), f"image {starter.start}"),
        )
        for i, (starter, image) in enumerate(zip(cover, images, strict=True))
    )
    height = head.top + math.ceil(len(cover) / IN_A_ROW) * row + head.foot
    return Starters(head, served, (width, height), window)


def _starters_in_words(survey: Survey) -> str:
    count, total = len(survey.cover), len(survey.maps)
    if not count:
        return "No start image that was scored activates any map."
    covered = sum(starter.new for starter in survey.cover)
    if count == 1:
        return f"One start image activates {covered} of {maps_in_words(total)}."
    return f"{count} start images that together activate {covered} of {maps_in_words(total)}."


def _starter_in_words(survey: Survey, window: Window) -> str:
    return (
        f"The greedy set of {start_images_in_words(survey)}. "
        "Under each: maps that it activates; + those that none before it does; its mix (scales "
        "with a tenth of its weights or more, heaviest first) and its number. One linear scale: "
        f"{scale_in_words(window)}"
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
    figure, axes = page_of(sheet.head, sheet.size, figure)
    for image in sheet.images:
        paint(axes, image.picture, image.x, image.y)
        base, right = image.y + image.picture.shape[0], image.x + max(96, image.picture.shape[1])
        write(axes, image.x, base + 16, image.maps, 8.5, color=INK, weight="bold")
        write(axes, right, base + 16, image.new, 8.5, color=INK, ha="right")
        for i, line in enumerate(image.mix):
            write(axes, image.x, base + 30 + 12 * i, line, 7.5)
    return figure
