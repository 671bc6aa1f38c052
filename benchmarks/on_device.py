"""The best scripts that frameworks allow on a device, and our engine: who takes part in gpu.py.

Everyone follows the same rule (gradient over its rms, constant step, standardise) in float32, TF32
switched off, with images and results on the device. The peers' gradient is written by hand as in
peers/: eager, through torch.compile, as a CUDA graph of the eager step, and in JAX as one jitted
loop.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the memory

import numpy as np
import torch
from peers.by_hand import plan
from peers.torch_by_hand import HandWritten, one_layer_step
from task import Task, article, shipped
from timing import Figure, Rate, interleaved, stepping
from verify import check_ascent

import pyoip
from pyoip import engines
from pyoip.engines import DrawingEngine
from pyoip.fluctuations import Fluctuations, described
from pyoip.settings import Settings
from pyoip.starts import BLOCK_BYTES

VERIFIED = 64  # images whose answers are compared

Run = Callable[[int], Any]  # takes a number of steps, returns the images


def ours(task: Task, name: str, device: str, **more: str) -> Run:
    """Our engine, by its public class, with images on the device."""
    engine = engines.make(name, task.stack)
    starts = task.starts if device == "cpu" else torch.tensor(task.starts, device=device)
    return lambda steps: engine.ascend(starts, task.targets, article(steps, **more)).images


class ByTorch:
    """The step by hand on a device: eager, compiled, or captured in a CUDA graph."""

    def __init__(self, task: Task, device: str, how: str) -> None:
        self.device = torch.device(device)
        constants = plan(task)
        self.single = constants.first is None
        with self.device:
            x = torch.tensor(task.starts[:, 0])
            own = torch.tensor(constants.target), torch.tensor(constants.target_bias)
            if self.single:
                x, own = x.permute(1, 2, 0).contiguous(), (own[0][:, 0].T.contiguous(), own[1])
            step = one_layer_step if self.single else HandWritten(constants, how == "compiled").step
        self.start, self.own = x, own
        self.step = torch.compile(step, dynamic=False) if how == "compiled" else step
        self.graph = self._capture() if how == "graph" else None

    @torch.no_grad()
    def _capture(self) -> torch.cuda.CUDAGraph:
        self.x = self.start.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), self.device:
            for _ in range(3):
                self.step(self.x, *self.own)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), self.device:
            self.x.copy_(self.step(self.x, *self.own))
        return graph

    @torch.no_grad()
    def __call__(self, steps: int) -> torch.Tensor:
        x = self.start
        if self.graph is not None:
            self.x.copy_(x)
            for _ in range(steps):
                self.graph.replay()
            x = self.x
        else:
            with self.device:
                for _ in range(steps):
                    x = self.step(x, *self.own)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return (x.permute(2, 0, 1) if self.single else x)[:, None]


class ByJax:
    """The step by hand in JAX, as one jitted loop; the images stay on the device."""

    def __init__(self, task: Task, device: str, *, fused: bool) -> None:
        import jax
        from peers.jax_peer import Ascender

        backend = jax.default_backend()
        if device == "cuda" and backend != "gpu":
            raise RuntimeError(f"runs on the {backend}, not on the GPU")
        jax.config.update("jax_default_matmul_precision", "highest")
        self.ascender = Ascender(task, len(task.starts), 1, by_hand=True, fused=fused)

    def __call__(self, steps: int) -> Any:
        (part,) = self.ascender.parts
        x = self.ascender.loop(*part, steps).block_until_ready()
        return (x.transpose(2, 0, 1) if self.ascender.batch_last else x)[:, None]


class Contender:
    """One who takes part, in a process of its own: prepared for a task, then timed."""

    def __init__(self, name: str, device: str, seconds: float) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.name, self.device, self.seconds = name, device, seconds
        self.timed: Rate | None = None

    def make(self, task: Task) -> Run:
        if self.name.startswith("JAX"):
            return ByJax(task, self.device, fused=self.name == "JAX fused")
        return ByTorch(task, self.device, self.name.rpartition(" ")[2])

    def ready(self, task: Task) -> None:
        """Verify the answer against the CPU core's, and warm up."""
        self.timed = None  # and the last task's memory is free
        few = task.part(0, min(VERIFIED, len(task.starts)))
        small = self.make(few)
        check_ascent(few, self.name, lambda steps: host(small(steps)))
        self.timed = stepping(self.make(task), len(task.starts), self.seconds)

    def rate(self) -> float:
        """Image-steps a second."""
        assert self.timed is not None
        return self.timed()


def host(images: Any) -> np.ndarray:
    return images.cpu().numpy() if isinstance(images, torch.Tensor) else np.asarray(images)


class Ours(Contender):
    """Our engine, and what is measured of it alone."""

    def __init__(self, engine: str, device: str, seconds: float) -> None:
        super().__init__("pyoip", device, seconds)
        self.engine = engine

    def make(self, task: Task) -> Run:
        return ours(task, self.engine, self.device)

    def coarse(self, images: int) -> dict[str, Figure]:
        """TF32 beside exact, at layer 3."""
        task, both = shipped(3, images), ("exact", "tf32")
        runs = {p: ours(task, self.engine, self.device, precision=p) for p in both}
        return interleaved({p: stepping(r, images, self.seconds) for p, r in runs.items()}, 3)

    def whole_job(self, layers: list[int], candidates: int, steps: int) -> tuple[int, list[float]]:
        """All maps of these layers, the best 4 candidates each; host to host: ascents, seconds."""
        starts, settings = pyoip.start_images(candidates), Settings(steps=steps)
        made = [engines.make(self.engine, shipped(layer, 1).stack) for layer in layers]

        def run() -> int:
            ascents = 0
            for engine in made:
                scores = engine.score(starts, "activation")
                best = np.argsort(-scores, axis=0, kind="stable")[:4].T
                targets = np.repeat(np.arange(len(best), dtype=np.int32), 4)
                ascents += len(engine.ascend(starts[best.ravel()], targets, settings).steps)
            return ascents

        ascents, times = run(), []
        for _ in range(5):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
        return ascents, times

    def scoring(self, count: int) -> tuple[float, float]:
        """Seconds of layer 2's scores of `count` start images, by number and from host arrays.

        By number the engine draws them, where it can, in the blocks of `pyoip.ascend`. That both
        answers are the same is verified first. What it takes to draw arrays on the host is not
        counted.
        """
        engine, shape = engines.make(self.engine, shipped(2, 1).stack), (1, 28, 28)
        pool = described(shape, [Fluctuations()], seed=0, stream=0, constraint="standardize")

        def by_number(numbers: np.ndarray) -> np.ndarray:
            if isinstance(engine, DrawingEngine):
                return engine.score_starts(numbers, pool, "activation")
            return engine.score(pyoip.start_images(indices=numbers), "activation")

        block = min(count, BLOCK_BYTES // (4 * 784))
        images = pyoip.start_images(block)
        if by_number(np.arange(block)).tobytes() != engine.score(images, "activation").tobytes():
            raise RuntimeError("scores by number are not those of the images")
        began = time.perf_counter()
        for first in range(0, count, block):
            by_number(np.arange(first, min(first + block, count)))
        drawn = time.perf_counter()
        for first in range(0, count, block):
            engine.score(images[: count - first], "activation")
        return drawn - began, time.perf_counter() - drawn
