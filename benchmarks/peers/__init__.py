"""The frameworks that pyoip is compared with, each as strong as its scripts could be made.

A module offers `ascenders(task)` and `scorers(stack, images)`: variants of the same answer,
of which the benchmark takes the fastest to the final.
"""

from __future__ import annotations

import importlib
from types import ModuleType

MODULES = {
    "torch as a user writes it": "torch_peer",
    "torch, gradient by hand": "torch_by_hand",
    "JAX": "jax_peer",
    "ONNX Runtime": "onnxruntime_peer",
}


def available() -> tuple[dict[str, ModuleType], dict[str, str]]:
    """Modules by peer, and the reason for each peer that is missing here."""
    found, missing = {}, {}
    for name, module in MODULES.items():
        try:
            found[name] = importlib.import_module(f"{__name__}.{module}")
        except ImportError as error:
            missing[name] = str(error)
    return found, missing
