"""Files that take their place whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InvalidArgument


def check_place(path: Path) -> None:
    """Raise `InvalidArgument` unless a file can have this path: in a folder, and being none."""
    if path.is_dir():
        raise InvalidArgument(f"{path}: is a folder; must be a file")
    if not path.parent.is_dir():
        raise InvalidArgument(f"{path}: there is no folder {path.parent}; make it first")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Temporary path beside `path`; takes its place only when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
