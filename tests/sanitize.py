"""Every CUDA kernel under NVIDIA's compute-sanitizer; for a machine with a device.

    python tests/sanitize.py [memcheck racecheck initcheck synccheck]

Makes small calls of all kinds under each of the four tools: accesses out of bounds, accesses of two
threads without a barrier in between, device memory read before it is written, and barriers that not
all threads reach. The exit code is 0 if none of them has anything to report.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import toolkit
from problems import conv_layer, problem

import pyoip
from pyoip.engines.base import Floats, Targets
from pyoip.engines.cuda import CudaEngine
from pyoip.fluctuations import Fluctuations, described, start_images
from pyoip.settings import Settings
from pyoip.stack import Pool, Stack, build_stack

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
THOROUGH = {
    "racecheck": ("--racecheck-detect-level", "info"),
    "initcheck": ("--initcheck-address-space", "all"),
}
DONE = "all calls made"
# More steps than are made before all is made afresh (kRefresh of csrc/cuda/routing.cuh).
_MIX = Fluctuations((1.0, 2.0), (1.0, 1.0), smoothing=1)
_ASCENT = Settings(steps=40, smooth=8, snapshots=(0, 3), objective="preactivation")


def _cases() -> Iterator[tuple[Stack, Floats, Targets]]:
    """The shipped network's layers, random stacks, and averages that overlap in a first layer."""
    for layer in (1, 2, 3):
        stack = build_stack(pyoip.load("mnist"), layer)
        yield stack, start_images(3, stack.input_shape), np.arange(3, dtype=np.int32)
    for seed in range(12):
        yield problem(seed, count=3, sides=(5, 14))
    rng = np.random.default_rng(0)
    averages = Pool("average", (3, 3), (1, 2), (0, 0, 0, 0))
    first = conv_layer(rng, (1, 14, 14), 9, pool=averages)
    stack = Stack((1, 14, 14), (first, conv_layer(rng, first.pooled_shape, 3)))
    yield stack, start_images(3, stack.input_shape), np.arange(3, dtype=np.int32)


def make_calls() -> None:
    """Each call of the engine on each case."""
    for stack, images, targets in _cases():
        engine = CudaEngine(stack)
        engine.score(images, "activation")
        engine.activations(images)
        pool = described(stack.input_shape, [_MIX], seed=0, stream=0, constraint="clip")
        engine.start_images(np.arange(3), pool)
        engine.score_starts(np.arange(3), pool, "activation")
        engine.gradient(images, targets, "activation")
        engine.ascend(images, targets, _ASCENT)
        engine.ascend(images, targets, replace(_ASCENT, method="article", precision="tf32"))
    print(DONE)


def clean(code: int, said: str) -> bool:
    """Whether a tool has seen all calls and reports nothing, not even what it exits with 0 for."""
    counts = re.findall(r"^=+ (?:ERROR|RACECHECK) SUMMARY: (\d+) ", said, re.MULTILINE)
    return code == 0 and DONE in said and bool(counts) and set(counts) == {"0"}


def _more(sanitizer: str, tool: str) -> list[str]:
    """What newer versions can look for: two threads that write the same, and shared memory."""
    option, value = THOROUGH.get(tool, ("", ""))
    known = subprocess.run([sanitizer, "--help"], capture_output=True, text=True, check=False)
    return [option, value] if option and option in known.stdout else []


def check(sanitizer: str, tool: str) -> bool:
    options = ["--tool", tool, "--error-exitcode", "1", *_more(sanitizer, tool)]
    command = [sanitizer, *options, sys.executable, __file__, "run"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    good = clean(done.returncode, done.stdout)
    print(f"{tool}: {'nothing to report' if good else f'exit code {done.returncode}'}", flush=True)
    if not good:
        print(done.stdout[-20000:], flush=True)
    return good


def main() -> int:
    asked = sys.argv[1:] or list(TOOLS)
    if asked == ["run"]:
        make_calls()
        return 0
    if unknown := set(asked) - set(TOOLS):
        raise SystemExit(f"{', '.join(sorted(unknown))}: must be among {', '.join(TOOLS)}")
    sanitizer = toolkit.find("compute-sanitizer")
    if sanitizer is None:
        raise SystemExit(
            f"compute-sanitizer: neither on PATH nor in {toolkit.INSTALLED}/cuda*/bin; it comes "
            "with the CUDA toolkit, and from PyPI as nvidia-cuda-sanitizer-api"
        )
    reason = pyoip.engines.available()["cuda"]
    if reason is not None:
        raise SystemExit(f"engine cuda: {reason}")
    return len([tool for tool in asked if not check(str(sanitizer), tool)])


if __name__ == "__main__":
    raise SystemExit(main())
