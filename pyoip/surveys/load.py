"""A survey's file, read into its findings."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .findings import Survey
from .plan import Plan
from .store import reading

Array = NDArray[Any]


def load_survey(path: str | os.PathLike[str]) -> Survey:
    """Read what a survey has found so far, also while it is running.

    Parameters
    ----------
    path : path
        The file that `pyoip.survey` writes.

    Raises
    ------
    DataError
        There is none, or it is something else.
    """
    with reading(path) as database:
        plan = Plan.from_texts(dict(database.execute("SELECT name, value FROM plan")))
        limits = database.execute("SELECT map, real, bound FROM maps")
        known = {number: (highest, bound) for number, highest, bound in limits}
        sessions = database.execute("SELECT SUM(seconds), SUM(ascents), SUM(images) FROM sessions")
        seconds, ascents, images = sessions.fetchone()
        done = database.execute("SELECT COUNT(*) FROM tasks").fetchone()[0]
        pairs = [known.get(number, (None, None)) for number in plan.maps]
        ends = np.array(pairs, np.float64).reshape(-1, 2)
        return Survey(
            path=Path(path),
            plan=plan,
            **_oips(database, plan),
            real=ends[:, 0],
            bounds=ends[:, 1],
            done=done,
            total=sum(1 for _ in plan.tasks()),
            seconds=seconds or 0.0,
            ascents=ascents or 0,
            images_scored=images or 0,
            _article=_article(database, plan),
        )


def _oips(database: Any, plan: Plan) -> dict[str, Any]:
    shape = (len(plan.mixes), len(plan.maps))
    numbers = {n: np.full(shape, np.nan) for n in _NUMBERS}
    texts = {n: np.full(shape, "", "<U16") for n in _TEXTS}
    column = {number: i for i, number in enumerate(plan.maps)}
    asked = f"SELECT mix, map, {', '.join((*_NUMBERS.values(), *_TEXTS.values()))} FROM oips"
    rows = database.execute(asked).fetchall()
    if rows:
        mix, number, *values = zip(*rows, strict=True)
        places = list(mix), [column[n] for n in number]
        for array, found in zip((*numbers.values(), *texts.values()), values, strict=True):
            array[places] = found
    numbers["alive"] /= plan.starts
    return {**numbers, **texts}


_NUMBERS = {
    "alive": "alive",
    "activations": "activation",
    "preactivations": "preactivation",
    "steps": "steps",
    "woke": "woke",
    "starts": "start",
}
_TEXTS = {"verdicts": "verdict", "stops": "stop"}


def _article(database: Any, plan: Plan) -> dict[str, Array]:
    # By the table's own key, that is in the order of the start images and maps.
    asked = "SELECT activation FROM article ORDER BY start, map"
    values = np.fromiter(itertools.chain.from_iterable(database.execute(asked)), np.float64)
    places = np.argsort(np.argsort(plan.maps))
    return {"activations": values.reshape(-1, len(plan.maps))[:, places]}
