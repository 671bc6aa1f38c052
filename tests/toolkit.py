"""Where NVIDIA's tools are."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

INSTALLED = Path("/usr/local")


def find(tool: str) -> Path | None:
    """A tool of CUDA's: on PATH, where toolkits are installed, or in a package of PyPI."""
    places = [Path(found).parent for found in [shutil.which(tool)] if found]
    places += sorted(INSTALLED.glob("cuda*/bin"), reverse=True)
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        places += sorted(Path(folder).glob("*/bin"))
    return next((place / tool for place in places if (place / tool).exists()), None)
