"""A small survey, and what of its file depends on the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pyoip
from pyoip.surveys import plan
from pyoip.surveys.store import reading

MIXES = pyoip.grid(scales=(1, 4), smoothings=(0, 1))  # six
LAYER = "conv3:20-27"  # of the shipped network; 25 is dead
FEW: dict[str, Any] = {"mixes": MIXES, "starts": 30, "ascents": 2, "article": 2, "steps": 24}
TABLES = {
    "plan": "name",
    "maps": "map",
    "tasks": "kind, mix, first",
    "scores": "mix, first",
    "oips": "mix, map",
    "article": "start, map",
}


def small_pieces(patch: pytest.MonkeyPatch) -> None:
    """A small survey in eleven: of the article 2, scored 3 of two mixes each, climbed 6."""
    patch.setattr(plan, "MIXES_AT_ONCE", 2)
    patch.setattr(plan, "CLIMBED_AT_ONCE", 8)


def survey(out: Path, **changed: Any) -> pyoip.Survey:
    return pyoip.survey("mnist", LAYER, out=out, **{**FEW, **changed})


def contents(path: Path) -> dict[str, list[Any]]:
    """All that depends on the plan: every table but the sessions, in order."""
    with reading(path) as database:
        return {
            table: database.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()
            for table, order in TABLES.items()
        }
