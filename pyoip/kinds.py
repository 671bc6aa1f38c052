"""What a file is that was given to the wrong command, and which command takes it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import NamedTuple

from .errors import DataError
from .folder import ARRAYS, DOCUMENT

_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")


class Kind(NamedTuple):
    """A kind of file."""

    name: str
    """``"model"``, ``"survey"``, ``"start"``, or something else."""
    told: str
    """What it is, and what takes it."""


def kind_of(path: str | os.PathLike[str]) -> Kind | None:
    """Return what a file or folder is, by what it holds; None where nothing is known of it.

    Examples
    --------
    >>> kind_of("mnist").told
    "a network that ships with pyoip; 'pyoip layers mnist' lists its layers"
    """
    place = Path(path)
    try:
        if place.is_dir():
            return _folder(place)
        if place.is_file():
            return _file(place)
    except OSError:
        return None
    if str(path) != "mnist":
        return None
    return Kind("model", "a network that ships with pyoip; 'pyoip layers mnist' lists its layers")


def _folder(place: Path) -> Kind | None:
    if (place / DOCUMENT).exists():
        return Kind("result", f"a saved result; {_start(place)} goes on from it")
    if (place / "report.txt").exists() and (place / "maps.csv").exists():
        return Kind("report", f"the report of a survey, to be read in {place / 'report.txt'}")
    if (place / "page.json").exists():
        return Kind("page", f"a page; 'python -m http.server --directory {place}' shows it")
    if models := sorted(place.glob("*.onnx")):
        return Kind("folder", f"a folder, with the model {models[0]} in it")
    return None


def _file(place: Path) -> Kind | None:
    with place.open("rb") as file:
        head = file.read(16)
    if place.name in (DOCUMENT, ARRAYS) and (place.parent / DOCUMENT).exists():
        return Kind("result", f"part of a saved result; {_start(place.parent)} goes on from it")
    if head == b"SQLite format 3\0":
        return _database(place)
    return _start_image(place, head) or _model(place)


def _start_image(place: Path, head: bytes) -> Kind | None:
    if head.startswith(_PICTURES):
        return Kind("start", f"a picture; {_start(place)} begins with it")
    if head.startswith(b"\x93NUMPY") or _holds(place, ".npy"):
        return Kind("start", f"an array; {_start(place)} begins with the images in it")
    return None


def _model(place: Path) -> Kind | None:
    if _holds(place, "data.pkl"):
        return Kind("torch", "a file of torch's; in Python torch.onnx.export makes a model of it")
    if _is_step(place):
        return Kind("step", "an exported ascent step, for runtimes; give the model it was made of")
    if place.suffix.lower() == ".onnx":
        return Kind("model", f"a model; 'pyoip layers {place}' lists its layers")
    return None


def _start(place: Path) -> str:
    return f"'pyoip ascend MODEL --start {place}'"


def _database(place: Path) -> Kind:
    from .surveys.store import reading

    try:
        with reading(place):
            return Kind("survey", f"a survey's file; 'pyoip survey status {place}' tells of it")
    except DataError:
        return Kind("survey", "a database, and no survey that this pyoip reads")


def _is_step(place: Path) -> bool:
    """Whether what `pyoip.export_step` notes stands at its end, where ONNX keeps notes."""
    with place.open("rb") as file:
        file.seek(max(0, place.stat().st_size - 4096))
        return b"pyoip.objective" in file.read()


def _holds(place: Path, ending: str) -> bool:
    """Whether it is an archive with files of that ending."""
    try:
        with zipfile.ZipFile(place) as archive:
            return any(name.endswith(ending) for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False
