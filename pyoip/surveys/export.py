"""A survey as a table for other programs: a row per map and mix."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EngineUnavailable, InvalidArgument
from ..files import check_place, replacing
from .findings import Survey
from .store import reading

COLUMNS = (
    *("mix", "map", "alive", "activation", "preactivation", "verdict", "woke", "steps", "stop"),
    "start",
)
_KINDS = (".csv", ".parquet", ".npz")


def write_table(survey: Survey, path: str | Path) -> int:
    """Write a survey's rows, in the order of mixes and maps; return their number.

    Parameters
    ----------
    survey : Survey
    path : path
        ``.csv``: the columns `COLUMNS`, and each mix's scales, weights and smoothing.
        ``.parquet``: the same and the images, flat, in float32; the plan is in the file's
        metadata as ``pyoip.plan``. ``.npz``: arrays (mixes, maps), the images among them, with
        the plan as JSON.

    Raises
    ------
    InvalidArgument
        Another ending, or a folder that is not there.
    EngineUnavailable
        Parquet takes pyarrow, which is not installed.
    """
    file = Path(path)
    if file.suffix not in _KINDS:
        raise InvalidArgument(f"{file}: must end in {', '.join(_KINDS)}")
    check_place(file)
    write = {".csv": _write_csv, ".parquet": _write_parquet, ".npz": _write_arrays}[file.suffix]
    with replacing(file) as temporary:
        return write(survey, temporary)


def _rows(survey: Survey, *more: str) -> Iterator[tuple[Any, ...]]:
    asked = f"SELECT {', '.join((*COLUMNS, *more))} FROM oips ORDER BY mix, map"
    with reading(survey.path) as database:
        yield from database.execute(asked)


def _mixture(survey: Survey, mix: int) -> tuple[str, str, int]:
    chosen = survey.plan.mixes[mix]
    scales, weights = (" ".join(f"{n:g}" for n in part) for part in (chosen.scales, chosen.weights))
    return scales, weights, chosen.smoothing


def _write_csv(survey: Survey, path: Path) -> int:
    rows = [(*row, *_mixture(survey, row[0])) for row in _rows(survey)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, "scales", "weights", "smoothing"))
        writer.writerows(rows)
    return len(rows)


def _write_parquet(survey: Survey, path: Path) -> int:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise EngineUnavailable(
            "Parquet takes pyarrow: pip install 'pyoip[survey]', or export .csv or .npz"
        ) from None
    kinds = {"activation": pyarrow.float32(), "preactivation": pyarrow.float32()}
    texts = dict.fromkeys(("verdict", "stop", "scales", "weights"), pyarrow.string())
    names = (*COLUMNS, "scales", "weights", "smoothing")
    fields = [(name, {**kinds, **texts}.get(name, pyarrow.int64())) for name in names]
    fields.append(("image", pyarrow.list_(pyarrow.float32(), int(np.prod(survey.plan.shape)))))
    schema = pyarrow.schema(fields, {"pyoip.plan": json.dumps(survey.plan.as_texts())})
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for rows in _batched(_rows(survey, "image"), 1024):
            full = [
                (*row[:-1], *_mixture(survey, row[0]), np.frombuffer(row[-1], np.float32))
                for row in rows
            ]
            columns = [list(column) for column in zip(*full, strict=True)]
            writer.write_table(pyarrow.table(columns, schema=schema))
            count += len(rows)
    return count


def _batched(rows: Iterator[tuple[Any, ...]], most: int) -> Iterator[list[tuple[Any, ...]]]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch


def _write_arrays(survey: Survey, path: Path) -> int:
    """An .npz whose images are written one by one: all of them may not fit into memory."""
    names = ("alive", "activations", "preactivations", "verdicts", "stops", "steps", "woke")
    arrays = {name: getattr(survey, name) for name in (*names, "starts", "real", "bounds")}
    arrays |= {"maps": np.array(survey.maps), "plan": np.array(json.dumps(survey.plan.as_texts()))}
    with zipfile.ZipFile(path, "w", allowZip64=True) as file:
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        with file.open("images.npy", "w", force_zip64=True) as member:
            shape = (len(survey.plan.mixes), len(survey.maps), *survey.plan.shape)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for image in _images(survey):
                member.write(image)
    return int(np.isfinite(survey.activations).sum())


def _images(survey: Survey) -> Iterator[bytes]:
    """Images in the order of mixes and the plan's maps, NaN where none is stored yet."""
    missing = np.full(survey.plan.shape, np.nan, "<f4").tobytes()
    with reading(survey.path) as database:
        for mix in range(len(survey.plan.mixes)):
            asked = database.execute("SELECT map, image FROM oips WHERE mix = ?", (mix,))
            stored = dict(asked.fetchall())
            yield from (stored.get(number, missing) for number in survey.maps)
