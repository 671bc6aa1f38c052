"""Engines: where the arithmetic happens. Chosen by name or ``"auto"``, imported when used."""

from __future__ import annotations

import importlib
import platform
import sys

from ..errors import EngineUnavailable, InvalidArgument
from ..stack import Stack
from .base import STOPS, Ascents, Engine

__all__ = ["STOPS", "Ascents", "Engine", "available", "describe", "make"]

# name -> (module, class), in the order in which "auto" tries them
_ENGINES = {"cpu": ("cpu", "CpuEngine"), "reference": ("reference", "ReferenceEngine")}
_PLANNED = {
    "cuda": "this version has no CUDA core",
    "onnx": "this version has no engine for general ONNX graphs",
}


def available() -> dict[str, str | None]:
    """Every engine's name, with None where it can be used here and else the reason why not.

    Examples
    --------
    >>> available()["reference"] is None
    True
    """
    reasons: dict[str, str | None] = {}
    for name, (module, _) in _ENGINES.items():
        try:
            loaded = importlib.import_module(f".{module}", __name__)
            why_not = getattr(loaded, "reason_why_not", lambda: None)
            reasons[name] = why_not()
        except ImportError as error:
            reasons[name] = str(error)
    return reasons | dict(_PLANNED)


def describe() -> dict[str, str]:
    """How this installation was built and what it runs on."""
    from .cpu import describe as describe_cpu

    return {
        **describe_cpu(),
        "python": f"{platform.python_version()} ({sys.implementation.name})",
        "machine": f"{platform.system()} {platform.machine()}",
    }


def make(name: str, stack: Stack, threads: int | None = None) -> Engine:
    """The engine `name` for a stack.

    ``"auto"`` is the fused core. The reference engine, some thousand times slower, is
    used only when named.

    Raises
    ------
    InvalidArgument
        No such engine.
    EngineUnavailable
        Not in this installation; the message says why.
    UnsupportedLayer
        The stack does not fit; the message names an engine that could take it.
    """
    if name == "auto":
        name = "cpu"
    if name in _PLANNED:
        raise EngineUnavailable(f"engine={name!r}: {_PLANNED[name]}; there are 'cpu', 'reference'")
    if name not in _ENGINES:
        raise InvalidArgument(f"engine={name!r}: must be one of 'auto', 'cpu', 'reference'")
    module, cls = _ENGINES[name]
    try:
        made = getattr(importlib.import_module(f".{module}", __name__), cls)
    except ImportError as error:
        raise EngineUnavailable(f"engine={name!r}: {error}") from None
    engine: Engine = made(stack, threads)
    return engine
