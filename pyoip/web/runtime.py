"""What computes on the page: onnxruntime-web, from its public address or copied in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError

TESTED = "1.30.0"
"""The version of onnxruntime-web that the tests run, and the one that is referenced."""

SCRIPT = "ort.wasm.bundle.min.mjs"
WASM = "ort-wasm-simd-threaded.wasm"
ADDRESS = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{TESTED}/dist/"
FOLDER = "runtime/"


@dataclass(frozen=True)
class Runtime:
    """Where the page finds onnxruntime-web.

    Attributes
    ----------
    script, wasm : str
        Addresses, relative to the page where the files are copied in.
    version : str
        Empty where it is not known.
    source : Path or None
        Folder to copy from.
    """

    script: str
    wasm: str
    version: str
    source: Path | None = None

    def files(self) -> dict[str, bytes]:
        """Return what is copied, by its name in the page's folder."""
        if self.source is None:
            return {}
        return {FOLDER + name: (self.source / name).read_bytes() for name in (SCRIPT, WASM)}


PUBLIC = Runtime(ADDRESS + SCRIPT, ADDRESS + WASM, TESTED)


def find_runtime(given: Path) -> Runtime:
    """Return the runtime in a folder of the npm package onnxruntime-web, or in its ``dist``.

    Raises
    ------
    DataError
        The folder does not hold it.
    """
    for folder in (given / "dist", given):
        if all((folder / name).is_file() for name in (SCRIPT, WASM)):
            return Runtime(FOLDER + SCRIPT, FOLDER + WASM, _version(folder.parent), folder)
    raise DataError(
        f"{given}: holds no {SCRIPT} with {WASM}: name the folder of the npm package "
        f"onnxruntime-web, as from 'npm pack onnxruntime-web@{TESTED}', or its dist"
    )


def _version(package: Path) -> str:
    """Return what ``package.json`` says, if it is there."""
    try:
        document = json.loads((package / "package.json").read_bytes())
        return str(document["version"]) if document["name"] == "onnxruntime-web" else ""
    except (OSError, ValueError, TypeError, KeyError):
        return ""
