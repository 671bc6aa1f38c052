"""The answers as pictures: which scales wake a map, what serves a layer, one OIP or several.

Data first, drawing second, as in `pyoip.figures`: `waking_map`, `coverage`, `gallery` and
`starters` are pure functions of a survey that say everything a page shows, `draw_…` puts it on a
matplotlib figure, and `write_pictures` writes them all. A survey that is not complete is drawn as
it stands.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...canvas import Window, write_figure
from .coverage import coverage, draw_coverage
from .gallery import MAPS_ON_PAGE, draw_gallery, gallery, gallery_window
from .starters import draw_starters, starters
from .waking import draw_waking_map, waking_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..findings import Survey

__all__ = [
    "coverage",
    "draw_coverage",
    "draw_gallery",
    "draw_starters",
    "draw_waking_map",
    "gallery",
    "starters",
    "waking_map",
    "write_gallery",
    "write_pictures",
]


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
