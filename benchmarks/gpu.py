"""The CUDA core beside the best scripts that frameworks allow, and beside the device's FMA peak.

    python benchmarks/gpu.py --json gpu.json

is all that a machine with a device has to run; it ends within ten minutes. on_device.py says who
takes part. Answers are verified against the CPU core first. Each peer has a process of its own, and
so has our engine; the two are timed in turn, again and again, while no other peer is there to take
memory. So every ratio is of one run, and the report has our engine's rate beside each peer. Who
fails, crashes or hangs is a line with the reason, and the file holds all that was measured until
then. `--engine cpu --device cpu` runs the script, for its own sake, where no device is.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from aside import Aside, Gone
from machine import describe
from on_device import Contender, Ours
from task import Task, shipped
from timing import Figure, interleaved
from work import direct_operations

from pyoip import engines

# The strongest first, where time should not suffice.
PEERS = ("torch CUDA graph", "JAX", "torch compiled", "torch eager", "JAX fused")
SMALL = {1: 32, 2: 64, 3: 128}  # images, by layer
WANTED = {1: 30, 2: 20, 3: 10}  # times the best peer, there
MANY = 5  # times the best peer, with thousands of images
OURS = "pyoip"

Row = tuple[int, int]  # a layer, and a number of images


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short runs; figures are rough")
    parser.add_argument("--layers", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--batches", nargs="*", type=int, default=[4096, 65536])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], help="peers that are left out")
    parser.add_argument("--engine", default="cuda")
    parser.add_argument("--device", default="cuda", help="of torch")
    parser.add_argument("--cap", type=float, default=90, help="seconds for one answer of anybody")
    parser.add_argument("--minutes", type=float, default=9, help="after which no row is begun")
    parser.add_argument("--json", help="also write the figures to this file, as they come")
    return parser.parse_args()


class Bench:
    """What was asked for, until when, and all that is known so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.end = options, time.monotonic() + 60 * options.minutes
        self.results: dict[str, Any] = {"machine": machine(options.device), "rows": {}}
        self.ours = self.aside(OURS, Ours, options.engine)
        print("\n".join(self.results["machine"]))

    def aside(self, name: str, kind: type[Contender], *first: str) -> Aside:
        seconds = 0.1 if self.options.quick else 0.3
        return Aside(name, self.options.cap, kind, *first, self.options.device, seconds)

    def save(self, value: Any, *place: str) -> None:
        """Keep a value, and write the file: a new one, then in the place of the old one."""
        inner = functools.reduce(lambda d, key: d.setdefault(key, {}), place[:-1], self.results)
        inner[place[-1]] = value
        if self.options.json:
            Path(f"{self.options.json}.part").write_text(json.dumps(self.results, indent=1))
            os.replace(f"{self.options.json}.part", self.options.json)

    def failed(self, what: str, error: Gone) -> None:
        """Of our engine: told, kept, and the end's exit code."""
        print(f"{what}: {error}", flush=True)
        self.save(str(error), "failures", what)

    def rows(self) -> Iterator[Row]:
        for layer in self.options.layers:
            yield from ((layer, images) for images in (SMALL[layer], *self.options.batches))

    def ask(self, job: str, *given: object) -> Any:
        """What our engine does in a job, where there is time. Raises Gone."""
        self.limit(self.ours)
        return self.ours.ask(job, *given)

    def limit(self, *everyone: Aside) -> None:
        """Give nobody more time than is left. Raises Gone."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise Gone(f"the {self.options.minutes:g} minutes are over")
        for one in everyone:
            one.seconds = min(self.options.cap, max(left, 1))


def machine(device: str) -> list[str]:
    found = [f"{k}: {v}" for k, v in engines.describe().items() if "cuda:" in k]
    return [describe(), *found, f"torch and JAX on {device}"]


def _name(row: Row) -> str:
    return f"layer {row[0]}, {row[1]} images"


@functools.cache
def task_of(row: Row) -> Task:
    return shipped(*row)


# --- what is measured ----------------------------------------------------------------------------


def peak_flops() -> float | None:
    """The device's multiply-adds as a chain of each thread's own makes them, or None."""
    source = Path(__file__).with_name("fma_peak.cu")
    places = [*Path("/usr/local").glob("cuda*/bin/nvcc"), Path("nvcc")]
    nvcc = shutil.which("nvcc") or str(places[0])
    with tempfile.TemporaryDirectory() as folder:
        build = [nvcc, "-O3", "-arch=native", "-o", f"{folder}/peak", str(source)]
        try:
            subprocess.run(build, check=True, capture_output=True, timeout=120)
            run = subprocess.run([f"{folder}/peak"], check=True, capture_output=True, timeout=60)
            return float(run.stdout)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            print(f"the FMA peak cannot be measured: {error}")
            return None


def timed(people: dict[str, Aside], row: Row, repeats: int) -> dict[str, Figure]:
    """All in turn, after each has been verified. Raises Gone."""
    for one in people.values():
        one.ask("ready", task_of(row))
    return interleaved({name: partial(one.ask, "rate") for name, one in people.items()}, repeats)


def alone(bench: Bench) -> None:
    """Our engine on every row, before anybody else can take the time."""
    for row in bench.rows():
        try:
            bench.limit(bench.ours)
            found = timed({OURS: bench.ours}, row, 2)[OURS]
        except Gone as error:
            bench.failed(_name(row), error)
            continue
        peak, line = bench.results["FMA peak"], f"{_name(row)}: {found} image-steps a second"
        share = found.median * direct_operations(task_of(row).stack) / peak if peak else None
        line += f", {share:.1%} of the FMA peak, by necessary operations" if peak else ""
        print(line, flush=True)
        bench.save({"rate": found.json(), "share of peak": share}, "rows", _name(row), OURS)


def jobs(bench: Bench) -> None:
    """TF32, a whole job, and scores: of our engine."""
    quick, batches = bench.options.quick, bench.options.batches
    images = min(4096, *batches) if batches else 64
    with _told(bench, "tf32"):
        found = bench.ask("coarse", images)
        ratio = found["tf32"].median / found["exact"].median
        print(f"tf32 over exact, layer 3, {images} images: {ratio:.2f} (wanted 1.5)")
        bench.save({n: f.json() for n, f in found.items()}, "tf32")
    with _told(bench, "whole job"):
        size = (64, 8) if quick else (1024, 256)
        ascents, times = bench.ask("whole_job", bench.options.layers, *size)
        took = sorted(times)[len(times) // 2]
        print(f"whole job, {ascents} ascents: {1e3 * took:.0f} ms (wanted 50)")
        bench.save(times, "whole job, seconds")
    with _told(bench, "scores"):
        count = 256 if quick else 10**6
        by_number, arrays = bench.ask("scoring", count)
        print(
            f"layer 2's scores of {count} start images: {by_number:.2f} s drawn there "
            f"(of a million: wanted 1), {arrays:.2f} s from host arrays",
            flush=True,
        )
        bench.save([count, by_number, arrays], "scores, seconds by number and from arrays")


@contextlib.contextmanager
def _told(bench: Bench, what: str) -> Iterator[None]:
    try:
        yield
    except Gone as error:
        bench.failed(what, error)


def against(bench: Bench, name: str) -> None:
    """One peer on every row beside our engine."""
    print(name, flush=True)
    peer = bench.aside(name, Contender, name)
    for row in bench.rows():
        people = {OURS: bench.ours, name: peer}
        if OURS not in bench.results["rows"].get(_name(row), {}):
            del people[OURS]  # it failed there
        try:
            bench.limit(*people.values())
            found = timed(people, row, 2 if bench.options.quick else bench.options.repeats)
            said: dict[str, Any] = {n: f.json() for n, f in found.items()}
            line = f"{found[name]}"
            if OURS in found:
                said["ratio"] = found[OURS].median / found[name].median
                line += f"; pyoip beside it {found[OURS]}: {said['ratio']:.2f} times"
        except Gone as error:
            said, line = {"left out": str(error)}, f"left out: {error}"
        print(f"  {_name(row)}: {line}", flush=True)
        bench.save(said, "rows", _name(row), "peers", name)
    peer.end()


def summary(bench: Bench) -> None:
    for row in bench.rows():
        peers = bench.results["rows"].get(_name(row), {}).get("peers", {})
        ratios = {name: said["ratio"] for name, said in peers.items() if "ratio" in said}
        wanted = WANTED[row[0]] if row[1] == SMALL[row[0]] else MANY
        if ratios:
            best = min(ratios, key=lambda name: ratios[name])
            print(
                f"{_name(row)}: {ratios[best]:.2f} times the best peer, {best} (wanted {wanted}); "
                f"{len(ratios)} of {len(peers)} peers timed"
            )


def main() -> int:
    options = arguments()
    reason = engines.available().get(options.engine)
    if reason is not None:
        raise SystemExit(f"engine {options.engine}: {reason}")
    bench = Bench(options)
    bench.save(peak_flops() if options.device == "cuda" else None, "FMA peak")
    try:
        alone(bench)
        jobs(bench)
        for name in PEERS:
            graph_without_device = "CUDA" in name and options.device == "cpu"
            if not graph_without_device and not any(word in name for word in options.without):
                against(bench, name)
    finally:
        bench.ours.end()
    summary(bench)
    return 1 if "failures" in bench.results else 0


if __name__ == "__main__":
    raise SystemExit(main())
