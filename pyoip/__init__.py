"""pyoip: which input makes this map respond most? Found for every map of a layer in one call."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ascent import activations, ascend, score
    from .errors import (
        DataError,
        EngineUnavailable,
        Interrupted,
        InvalidArgument,
        ModelError,
        PyoipError,
        UnsupportedLayer,
        UnsupportedOperator,
    )
    from .fluctuations import Fluctuations, start_images
    from .gradient import export_step
    from .network import Network, load
    from .parity import Parity, check
    from .result import Result, load_result
    from .settings import Constraint, Settings
    from .surveys import Survey, grid, load_survey, sobol, survey
    from .web.page import export_web

# In a clone of the repository this folder hides the installed package, which alone holds the
# compiled core: let it be found there.
__path__ = pkgutil.extend_path(__path__, __name__)

# Where each public name lives. Resolved on first use, so that `import pyoip` stays
# cheap: onnx, matplotlib and torch are loaded only by what needs them.
_HOMES = {
    "ascent": ("activations", "ascend", "score"),
    "errors": (
        "DataError",
        "EngineUnavailable",
        "Interrupted",
        "InvalidArgument",
        "ModelError",
        "PyoipError",
        "UnsupportedLayer",
        "UnsupportedOperator",
    ),
    "gradient": ("export_step",),
    "fluctuations": ("Fluctuations", "start_images"),
    "network": ("Network", "load"),
    "parity": ("Parity", "check"),
    "result": ("Result", "load_result"),
    "settings": ("Constraint", "Settings"),
    "surveys": ("Survey", "grid", "load_survey", "sobol", "survey"),
    "web.page": ("export_web",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - in the order in which a reader meets them
    "load",
    "ascend",
    "score",
    "activations",
    "start_images",
    "export_step",
    "load_result",
    "survey",
    "grid",
    "sobol",
    "load_survey",
    "export_web",
    "check",
    "Network",
    "Result",
    "Survey",
    "Parity",
    "Settings",
    "Constraint",
    "Fluctuations",
    "PyoipError",
    "ModelError",
    "UnsupportedLayer",
    "UnsupportedOperator",
    "InvalidArgument",
    "DataError",
    "EngineUnavailable",
    "Interrupted",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("pyoip")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pyoip' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
