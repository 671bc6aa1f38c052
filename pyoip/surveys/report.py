"""A survey in words and in a folder: where it stands, what it found, what is known of one map."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..files import check_place, replacing
from ..summary import ranges
from .plan import describe

if TYPE_CHECKING:
    from .findings import Survey


def status(found: Survey) -> list[str]:
    """Where it stands: pieces, rates, time left, silent maps."""
    plan = found.plan
    lines = [
        f"{plan.network}, layer {plan.layer} ({plan.layer_name}): {len(plan.maps)} maps, "
        f"{len(plan.mixes)} mixes of {', '.join(f'{scale:g}' for scale in plan.scales)} px, "
        f"{plan.starts} start images each, {plan.ascents} ascents for each map and mix",
        f"stored: {found.done} of {found.total} pieces, {found.ascents} ascents, "
        f"{found.images_scored} start images scored, in {found.seconds:.1f} s",
    ]
    if not found.complete and found.done:
        left = found.seconds * (found.total / found.done - 1)
        lines.append(f"about {left:.0f} s to come at that rate")
    missing = [best.map for best in found.best if best.verdict == "missing"]
    silent = [best.map for best in found.best if best.activation <= 0]
    dead = [best.map for best in found.best if best.verdict == "dead"]
    still = sorted(set(silent) - set(dead))
    if dead:
        lines.append(f"dead by proof: {ranges(sorted(dead))}")
    if still:
        lines.append(f"silent{'' if found.complete else ' so far'}: {ranges(still)}")
    if missing:
        lines.append(f"not climbed for yet: {ranges(sorted(missing))}")
    return lines


def summary(found: Survey) -> list[str]:
    """What it found, in a few lines."""
    lines = status(found)
    counts = ", ".join(f"{count} {name}" for name, count in found.counts().items())
    if found.complete:
        lines.append(f"maps: {counts}")
    else:
        lines.append(f"maps so far: {counts}; what is told here may change until all is stored")
    lines += _article(found)
    if found.complete:
        lines += _scales(found)
        lines += _cover(found)
    return lines


def _article(found: Survey) -> list[str]:
    reached = found.article_found()
    if not len(reached):
        return []
    union = int((found.article() > 0).any(axis=0).sum())
    rest = ""
    if len(reached) < found.plan.article:
        rest = f"; {found.plan.article - len(reached)} more to come"
    if len(reached) > 1:
        low, high = reached.min(), reached.max()
        span = f"{low} to {high}, together {union}" if low < high else f"{low} each"
        rest = f"; over {len(reached)} of them {span}{rest}"
    return [
        f"the article's way, from its first start image: {reached[0]} of {len(found.maps)}{rest}"
    ]


def _scales(found: Survey) -> list[str]:
    """How many maps which scale wakes best, where any stands out."""
    best = [
        scale
        for scale, map_ in zip(found.best_scales(), found.best, strict=True)
        if map_.activation > 0
    ]
    counts = [f"{scale:g} px {best.count(scale)}" for scale in found.plan.scales if scale in best]
    if not counts:
        return ["no scale wakes any map better than the others do"]
    return [f"maps that a scale wakes best: {', '.join(counts)}; no scale best: {best.count(None)}"]


def _cover(found: Survey) -> list[str]:
    cover = found.cover
    if not cover:
        return []
    covered = sum(starter.new for starter in cover)
    return [
        f"start images that activate {covered} maps together: {len(cover)}; the first alone "
        f"{cover[0].new}",
        *([f"maps that wake in ascents alone: {ranges(sorted(found.woken))}"] * bool(found.woken)),
    ]


def percent(share: float) -> str:
    """A share in per cent, with a digit where it is near none or all.

    Examples
    --------
    >>> percent(0.5), percent(0.0123), percent(0.996), percent(1), percent(float("nan"))
    ('50 %', '1.2 %', '99.6 %', '100 %', '-')
    """
    if math.isnan(share):
        return "-"
    return f"{100 * share:.1f} %" if 0 < min(share, 1 - share) < 0.1 else f"{100 * share:.0f} %"


# --- one map -----------------------------------------------------------------------------------


def about_map(found: Survey, number: int) -> list[str]:
    """What is known of one map: verdict, what wakes it, and its OIPs, the best first."""
    column = found.column(number)
    best = found.best[column]
    lines = [f"map {number} of {found.plan.network}, layer {found.plan.layer}: {best.verdict}"]
    if not found.complete:
        lines.append(f"so far: {found.done} of {found.total} pieces are stored")
    if best.verdict == "missing":
        return lines
    lines.append(_measured(found, column))
    lines += _by_scale(found, column)
    low, high = found.intervals()
    lines.append("\nstart images that activate it, by mix (95 % interval)")
    order = np.argsort(-found.alive[:, column], kind="stable")
    for mix in order[np.isfinite(found.alive[order, column])]:
        interval = f"{percent(low[mix, column])} to {percent(high[mix, column])}"
        share = percent(found.alive[mix, column])
        lines.append(f"  {share:>7}  ({interval})  {found.mixes[mix]}")
    clusters = found.clusters(number)
    if clusters:
        several = "one kind" if len(clusters) == 1 else f"{len(clusters)} kinds"
        alike = found.alikeness(number)
        how = "" if math.isnan(alike) else f"; they correlate with the highest by {alike:.2f}"
        lines.append(f"\n{several} of OIP{how}")
    for cluster in clusters:
        lines.append(
            f"  activation {cluster.activation:.4g}, from {len(cluster.mixes)} of "
            f"{len(found.mixes)} mixes, best from {found.mixes[cluster.mix]}"
        )
    return lines


def _by_scale(found: Survey, column: int) -> list[str]:
    """What each length scale does for a map."""
    low, high = found.waking_intervals()
    shares, leads = found.waking()[column], found.leading()[column]
    lines = [
        "\nby length scale: start images that activate it (95 % interval), part of its highest"
    ]
    for i, scale in enumerate(found.plan.scales):
        interval = f"{percent(low[column, i])} to {percent(high[column, i])}"
        lines.append(
            f"  {scale:>4g} px  {percent(shares[i]):>7}  ({interval})  {percent(leads[i])}"
        )
    return lines


def _measured(found: Survey, column: int) -> str:
    best = found.best[column]
    parts = [f"activation {best.activation:.4g}"]
    if best.activation <= 0:
        parts.append(f"preactivation {best.preactivation:.4g}")
    if np.isfinite(found.real[column]):
        parts.append(f"real images reach {found.real[column]:.4g}")
    if np.isfinite(found.bounds[column]):
        parts.append(f"preactivation proven at most {found.bounds[column]:.4g}")
    which = "all start images" if found.complete else "the start images so far"
    parts.append(f"{percent(best.alive)} of {which} activate it")
    way = found.article()[:, column]
    if len(way):
        parts.append(f"the article's way from {int((way > 0).sum())} of {len(way)}")
    return ", ".join(parts)


def as_picture(path: str | os.PathLike[str]) -> Path:
    """The path of a picture, checked before there is one."""
    file = Path(path)
    if file.suffix.lower() != ".png":
        raise DataError(f"{file}: must end in .png")
    return file


def write_map(found: Survey, number: int, path: str | os.PathLike[str]) -> Path:
    """Draw a map's several OIPs as PNG."""
    from .pictures import write_gallery

    file = as_picture(path)
    check_place(file)
    write_gallery(found, [number], file)
    return file


# --- a folder ----------------------------------------------------------------------------------

_HEAD = (
    *("map", "verdict", "activation", "preactivation", "real", "bound", "alive", "mix", "start"),
    *("kinds", "alikeness", "article"),
)


def write_report(found: Survey, folder: str | os.PathLike[str]) -> list[Path]:
    """Write text, table and figures of a survey into a folder; files of their names are replaced.

    Raises
    ------
    DataError
        Nothing is stored yet, or `folder` cannot be written.
    """
    from .pictures import write_pictures

    if not np.isfinite(found.activations).any():
        raise DataError(f"{found.path}: nothing to report yet; no map has been climbed for")
    place = Path(folder)
    try:
        _check_place(found, place)
        place.mkdir(parents=True, exist_ok=True)
        return [*_texts(found, place), *write_pictures(found, place)]
    except OSError as error:
        raise DataError(f"{place}: {error.strerror or error}") from None


def _check_place(found: Survey, place: Path) -> None:
    """Refuse the report of another survey; pages of an earlier one of this go."""
    if place.is_file():
        raise DataError(f"{place}: is a file, and a report is a folder: choose another")
    text = place / "report.txt"
    if text.exists():
        first = text.read_text(encoding="utf-8").partition("\n")[0]
        if first != status(found)[0]:
            raise DataError(
                f"{place}: holds the report of another survey ({first}); choose another"
            )
        for page in place.glob("gallery*.png"):
            page.unlink()


def _texts(found: Survey, place: Path) -> list[Path]:
    text, table = place / "report.txt", place / "maps.csv"
    with replacing(text) as temporary:
        temporary.write_text(f"{found}\n", encoding="utf-8")
    with replacing(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*_HEAD, *(f"alive {scale:g} px" for scale in found.plan.scales)))
        writer.writerows(_row(found, number) for number in found.maps)
    return [text, table]


def _row(found: Survey, number: int) -> tuple[Any, ...]:
    column = found.maps.index(number)
    best = found.best[column]
    return (
        *(number, best.verdict, best.activation, best.preactivation),
        *(found.real[column], found.bounds[column], best.alive),
        describe(found.plan.mixes[best.mix]) if best.mix >= 0 else "",
        best.start,
        len(found.clusters(number)),
        found.alikeness(number),
        int((found.article()[:, column] > 0).sum()),
        *found.waking()[column],
    )
