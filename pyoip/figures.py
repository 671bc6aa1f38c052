"""The contact sheet: every map's picture with number, activation and verdict under it.

Data first, drawing second: `contact_sheet` is a pure function that turns plain arrays
into everything the sheet shows (scaled pixels, positions, captions, small print), and
`draw_contact_sheet` only puts that on a matplotlib figure. One contrast rule holds
for all pictures of a sheet (`pictures.window_of`); it is printed at its foot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .canvas import (
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
    colour,
    format_values,
    paint,
    to_pixels,
    wrap,
    write,
    write_png,
)
from .pictures import in_lines, is_signal, picture_of, scale_rule, size_of, window_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

USUAL = "found"  # not written under a picture: the head counts it, and only exceptions stand out

# Only these get a frame around the picture: (line style, struck through).
FRAMES: dict[str, tuple[Any, bool]] = {"silent": ((0, (3, 3)), False), "dead": ("solid", True)}

MEANINGS = {
    "unfinished": "still rising when the steps ran out",
    "weak": "a real image excites the map more",
    "silent": "no image tried has activated the map",
    "dead": "proven that no admissible image can",
}
PICTURE_PIXELS = 224

_GAP = 20
_ROW_GAP = 22
_PAIR_GAP = 4
_MIN_CELL = 84
_MIN_WIDTH = 720
_MAX_WIDTH = 1800


@dataclass(frozen=True, eq=False)
class Tile:
    """One map on a contact sheet.

    Attributes
    ----------
    map : int
        Number of the map in its layer, first in the caption.
    verdict : str
        Verdict, written under the picture together with its sign unless it is "found".
    x, y : int
        Top left corner of the picture on the sheet.
    picture : ndarray of uint8, (H·zoom, W·zoom, 3)
        What is painted there; start image and OIP side by side where starts are shown.
    value, sign, note : str
        The rest of the caption: activation, verdict's sign, bound where one matters.
    """

    map: int
    verdict: str
    x: int
    y: int
    picture: Pixels
    value: str
    sign: str
    note: str


@dataclass(frozen=True, eq=False)
class ContactSheet:
    """Everything `draw_contact_sheet` paints.

    Attributes
    ----------
    title, subtitle, legend : str
        The head; `legend` counts the verdicts.
    rule : tuple of str
        Small print: the contrast rule with its numbers, wrapped to the sheet.
    tiles : tuple of Tile
    columns, zoom, cell : int
        Tiles per row, screen pixels per image pixel (1 for signals), width of a caption.
    size : (int, int)
        Width and height in pixels.
    window : Window
    grey : bool
        Whether values are shown as greys: their scale is drawn at the foot.
    """

    title: str
    subtitle: tuple[str, ...]
    legend: str
    rule: tuple[str, ...]
    tiles: tuple[Tile, ...]
    columns: int
    zoom: int
    cell: int
    size: tuple[int, int]
    window: Window
    grey: bool


def contact_sheet(
    images: Array,
    maps: Sequence[int] | Array,
    verdicts: Sequence[str],
    activations: Sequence[float] | Array,
    *,
    title: str,
    subtitle: str = "",
    starts: Array | None = None,
    bounds: Array | None = None,
) -> ContactSheet:
    """Lay out every map's picture with number, activation and verdict under it.

    Parameters
    ----------
    images : ndarray, (n, C, H, W)
        The OIPs.
    maps, verdicts, activations : sequences of length n
        The captions.
    title, subtitle : str
        Head of the sheet.
    starts : ndarray, (n, C, H, W), optional
        Start images, drawn to the left of each OIP in the same grey scale.
    bounds : ndarray, (n,), optional
        Proven upper bounds (NaN: none), printed with the maps that were never activated.

    Returns
    -------
    ContactSheet

    Examples
    --------
    >>> import numpy as np
    >>> sheet = contact_sheet(np.zeros((2, 1, 28, 28)), [0, 1], ["found", "dead"], [1.5, 0],
    ...                       title="mnist")
    >>> sheet.legend, sheet.tiles[0].value
    ('● 1 found   × 1 dead', '1.500')
    """
    paired = starts is not None
    window = window_of(images)
    target = _target(len(images), paired=paired)
    high, width = size_of(images.shape, target)
    cell = max(2 * width + _PAIR_GAP if paired else width, _MIN_CELL)
    columns = _columns(len(images), cell, paired=paired)
    page = max(_MIN_WIDTH, 2 * MARGIN + columns * (cell + _GAP) - _GAP)
    head = tuple(wrap(subtitle, page, 7.4))
    top = 104 + 17 * len(head)
    notes = _notes(verdicts, bounds)
    lines = 1 + any(verdict != USUAL for verdict in verdicts) + any(map(bool, notes))
    row = high + 8 + 13 * lines + _ROW_GAP
    captions = zip(maps, verdicts, format_values(activations), notes, strict=True)
    tiles = []
    for i, (number, verdict, value, note) in enumerate(captions):
        x = MARGIN + (i % columns) * (cell + _GAP)
        y = top + (i // columns) * row
        picture = _tile_picture(images[i], None if starts is None else starts[i], window, target)
        tiles.append(Tile(int(number), verdict, x, y, picture, value, SIGNS[verdict][0], note))
    small = _small_print(window, images.shape, verdicts, paired=paired, noted=any(notes))
    rule = tuple(wrap(small, page, 5.4))
    size = (page, top + math.ceil(len(images) / columns) * row + 62 + 15 * len(rule))
    head_of_page = (title, head, _legend(verdicts), rule)
    zoom = 1 if is_signal(images.shape) else high // images.shape[2]
    grey = not in_lines(images.shape)
    return ContactSheet(*head_of_page, tuple(tiles), columns, zoom, cell, size, window, grey)


def _target(n: int, *, paired: bool) -> int:
    """Longer side of a picture on screen: the fewer, the larger."""
    if n <= 4:
        return (448 if n == 1 else 224) * (3 if paired else 4) // 4
    return 112 if n <= 64 and not paired else 84


def _columns(n: int, cell: int, *, paired: bool) -> int:
    wanted = 8 if n <= 64 or paired else 16
    fitting = (_MAX_WIDTH - 2 * MARGIN + _GAP) // (cell + _GAP)
    return max(1, min(n, wanted, fitting))


def _tile_picture(image: Array, start: Array | None, window: Window, target: int) -> Pixels:
    oip = picture_of(image, window, target)
    if start is None:
        return oip
    gap = np.broadcast_to(colour(PAGE), (oip.shape[0], _PAIR_GAP, 3))
    return np.concatenate([picture_of(start, window, target), gap, oip], axis=1)


def _notes(verdicts: Sequence[str], bounds: Array | None) -> list[str]:
    """The bound matters where a map never answered: it is what was proven about it."""
    if bounds is None:
        return [""] * len(verdicts)
    pairs = zip(verdicts, np.asarray(bounds, np.float64), strict=True)
    return [
        f"≤ {bound:.2g}".replace("-", MINUS)
        if verdict in ("silent", "dead") and np.isfinite(bound)
        else ""
        for verdict, bound in pairs
    ]


def _legend(verdicts: Sequence[str]) -> str:
    counts = {name: list(verdicts).count(name) for name in SIGNS}
    return "   ".join(f"{SIGNS[k][0]} {n} {k}" for k, n in counts.items() if n)


def _small_print(
    window: Window, shape: tuple[int, ...], verdicts: Sequence[str], *, paired: bool, noted: bool
) -> str:
    parts, channels = [scale_rule(shape, window, "sheet")], shape[1]
    if channels not in (1, 3) and not is_signal(shape):
        parts.append(f"Grey: mean of the {channels} channels.")
    if paired:
        parts.append("Left: start image, right: OIP.")
    parts.append("Caption: map, mean activation, verdict unless found.")
    parts += [f"{word}: {MEANINGS[word]}." for word in MEANINGS if word in verdicts]
    if noted:
        parts.append("≤\u00a0proven upper bound of the pre-activation.")
    return " ".join(parts)


def map_pictures(images: Array, maps: Sequence[int] | Array) -> dict[str, Callable[[Path], None]]:
    """Return file name → function that writes it, for one PNG per map in the sheet's scale."""
    window = window_of(images)
    return {
        f"map_{number:03d}.png": partial(write_png, picture_of(image, window, PICTURE_PIXELS))
        for number, image in zip(maps, images, strict=True)
    }


def draw_contact_sheet(sheet: ContactSheet, figure: Figure | None = None) -> Figure:
    """Paint a contact sheet.

    Parameters
    ----------
    sheet : ContactSheet
        From `contact_sheet`.
    figure : matplotlib.figure.Figure, optional
        An empty figure to paint on (default: a new one that pyplot does not know).

    Returns
    -------
    matplotlib.figure.Figure
        100 dpi; save it at 100 or a multiple of it to keep the pixels crisp.
    """
    figure, axes = blank_page(sheet.size, figure)
    width, height = sheet.size
    write(axes, MARGIN, 58, sheet.title, 15, color=INK)
    write(axes, width - MARGIN, 58, sheet.legend, 9, ha="right")
    for i, line in enumerate(sheet.subtitle):
        write(axes, MARGIN, 81 + 17 * i, line, 9)
    for tile in sheet.tiles:
        paint(axes, tile.picture, tile.x, tile.y)
        _caption(axes, tile, sheet.cell)
        _frame(axes, tile)
    if sheet.grey:
        _scale_bar(axes, sheet.window, height - 40 - 15 * len(sheet.rule))
    for i, line in enumerate(sheet.rule):
        write(axes, MARGIN, height - 24 - 15 * (len(sheet.rule) - 1 - i), line, 7.5)
    return figure


def _caption(axes: Axes, tile: Tile, cell: int) -> None:
    base = tile.y + tile.picture.shape[0]
    tint = SIGNS[tile.verdict][1]
    write(axes, tile.x, base + 16, str(tile.map), 8.5, color=INK, weight="bold")
    write(axes, tile.x + cell, base + 16, tile.value, 8.5, color=INK, ha="right")
    if tile.verdict != USUAL:
        write(axes, tile.x, base + 30, f"{tile.sign} {tile.verdict}", 7.5, color=tint)
        write(axes, tile.x, base + 43, tile.note, 7.5, color=tint)


def _frame(axes: Axes, tile: Tile) -> None:
    """Mark a map that never answered: dashed while unproven, struck through when proven dead."""
    if tile.verdict not in FRAMES:
        return
    style, struck = FRAMES[tile.verdict]
    h, w = tile.picture.shape[:2]
    left, right, top, bottom = tile.x - 4, tile.x + w + 4, tile.y - 4, tile.y + h + 4
    if struck:
        axes.plot([tile.x, tile.x + w], [tile.y + h, tile.y], color=PAGE, linewidth=2.2)
    x, y = [left, right, right, left, left], [top, top, bottom, bottom, top]
    axes.plot(x, y, color=SOFT, linewidth=0.7, linestyle=style)


def _scale_bar(axes: Axes, window: Window, y: float) -> None:
    ramp = np.linspace(window.low, window.high, 128).reshape(1, 1, 128)
    low, high = format_values([window.low, window.high])
    write(axes, MARGIN, y + 8, low, 7.5)
    paint(axes, to_pixels(ramp, window).repeat(8, axis=0), MARGIN + 46, y)
    write(axes, MARGIN + 46 + 128 + 8, y + 8, high, 7.5)
