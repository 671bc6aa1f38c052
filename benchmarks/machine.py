"""On what machine, and with which versions, a figure was taken."""

from __future__ import annotations

import datetime
import platform
from importlib import metadata
from pathlib import Path

from pyoip import engines

PACKAGES = ("pyoip", "torch", "onnxruntime", "jax", "numpy")


def describe() -> str:
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        )
        if Path("/proc/cpuinfo").exists()
        else iter([platform.processor()]),
        "unknown processor",
    )
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES if _has(name))
    built = engines.describe()
    return (
        f"{datetime.date.today()}: {model}, {built['threads']} threads, "
        f"{built['instruction set']}; {built['core']}; {versions}, "
        f"Python {platform.python_version()}"
    )


def _has(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
