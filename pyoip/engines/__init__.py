"""Engines: where the arithmetic happens. Chosen by name or ``"auto"``, imported when used."""

from __future__ import annotations

import importlib
import platform
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import EngineUnavailable, InvalidArgument, UnsupportedLayer
from ..stack import Stack, build_stack
from .base import STOPS, Ascents, DrawingEngine, Engine

if TYPE_CHECKING:
    from ..network import Network

__all__ = [
    "STOPS",
    "Ascents",
    "DrawingEngine",
    "Engine",
    "available",
    "describe",
    "for_layer",
    "make",
    "names",
]

# Engines of sequential stacks: name -> (module, class).
_STACK_ENGINES = {
    "cpu": ("cpu", "CpuEngine"),
    "cuda": ("cuda", "CudaEngine"),
    "reference": ("reference", "ReferenceEngine"),
}
_NAMES = ("auto", *_STACK_ENGINES, "onnx")


def available() -> dict[str, str | None]:
    """Every engine's name, with None where it can be used here and else the reason why not.

    Examples
    --------
    >>> available()["reference"] is None
    True
    """
    reasons: dict[str, str | None] = {}
    for name in (*_STACK_ENGINES, "onnx"):
        try:
            loaded = _load(name)
            why_not = getattr(loaded, "reason_why_not", lambda: None)
            reasons[name] = why_not()
        except EngineUnavailable as error:
            reasons[name] = str(error)
    return reasons


def names() -> list[str]:
    """Return all that can compute here, by the names that `for_layer` takes.

    ONNX Runtime counts once for each of its providers that pyoip knows.

    Examples
    --------
    >>> "reference" in names()
    True
    """
    working = [name for name, why_not in available().items() if why_not is None]
    if "onnx" in working:
        loaded = _load("onnx")
        known = [f"onnx:{p}" for p in loaded.providers() if p in loaded.PROVIDERS]
        working[working.index("onnx") : working.index("onnx") + 1] = known
    return working


def _load(name: str) -> ModuleType:
    try:
        return importlib.import_module(f".{name}", __name__)
    except ImportError as error:
        missing = getattr(error, "name", None) == "onnxruntime"
        why = "onnxruntime is not installed: pip install 'pyoip[ort]'" if missing else str(error)
        raise EngineUnavailable(why) from None


def describe() -> dict[str, str]:
    """How this installation was built and what it runs on."""
    from .cpu import describe as describe_cpu
    from .cuda import describe as describe_cuda

    return {
        **describe_cpu(),
        **describe_cuda(),
        "python": f"{platform.python_version()} ({sys.implementation.name})",
        "machine": f"{platform.system()} {platform.machine()}",
    }


def for_layer(name: str, network: Network, layer: int, threads: int | None = None) -> Engine:
    """The engine `name` for a layer of a network.

    Parameters
    ----------
    name : str
        ``"auto"``: a fused core where the layer is the end of a sequential stack within its
        limits, ``"cuda"`` where there is a CUDA device whose blocks have room for it and else
        ``"cpu"``; otherwise ``"onnx"``, which takes every layer whose graph can be
        differentiated. Or a name of `available`. ``"cuda:1"`` names the device as well, and
        ``"onnx:cpu"``, ``"onnx:cuda"`` and the like the provider.
    network : Network
    layer : int
        Number of the layer.
    threads : int, optional

    Raises
    ------
    InvalidArgument
        No such engine.
    EngineUnavailable
        Not in this installation; the message says why.
    UnsupportedLayer
        The layer does not fit; the message names an engine that could take it.
    """
    if name == "auto":
        try:
            return make("auto", build_stack(network, layer), threads)
        except UnsupportedLayer as error:
            if available()["onnx"] is not None:
                missing = f"{str(error).rsplit(';', 1)[0]}; pip install 'pyoip[ort]' to use"
                raise UnsupportedLayer(f"{missing} engine 'onnx', which could take it") from None
        name = "onnx"
    kind, _, provider = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind == "onnx":
        return _onnx(network, layer, threads, provider or None)
    known = kind in _STACK_ENGINES and (kind == "cuda" or ":" not in name)
    return make(name, build_stack(network, layer) if known else None, threads)


def _onnx(network: Network, layer: int, threads: int | None, provider: str | None) -> Engine:
    try:
        loaded = _load("onnx")
    except EngineUnavailable as error:
        raise EngineUnavailable(f"engine='onnx': {error}") from None
    made: Engine = loaded.OnnxEngine(network, layer, threads, provider)
    return made


def make(name: str, stack: Stack | None, threads: int | None = None) -> Engine:
    """The engine `name` for a sequential stack; ``"auto"`` is a fused core, CUDA's if it can.

    The reference engine, some thousand times slower, is used only when named. Errors are those
    of `for_layer`.
    """
    if name == "auto" and stack is not None:
        return _on_cuda(stack) or make("cpu", stack, threads)
    kind, colon, device = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind not in _STACK_ENGINES or stack is None or (colon and kind != "cuda"):
        raise InvalidArgument(f"engine={name!r}: must be one of {_listed()}")
    module, cls = _STACK_ENGINES[kind]
    try:
        made = getattr(_load(module), cls)
        engine: Engine = made(stack, threads, device) if colon else made(stack, threads)
    except EngineUnavailable as error:
        raise EngineUnavailable(f"engine={name!r}: {error}") from None
    return engine


def _on_cuda(stack: Stack) -> Engine | None:
    """The CUDA engine, where there is a device and the stack fits it."""
    try:
        return make("cuda", stack)
    except (EngineUnavailable, UnsupportedLayer):
        return None


def _listed() -> str:
    return ", ".join(map(repr, _NAMES))
