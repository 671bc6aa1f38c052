"""One image as a picture: its pixels, or, where its height is 1, a line over its samples.

A signal has a line for each channel, or, where they are many, a grey row for each. As on every
page all pictures of a sheet share one scale, and sizes are whole numbers of page pixels.
"""

from __future__ import annotations

import numpy as np

from .canvas import (
    HAIR,
    INK,
    MINUS,
    SPREAD_PERCENTILE,
    Array,
    Pixels,
    Window,
    colour,
    contrast_window,
    to_pixels,
    zoom_for,
)

LINES = {INK: "black", "#c05a2e": "rust", "#2f74a8": "blue", "#6f9a2d": "green"}
"""Colours of a signal's channels, as many as are drawn as lines, and what they are called."""

PAPER = "#f4f2ed"
_WIDE, _HIGH = 1.5, 0.75  # of a line's picture, in units of an image's longer side
_FINE = 4  # columns that are drawn for each that is shown
_EDGE = 3  # pixels above the highest value and below the lowest


def is_signal(shape: tuple[int, ...]) -> bool:
    """Tell whether an image (…, C, H, W) is a row of samples."""
    return shape[-2] == 1 and shape[-1] > 1


def in_lines(shape: tuple[int, ...]) -> bool:
    """Tell whether an image (…, C, H, W) is drawn as lines, not as greys or colours."""
    return is_signal(shape) and shape[-3] <= len(LINES)


def window_of(images: Array) -> Window:
    """Return the one scale for all pictures of a sheet; it cuts nothing off lines."""
    percentile = 100.0 if in_lines(images.shape) else SPREAD_PERCENTILE
    return contrast_window(images, percentile)


def size_of(shape: tuple[int, ...], target: int) -> tuple[int, int]:
    """Return height and width of a picture whose longer side would be `target` for an image."""
    if not is_signal(shape):
        zoom = zoom_for(shape, target)
        return shape[-2] * zoom, shape[-1] * zoom
    high, channels = round(_HIGH * target), shape[-3]
    rows = high if in_lines(shape) else channels * max(1, round(high / channels))
    return rows, round(_WIDE * target)


def picture_of(image: Array, window: Window, target: int) -> Pixels:
    """Return an image (C, H, W) as RGB bytes, of the size that `size_of` tells.

    Examples
    --------
    >>> import numpy as np
    >>> picture_of(np.zeros((1, 1, 100)), Window(-1.0, 1.0), 112).shape
    (84, 168, 3)
    """
    if not is_signal(image.shape):
        return to_pixels(image, window, zoom_for(image.shape, target))
    size = size_of(image.shape, target)
    draw = _lines if in_lines(image.shape) else _rows
    return draw(np.nan_to_num(np.asarray(image[:, 0], np.float64)), window, size)


def scale_rule(shape: tuple[int, ...], window: Window, where: str) -> str:
    """Return what the small print says of the scale; `where` is "sheet" or "strip"."""
    channels = shape[-3]
    low, high = f"{window.low:.3g}", f"{window.high:.3g}"
    if in_lines(shape):
        text = f"bottom {low}, top {high}, and a hair line at 0."
        named = ", ".join([*LINES.values()][:channels])
        text += f" Channels 0 to {channels - 1}: {named}." if channels > 1 else ""
    else:
        text = f"black {low}, white {high}"
        if where == "sheet":
            text += f" (mean ± {SPREAD_PERCENTILE:g}th percentile of the distance from it)"
        text += f". A row for each of {channels} channels." if is_signal(shape) else "."
    head = f"One linear scale for all pictures of this {where}, symmetrical around their mean: "
    return (head + text).replace("-", MINUS)


# --- signals ---------------------------------------------------------------------------------


def _lines(signal: Array, window: Window, size: tuple[int, int]) -> Pixels:
    """Draw a line for each channel (C, L), the first on top."""
    page = np.broadcast_to(colour(PAPER), (*size, 3)).astype(np.float64)
    if window.low < 0 < window.high:
        page[int(_level(0.0, window, size[0]))] = colour(HAIR)
    for values, ink in reversed([*zip(signal, LINES, strict=False)]):
        share = _coverage(_level(values, window, size[0]), size)[..., None]
        page = page * (1 - share) + colour(ink) * share
    return np.rint(page).astype(np.uint8)


def _level(values: Array | float, window: Window, height: int) -> Array:
    """Return how far below the upper edge of a picture values are drawn."""
    share = (window.high - np.asarray(values)) / (window.high - window.low)
    return np.asarray(_EDGE + np.clip(share, 0.0, 1.0) * (height - 2 * _EDGE))


def _coverage(levels: Array, size: tuple[int, int]) -> Array:
    """Return the share of every pixel that a line through `levels` covers, (h, w).

    In every narrow column the line reaches from its lowest to its highest level there, so that
    nothing is lost of signals with more samples than the picture has columns.
    """
    height, width = size
    columns = width * _FINE
    places = (np.arange(len(levels)) + 0.5) * columns / len(levels)
    ends = np.interp(np.arange(columns + 1), places, levels)
    top, bottom = np.minimum(ends[:-1], ends[1:]), np.maximum(ends[:-1], ends[1:])
    inside = places.astype(int)
    np.minimum.at(top, inside, levels)
    np.maximum.at(bottom, inside, levels)
    around = np.arange(columns)[:, None] + np.arange(-(_FINE // 2), _FINE // 2 + 1)
    around = np.clip(around, 0, columns - 1)
    thick = max(1.4, height / 120)
    top, bottom = top[around].min(axis=1) - thick / 2, bottom[around].max(axis=1) + thick / 2
    rows = np.arange(height)[:, None]
    covered = np.clip(np.minimum(rows + 1, bottom) - np.maximum(rows, top), 0.0, 1.0)
    return np.asarray(covered.reshape(height, width, _FINE).mean(axis=2))


def _rows(signal: Array, window: Window, size: tuple[int, int]) -> Pixels:
    """Draw a grey row for each channel (C, L); columns are means of the samples in them."""
    length, (height, width) = signal.shape[1], size
    if length > width:
        starts = np.arange(width) * length // width
        counts = np.diff(np.append(starts, length))
        signal = np.add.reduceat(signal, starts, axis=1) / counts
    else:
        signal = signal[:, np.arange(width) * length // width]
    return to_pixels(signal[None].repeat(height // len(signal), axis=1), window)
