"""A saved result on disk: one folder with pictures, arrays and a JSON document, all or nothing.

Files are written into a hidden folder beside their final place and renamed when all
of them are complete; ``result.json`` comes last and names every file and the checksum
of the arrays, so that a folder caught half-way is recognised when it is read. A
folder is written only when it is empty or holds an earlier result and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import DataError

DOCUMENT = "result.json"
ARRAYS = "oips.npz"
FORMAT = "pyoip result"
FORMAT_VERSION = 1
STAGING = ".pyoip-"  # how the folders begin that hold what is not complete yet

Array = npt.NDArray[Any]
Document = dict[str, Any]


def check_folder(
    directory: str | os.PathLike[str],
    sha256: str,
    layer: int,
    maps: Iterable[int] = (),
    *,
    overwrite: bool = False,
) -> None:
    """Raise `DataError` unless a result of this layer can be saved in `directory`.

    To be called before hours of work as well as before saving. What is there stays
    as it is; a folder that is missing is not left behind.

    Parameters
    ----------
    directory : path
        May be missing; its parents may be missing too.
    sha256, layer, maps : str, int, integers
        Network, layer and maps of the result; an earlier result of the same network and
        layer is replaced if it has no further maps.
    overwrite : bool
        Replace any earlier result (default False).
    """
    path = Path(directory)
    if path.exists() and not path.is_dir():
        raise DataError(f"{path}: is a file, and a result is saved as a folder: choose another")
    with as_data_error(path, "cannot be written"):
        _check_contents(path, (sha256, layer, set(maps)), overwrite=overwrite)
        with made(path), tempfile.TemporaryDirectory(prefix=STAGING, dir=path):
            pass


def _check_contents(path: Path, new: tuple[str, int, set[int]], *, overwrite: bool) -> None:
    names = {p.name for p in path.iterdir()} if path.exists() else set()
    before = _earlier(path)
    foreign = sorted(n for n in names - set(before["files"]) if not n.startswith(STAGING))
    if foreign:
        raise DataError(
            f"{path}: holds {foreign[0]!r}, which is not part of a saved result: "
            "choose an empty or a new folder"
        )
    if not before["files"] or overwrite:
        return
    lost = {entry["map"] for entry in before["maps"]} - new[2]
    if (before["sha256"], before["layer"]) == new[:2] and lost:
        raise DataError(
            f"{path}: holds {len(lost)} maps of this layer that the new result lacks: choose "
            "another folder, or allow it to be replaced (overwrite=True)"
        )
    if (before["sha256"], before["layer"]) != new[:2]:
        raise DataError(
            f"{path}: holds the result of {before['network']}, layer {before['layer']}: choose "
            "another folder, or allow it to be replaced (overwrite=True)"
        )


def _earlier(path: Path) -> Document:
    """The document of the result saved here before; one without files if there is none."""
    try:
        document = json.loads((path / DOCUMENT).read_bytes())
        if document["format"] == FORMAT:
            return {key: document[key] for key in ("files", "sha256", "layer", "network", "maps")}
    except (OSError, ValueError, TypeError, KeyError):
        pass
    return {"files": []}


@contextmanager
def as_data_error(path: Path, what: str) -> Iterator[None]:
    """Raise `DataError` for what the operating system refuses."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path}: {what}: {reason}") from error


@contextmanager
def made(path: Path) -> Iterator[None]:
    """Make `path` with its parents; on the way out remove what is still empty of them."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for folder in missing:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def write_folder(
    directory: str | os.PathLike[str],
    document: Document,
    arrays: Mapping[str, Array],
    pictures: Mapping[str, Callable[[Path], None]],
    *,
    overwrite: bool = False,
) -> None:
    """Save a result: everything or nothing.

    Parameters
    ----------
    directory : path
        See `check_folder`, which is called first.
    document : dict
        Becomes ``result.json``; must hold ``sha256``, ``layer``, ``network`` and
        ``maps``.
    arrays : mapping of str to ndarray
        Becomes ``oips.npz``.
    pictures : mapping of str to callable
        File name → function that writes that file to the path it is given.
    overwrite : bool
        See `check_folder`.

    Raises
    ------
    DataError
        The folder holds something else, or the disk is full or read-only; nothing
        was changed then.
    """
    path = Path(directory)
    maps = [entry["map"] for entry in document["maps"]]
    check_folder(path, document["sha256"], document["layer"], maps, overwrite=overwrite)
    with as_data_error(path, "the result could not be saved"), made(path):
        clear_staging(path)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=path))
        try:
            names = _stage(staging, document, arrays, pictures)
            stale = set(_earlier(path)["files"]) - set(names)
            for name in names:
                os.replace(staging / name, path / name)
            for name in stale:
                (path / Path(name).name).unlink(missing_ok=True)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def clear_staging(path: Path) -> None:
    """Remove what a killed process left here."""
    for left in path.glob(STAGING + "*"):
        shutil.rmtree(left, ignore_errors=True)


def _stage(
    staging: Path,
    document: Document,
    arrays: Mapping[str, Array],
    pictures: Mapping[str, Callable[[Path], None]],
) -> list[str]:
    """Write all files, the document last, and return their names in the order to publish them."""
    for name, write in pictures.items():
        write(staging / name)
    with (staging / ARRAYS).open("wb") as file:
        # A file object: np.savez would append ".npz" to names, and the types of its
        # keywords clash with allow_pickle.
        np.savez(file, **dict[str, Any](arrays))
    names = [*pictures, ARRAYS, DOCUMENT]
    head = {"format": FORMAT, "format_version": FORMAT_VERSION}
    tail = {"files": names, "arrays_sha256": _checksum(staging / ARRAYS)}
    text = json.dumps({**head, **document, **tail}, indent=1, allow_nan=False)
    (staging / DOCUMENT).write_text(text + "\n", encoding="utf-8")
    return names


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_folder(directory: str | os.PathLike[str]) -> tuple[Document, dict[str, Array]]:
    """Read what `write_folder` wrote.

    Returns
    -------
    document : dict
    arrays : dict of ndarray

    Raises
    ------
    DataError
        No such folder, not a saved result, damaged, or of a newer format.
    """
    path = Path(directory)
    if not path.is_dir():
        what = "is a file, not the folder of a saved result" if path.exists() else "no such folder"
        raise DataError(f"{path}: {what}")
    document = _read_document(path)
    try:
        if _checksum(path / ARRAYS) != document["arrays_sha256"]:
            raise DataError(f"{path / ARRAYS}: damaged: its checksum is not the one in {DOCUMENT}")
        with np.load(path / ARRAYS, allow_pickle=False) as file:
            return document, dict(file)
    except KeyError as error:
        raise DataError(f"{path / DOCUMENT}: damaged: {error} is missing") from error
    except OSError as error:
        raise DataError(f"{path / ARRAYS}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path / ARRAYS}: damaged: {error}") from error


def _read_document(path: Path) -> Document:
    try:
        document = json.loads((path / DOCUMENT).read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path}: not a saved result: it has no {DOCUMENT}") from error
    except OSError as error:
        raise DataError(f"{path / DOCUMENT}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path / DOCUMENT}: damaged: not valid JSON ({error})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DataError(f"{path / DOCUMENT}: not a saved result: it was not written by pyoip")
    version = document.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise DataError(f"{path / DOCUMENT}: damaged: format_version is {version!r}")
    if version > FORMAT_VERSION:
        writer = document.get("version", "a newer version")
        raise DataError(
            f"{path / DOCUMENT}: format {version}, written by pyoip {writer}: this version reads "
            f"formats up to {FORMAT_VERSION}; upgrade pyoip"
        )
    return document


def checked(
    arrays: Mapping[str, Array],
    layout: Mapping[str, tuple[str, str]],
    sizes: dict[str, int],
    *,
    prefix: str = "",
) -> dict[str, Array]:
    """Return the arrays of a layout, their types and every axis checked.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    layout : mapping of str to (dtype, axes)
        Axes are one letter each; equal letters are equal lengths.
    sizes : dict of str to int
        Lengths known so far; what the arrays add is written here.
    prefix : str
        Before each name among the arrays (default none).

    Raises
    ------
    KeyError, ValueError
        An array is missing or has another type or shape.
    """
    taken = {}
    for name, (dtype, axes) in layout.items():
        array = arrays[prefix + name]
        pairs = zip(axes, array.shape, strict=False)
        expected = tuple(sizes.setdefault(axis, length) for axis, length in pairs)
        if array.dtype != np.dtype(dtype) or array.ndim != len(axes) or array.shape != expected:
            raise ValueError(f"array {prefix + name!r}")
        taken[name] = array
    return taken
