"""The CUDA core beside the best scripts that frameworks allow, and beside the device's FMA peak.

    python benchmarks/gpu.py [--quick] [--layers 1 2 3] [--batches 4096 65536] [--repeats 5]
                             [--without compiled] [--json FILE]

Everyone follows the same rule (gradient over its rms, constant step, standardise) in float32, TF32
switched off, with images and results on the device. The peers' gradient is written by hand as in
peers/: eager, through torch.compile, as a CUDA graph of the eager step, and in JAX as one jitted
loop. Answers are verified against the CPU core first; then all run in turn in this one process. A
contender that fails is told and left out. `--engine cpu --device cpu` runs the script, for its own
sake, where no device is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the memory

import numpy as np
import torch
from machine import describe
from peers.by_hand import plan
from peers.torch_by_hand import HandWritten, one_layer_step
from task import Task, article, shipped
from timing import Figure, Rate, interleaved, stepping
from verify import WrongAnswer, check_ascent
from work import direct_operations

import pyoip
from pyoip import engines
from pyoip.settings import Settings

SMALL = {1: 32, 2: 64, 3: 128}  # images, by layer
WANTED = {1: 30, 2: 20, 3: 10}  # times the best peer, there
MANY = 5  # times the best peer, with thousands of images
VERIFIED = 64  # images whose answers are compared
PEAK = r"""
#include <cstdio>
__global__ void chains(float* out, float a, float b, int rounds) {
    float x[16];
    for (int i = 0; i < 16; ++i) x[i] = threadIdx.x + i;
    for (int r = 0; r < rounds; ++r)
        for (int k = 0; k < 16; ++k)
#pragma unroll
            for (int i = 0; i < 16; ++i) x[i] = x[i] * a + b;
    float sum = 0;
    for (int i = 0; i < 16; ++i) sum += x[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
int main() {
    cudaDeviceProp is;
    cudaGetDeviceProperties(&is, 0);
    const int blocks = 8 * is.multiProcessorCount, threads = 256, rounds = 20000;
    float* out;
    cudaMalloc(&out, blocks * threads * sizeof(float));
    cudaEvent_t from, to;
    cudaEventCreate(&from), cudaEventCreate(&to);
    float best = 1e30f;
    for (int i = 0; i < 6; ++i) {
        cudaEventRecord(from);
        chains<<<blocks, threads>>>(out, 0.999f, 0.5f, rounds);
        cudaEventRecord(to), cudaEventSynchronize(to);
        float took;
        cudaEventElapsedTime(&took, from, to);
        if (took < best) best = took;
    }
    if (cudaGetLastError() != cudaSuccess) return 1;
    std::printf("%.6e\n", 2.0 * 256 * rounds * double(blocks) * threads / (best * 1e-3));
}
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short runs; figures are rough")
    parser.add_argument("--layers", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--batches", nargs="*", type=int, default=[4096, 65536])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], help="contenders that are left out")
    parser.add_argument("--engine", default="cuda")
    parser.add_argument("--device", default="cuda", help="of torch")
    parser.add_argument("--json", help="also write the figures to this file, as they come")
    return parser.parse_args()


# --- contenders: each takes a number of steps and returns the images --------------------------

Run = Callable[[int], Any]


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


def makers(options: argparse.Namespace) -> dict[str, Callable[[Task], Run]]:
    device = options.device
    found: dict[str, Callable[[Task], Run]] = {
        "pyoip": lambda task: ours(task, options.engine, device),
        "torch eager": lambda task: ByTorch(task, device, "eager"),
        "torch compiled": lambda task: ByTorch(task, device, "compiled"),
        "torch CUDA graph": lambda task: ByTorch(task, device, "graph"),
        "JAX": lambda task: ByJax(task, device, fused=False),
        "JAX fused": lambda task: ByJax(task, device, fused=True),
    }
    if device == "cpu":
        del found["torch CUDA graph"]
    return {n: m for n, m in found.items() if not any(word in n for word in options.without)}


def host(images: Any) -> np.ndarray:
    return images.cpu().numpy() if isinstance(images, torch.Tensor) else np.asarray(images)


def entered(options: argparse.Namespace, task: Task, seconds: float) -> dict[str, Rate]:
    """All that give the right answer, ready to be timed."""
    rates, few = {}, task.part(0, min(VERIFIED, len(task.starts)))
    for name, make in makers(options).items():
        began = time.perf_counter()
        try:
            small = make(few)
            check_ascent(few, name, lambda steps, run=small: host(run(steps)))
            rates[name] = stepping(make(task), len(task.starts), seconds)
        except (Exception, WrongAnswer) as error:
            if name == "pyoip":
                raise
            print(
                f"  {name}: left out: {str(error).splitlines()[0][:100] if str(error) else error!r}"
            )
        else:
            print(f"  {name}: verified, ready after {time.perf_counter() - began:.0f} s")
    return rates


# --- what is measured ----------------------------------------------------------------------------


def peak_flops() -> float | None:
    """The device's multiply-adds as a chain of each thread's own makes them, or None."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "peak.cu"), Path(folder, "peak")
        source.write_text(PEAK)
        try:
            build = ["nvcc", "-O3", "-arch=native", "-o", str(program), str(source)]
            subprocess.run(build, check=True, capture_output=True)
            return float(subprocess.run([program], check=True, capture_output=True).stdout)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"the FMA peak cannot be measured: {error}")
            return None


def table(options: argparse.Namespace, peak: float | None, save: Callable[..., None]) -> None:
    seconds = 0.1 if options.quick else 0.3
    for layer in options.layers:
        for images in (SMALL[layer], *options.batches):
            print(f"layer {layer}, {images} images")
            task = shipped(layer, images)
            rates = entered(options, task, seconds)
            found = interleaved(rates, 2 if options.quick else options.repeats)
            _tell(found, WANTED[layer] if images == SMALL[layer] else MANY, task, peak)
            save(f"layer {layer}, {images} images", {n: f.json() for n, f in found.items()})


def _tell(found: dict[str, Figure], wanted: float, task: Task, peak: float | None) -> None:
    for name, figure in found.items():
        print(f"  {name:18} {figure} image-steps a second")
    others = {name: figure for name, figure in found.items() if name != "pyoip"}
    if others:
        best = max(others, key=lambda name: others[name].median)
        ratio = found["pyoip"].median / others[best].median
        print(f"  {ratio:.2f} times the best peer, {best} (wanted {wanted})")
    if peak:
        share = found["pyoip"].median * direct_operations(task.stack) / peak
        print(
            f"  {share:.1%} of the FMA peak of {peak / 1e12:.1f} TFLOP/s, by necessary operations"
        )


def coarse(options: argparse.Namespace, save: Callable[..., None]) -> None:
    """TF32 over exact at layer 3."""
    images = min(4096, *options.batches) if options.batches else VERIFIED
    task = shipped(3, images)
    both = {p: ours(task, options.engine, options.device, precision=p) for p in ("exact", "tf32")}
    seconds = 0.1 if options.quick else 0.3
    found = interleaved({n: stepping(r, images, seconds) for n, r in both.items()}, 3)
    ratio = found["tf32"].median / found["exact"].median
    print(f"tf32 over exact, layer 3, {images} images: {ratio:.2f} (wanted 1.5)")
    save("tf32", {n: f.json() for n, f in found.items()})


def whole_job(options: argparse.Namespace, save: Callable[..., None]) -> None:
    """All maps of three layers, the best 4 of 1024 candidates each, 256 steps; host to host."""
    candidates = pyoip.start_images(64 if options.quick else 1024)
    stacks = [shipped(layer, 1).stack for layer in options.layers]
    made = [engines.make(options.engine, stack) for stack in stacks]
    settings = Settings(steps=8 if options.quick else 256)

    def run() -> int:
        ascents = 0
        for engine in made:
            scores = engine.score(candidates, "activation")
            best = np.argsort(-scores, axis=0, kind="stable")[:4].T
            targets = np.repeat(np.arange(len(best), dtype=np.int32), 4)
            ascents += len(engine.ascend(candidates[best.ravel()], targets, settings).steps)
        return ascents

    ascents = run()
    times = []
    for _ in range(5):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    print(f"whole job, {ascents} ascents: {1e3 * np.median(times):.0f} ms (wanted 50)")
    save("whole job, seconds", times)


def scoring(options: argparse.Namespace, save: Callable[..., None]) -> None:
    """Start images of layer 2 scored from host arrays."""
    count = 256 if options.quick else 2**17
    engine, images = engines.make(options.engine, shipped(2, 1).stack), pyoip.start_images(count)
    engine.score(images[:64], "activation")
    began = time.perf_counter()
    engine.score(images, "activation")
    rate = count / (time.perf_counter() - began)
    print(f"scores of layer 2 from host arrays: {rate:.3g} images a second")
    save("scores a second, host arrays", rate)


def main() -> None:
    options = arguments()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    reason = engines.available().get(options.engine)
    if reason is not None:
        raise SystemExit(f"engine {options.engine}: {reason}")
    machine = [describe(), *(f"{k}: {v}" for k, v in engines.describe().items() if "cuda:" in k)]
    results: dict[str, Any] = {"machine": machine}
    print("\n".join(machine))

    def save(name: str, value: Any) -> None:
        results[name] = value
        if options.json:
            Path(options.json).write_text(json.dumps(results, indent=1))

    peak = peak_flops() if options.device == "cuda" else None
    save("FMA peak", peak)
    table(options, peak, save)
    coarse(options, save)
    whole_job(options, save)
    scoring(options, save)


if __name__ == "__main__":
    main()
