"""The page that all pictures share: one grey scale, crisp pixels, quiet type.

Positions are pixels of a 100-dpi figure, x to the right and y downwards, and every
image pixel covers a whole number of them, so that nothing is resampled.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
SPREAD_PERCENTILE = 99.0

PAGE = "#fcfbf9"
INK = "#1d1d1b"
SOFT = "#77756f"
HAIR = "#dedbd4"

# Verdict -> (sign, colour). The sign alone tells them apart; colour only helps.
SIGNS = {
    "found": ("●", "#8d8b84"),
    "unfinished": ("▲", "#4f6f93"),
    "weak": ("○", "#a06a1c"),
    "silent": ("\u2013", "#7a5c86"),
    "dead": ("\u00d7", "#a8463a"),
}

# Backends that draw into files; with any other, a window can be opened.
STILL_BACKENDS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")

QUICK = 1  # PNG compression: a fifth larger files in half the time
MARGIN = 48
MINUS = "\u2212"

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Window:
    """The linear grey scale of one sheet: values at or below `low` are black, from `high` white."""

    low: float
    high: float


def contrast_window(images: Array, percentile: float = SPREAD_PERCENTILE) -> Window:
    """Return the one grey scale for all pictures of a sheet.

    Linear and symmetrical around the mean of all pixels; half its width is the 99th
    percentile of the pixels' distance from that mean, so that one pixel in a hundred
    is clipped, and a map's contrast can be compared with its neighbour's.

    Parameters
    ----------
    images : ndarray, (n, C, H, W)
        All pictures of the sheet. Values that are not finite are left out.
    percentile : float
        Of the distance from the mean (default 99).

    Returns
    -------
    Window

    Examples
    --------
    >>> import numpy as np
    >>> contrast_window(np.array([-2.0, 0.0, 2.0]).reshape(1, 1, 1, 3))
    Window(low=-2.0, high=2.0)
    """
    values = np.asarray(images, np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return Window(-1.0, 1.0)
    mean = float(values.mean())
    half = float(np.percentile(np.abs(values - mean), percentile))
    half = half or 1.0  # flat pictures are drawn in the middle grey
    return Window(mean - half, mean + half)


def to_pixels(image: Array, window: Window, zoom: int = 1) -> Pixels:
    """Return one image as RGB bytes, each pixel a block of `zoom` by `zoom`.

    Parameters
    ----------
    image : ndarray, (C, H, W)
        One channel is drawn grey, three as red, green and blue; of any other number
        the mean over the channels is drawn grey.
    window : Window
        See `contrast_window`.
    zoom : int
        Screen pixels per image pixel and direction (default 1).

    Returns
    -------
    ndarray of uint8, (H·zoom, W·zoom, 3)
    """
    image = np.nan_to_num(np.asarray(image, np.float64), nan=window.low)
    if len(image) not in (1, 3):
        image = image.mean(axis=0, keepdims=True)
    share = (image - window.low) / (window.high - window.low)
    levels = np.rint(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)
    rgb = np.broadcast_to(levels, (3, *levels.shape[1:])).transpose(1, 2, 0)
    return np.ascontiguousarray(rgb.repeat(zoom, axis=0).repeat(zoom, axis=1))


def colour(text: str) -> Pixels:
    """Return a colour written as ``#rrggbb`` as three bytes."""
    return np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)


def zoom_for(shape: tuple[int, ...], target: int) -> int:
    """Return the whole factor that brings the longer side of `shape` nearest to `target` pixels."""
    return max(1, round(target / max(shape[-2:])))


def format_values(values: Sequence[float] | Array) -> list[str]:
    """Return numbers as text with the same count of decimals, four digits for the largest.

    What would read as zero without being it is written as a power of ten.

    Examples
    --------
    >>> format_values([12.3456, 0.5, 0.0, 0.0002])
    ['12.35', '0.50', '0.00', '2e\u22124']
    """
    values = np.asarray(values, np.float64)
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max()) if finite.size else 0.0
    decimals = 3 - math.floor(math.log10(largest)) if largest else 3
    if largest and not 1e-3 <= largest < 1e6:
        return [_scientific(v) for v in values]
    return [_decimal(v, max(0, decimals)) for v in values]


def _scientific(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("-", MINUS)


def _decimal(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    if value and not float(text):  # small is not nothing
        return _scientific(value)
    return text.replace("-", MINUS)


def wrap(text: str, width: int, character: float) -> list[str]:
    """Lines that fit between the margins, at `character` pixels per character."""
    return textwrap.wrap(text, int((width - 2 * MARGIN) / character))


def blank_page(size: tuple[int, int], figure: Figure | None) -> tuple[Figure, Axes]:
    """Return a page whose data coordinates are its pixels."""
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure() if figure is None else figure
    figure.set_dpi(DPI)
    figure.set_size_inches(size[0] / DPI, size[1] / DPI)
    figure.set_facecolor(PAGE)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axes.autoscale(False)  # otherwise each picture moves the limits to its own extent
    axes.set_axis_off()
    return figure, axes


def write(axes: Axes, x: float, y: float, text: str, size: float, **style: Any) -> None:
    """Put text at a point of the page, in points of size, soft grey unless told otherwise."""
    # Whatever the user's matplotlibrc says; and a network may be called "cost_$x$".
    fixed = {"fontfamily": "DejaVu Sans", "usetex": False, "parse_math": False}
    axes.text(x, y, text, fontsize=size, **{"color": SOFT, "va": "baseline", **fixed, **style})


def paint(axes: Axes, picture: Pixels, x: float, y: float) -> None:
    """Put a picture with its top left corner at a point of the page, one page pixel per pixel."""
    h, w = picture.shape[:2]
    box = (x, x + w, y + h, y)
    axes.imshow(picture, extent=box, origin="upper", interpolation="nearest", aspect="auto")


def show(draw: Callable[[Figure | None], Figure]) -> Figure:
    """Draw in a window if matplotlib has an interactive backend, else on a free figure.

    The only function here that touches pyplot.

    Parameters
    ----------
    draw : callable
        Takes an empty figure or None, returns what it drew.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib

    backend = matplotlib.get_backend().lower()
    if backend in STILL_BACKENDS or backend.endswith("inline"):
        return draw(None)
    from matplotlib import pyplot

    figure = draw(pyplot.figure())
    pyplot.show()
    return figure


def prepare() -> None:
    """Load what drawing takes, in a thread: a third of a second that can pass beside other work."""
    names = "matplotlib.figure", "matplotlib.backends.backend_agg"
    Thread(target=lambda: [import_module(name) for name in names], name="pyoip-canvas").start()


def write_figure(draw: Callable[[], Figure], target: str | os.PathLike[str] | BinaryIO) -> None:
    """Write what `draw` draws as PNG at 100 dpi, whatever the user's savefig settings are."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(draw())
    canvas.print_png(target, pil_kwargs={"compress_level": QUICK})  # type: ignore[no-untyped-call]


def write_png(pixels: Pixels, path: str | os.PathLike[str]) -> None:
    """Write RGB bytes (H, W, 3) as PNG, with one channel where all three are equal."""
    from PIL import Image

    grey = bool((pixels == pixels[:, :, :1]).all())
    Image.fromarray(pixels[:, :, 0] if grey else pixels).save(
        path, format="PNG", compress_level=QUICK
    )
