"""A survey in words: what it is about, where it stands, and what it found."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..summary import ranges

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
    silent = [best.map for best in found.best if not best.activation > 0]
    lines.append(f"silent so far: {ranges(silent) if silent else 'none'}")
    return lines


def summary(found: Survey) -> list[str]:
    """What it found, in a few lines."""
    lines = status(found)
    counts = ", ".join(f"{count} {name}" for name, count in found.counts().items())
    lines.append(f"maps: {counts}")
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
    if len(reached) > 1:
        rest = f"; over {len(reached)} of them {reached.min()} to {reached.max()}, together {union}"
    return [
        f"the article's way, from its first start image: {reached[0]} of {len(found.maps)}{rest}"
    ]


def _scales(found: Survey) -> list[str]:
    waking = found.waking()
    awake = np.flatnonzero(waking.max(axis=1) > 0)
    if not len(awake):
        return []
    best = waking[awake].argmax(axis=1)
    counts = [f"{scale:g} px {(best == i).sum()}" for i, scale in enumerate(found.plan.scales)]
    return [f"maps that a scale wakes best: {', '.join(counts)}"]


def _cover(found: Survey) -> list[str]:
    cover = found.cover
    if not cover:
        return []
    covered = sum(starter.new for starter in cover)
    return [
        f"start images that activate {covered} maps together: {len(cover)}; the first alone "
        f"{cover[0].new}"
    ]


def percent(share: float) -> str:
    """A share in per cent, with a digit where it is small.

    Examples
    --------
    >>> percent(0.5), percent(0.0123), percent(float("nan"))
    ('50 %', '1.2 %', '-')
    """
    if math.isnan(share):
        return "-"
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"
