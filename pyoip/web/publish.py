"""The page's folder on disk: complete or as it was before.

Files are written into a hidden folder inside and renamed when all of them are complete;
``page.json`` comes last and names every file, so that a page is known as one.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DataError
from ..folder import STAGING, as_data_error, clear_staging, made

DOCUMENT = "page.json"
FORMAT = "pyoip page"
FORMAT_VERSION = 1


def check_site(path: Path, *, overwrite: bool = False) -> None:
    """Raise `DataError` unless a page can be written into a folder.

    It may be missing, empty, or hold an earlier page and nothing else. With `overwrite` other files
    may be there; they stay.
    """
    if path.exists() and not path.is_dir():
        raise DataError(f"{path}: is a file, and a page is a folder: choose another")
    with as_data_error(path, "cannot be written"):
        if not overwrite and (foreign := _foreign(path)):
            raise DataError(
                f"{path}: holds {foreign!r}, which is not part of a page: choose an empty or a "
                "new folder, or write among what is there (overwrite=True)"
            )
        with made(path), tempfile.TemporaryDirectory(prefix=STAGING, dir=path):
            pass


def publish(
    path: Path, files: Mapping[str, bytes], document: Mapping[str, Any], *, overwrite: bool
) -> int:
    """Write a page; return how many bytes it has.

    Parameters
    ----------
    path : Path
        See `check_site`, which is called first.
    files : mapping of str to bytes
        By their names in the folder, with ``/`` between folder and file.
    document : mapping
        What ``page.json`` says beside the names of the files.
    overwrite : bool
        See `check_site`.

    Raises
    ------
    DataError
        The folder holds something else, or the disk is full or read-only; nothing was changed
        then.
    """
    check_site(path, overwrite=overwrite)
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, "version": _version()}
    whole = {**head, **document, "files": [*files, DOCUMENT]}
    text = json.dumps(whole, indent=1, allow_nan=False) + "\n"
    everything = {**files, DOCUMENT: text.encode()}
    with as_data_error(path, "the page could not be written"), made(path):
        clear_staging(path)
        _make_way(path, everything)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=path))
        try:
            stale = set(_earlier(path)) - set(everything)
            for name, content in everything.items():
                _write(staging / name, content)
            for name in everything:
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staging / name, path / name)
            _remove(path, stale)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return sum(map(len, everything.values()))


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _make_way(path: Path, names: Iterable[str]) -> None:
    """Refuse a folder where a file is to be, and a file where a folder is to be."""
    for name in names:
        above = [path / parent for parent in PurePosixPath(name).parents]
        blocked = [p for p in above if p.exists() and not p.is_dir()]
        blocked += [path / name] if (path / name).is_dir() else []
        if blocked:
            raise DataError(f"{blocked[0]}: is in the way of the page's {name}: remove it")


def _remove(path: Path, names: Iterable[str]) -> None:
    for name in names:
        (path / name).unlink(missing_ok=True)
        folder = (path / name).parent
        if folder != path and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _foreign(path: Path) -> str | None:
    """Return the name of a file that no earlier page brought here."""
    own = {PurePosixPath(name) for name in _earlier(path)}
    folders = {parent for name in own for parent in name.parents}
    looked_into = sorted(path / folder for folder in folders or {PurePosixPath()})
    for folder in looked_into:
        for found in sorted(folder.iterdir()) if folder.is_dir() else ():
            name = PurePosixPath(found.relative_to(path).as_posix())
            if name not in own | folders and not name.name.startswith(STAGING):
                return str(name)
    return None


def _earlier(path: Path) -> list[str]:
    """Return the files of the page that is here, none if there is none."""
    try:
        document = json.loads((path / DOCUMENT).read_bytes())
        names = [PurePosixPath(name) for name in document["files"]]
        own = document["format"] == FORMAT
    except (OSError, ValueError, TypeError, KeyError):
        return []
    inside = all(not name.is_absolute() and ".." not in name.parts for name in names)
    return [name.as_posix() for name in names] if own and inside else []


def _version() -> str | None:
    try:
        return metadata.version("pyoip")
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return None
