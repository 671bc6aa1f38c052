"""The compiled cores that the tests of engines run on, and what each may differ from float64."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pybind11

from pyoip.engines.base import Engine
from pyoip.engines.cpu import CpuEngine
from pyoip.engines.cuda import CudaEngine
from pyoip.stack import Stack


@dataclass(frozen=True)
class Core:
    """A core, and how far the median gradient may be from float64: far below the largest error.

    `median` is of random stacks, `shipped_median` of the layers of the shipped network.
    `widest` is the side of the largest colour images that fit, 256 maps in the second layer.
    """

    engine: type[CpuEngine | CudaEngine]
    median: float
    shipped_median: float
    widest: int

    def __call__(self, stack: Stack, threads: int | None = None) -> Engine:
        return self.engine(stack, threads)


CPU = Core(CpuEngine, 4e-7, 2e-7, 64)  # sums of float32
# A product of two halves leaves out what is 2^-22 of it. Measured: 5.6e-7 and 6e-7.
CUDA = Core(CudaEngine, 8e-7, 1e-6, 48)


def build_cuda_for_the_host(root: Path) -> ModuleType:
    """The module _cuda, its kernels run by tests/cuda_host.

    With PYOIP_TEST_SANITIZED set, under the undefined-behaviour sanitizer: compiles for minutes.
    """
    sanitized = bool(os.environ.get("PYOIP_TEST_SANITIZED"))
    flags = "-fsanitize=undefined -fno-sanitize-recover=undefined" if sanitized else ""
    folder = root / "build" / ("cuda-host-sanitized" if sanitized else "cuda-host-module")
    places = [f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DPython_EXECUTABLE={sys.executable}"]
    options = [
        "-G",
        "Ninja",
        "-DPYOIP_CUDA_HOST=ON",
        "-DPYOIP_WERROR=ON",
        f"-DCMAKE_CXX_FLAGS={flags}",
        *places,
    ]
    for command in (
        ["-S", root, "-B", folder, *options],
        ["--build", folder, "--target", "_cuda"],
    ):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("_cuda*.so")
    # Under a name of its own: pybind11 would give back a module of the same name that is there.
    spec = importlib.util.spec_from_file_location("for_the_host._cuda", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.__file__ == str(path)
    return module
