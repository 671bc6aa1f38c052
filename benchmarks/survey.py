"""What a survey takes beside its engine: Python, noise and the store; and its memory.

    python benchmarks/survey.py [--mixes 12] [--starts 1000] [--repeats 5] [--layers 1 2 3]
                                [--sizes 10000 100000] [--million] [--driver] [--json FILE]

For each layer of the shipped network a survey runs into a file of its own, and every call of its
engine is noted. The same calls, with the same arrays, then run alone. Before anything is timed
their answers are compared bit by bit. Survey and engine run in turn. --sizes tells how the share
goes with the number of start images on layer 1, too many to keep: there the engine's calls are
timed within the survey, and what is left is told by part. --million measures the memory of surveys
over ten thousand and over a million start images, each in a process of its own; --driver how many
pieces of work a second the process that writes can take.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

import pyoip
from pyoip import starts
from pyoip.engines import Ascents
from pyoip.surveys import run, work
from pyoip.surveys.store import Store

LAYERS = (1, 2, 3)
MOST = 0.10  # of the engine's time
MEMORY = """
import json, sys, tempfile, time
from pathlib import Path
import pyoip
began = time.perf_counter()
with tempfile.TemporaryDirectory() as folder:
    pyoip.survey("mnist", 2, out=Path(folder, "survey.db"), mixes=pyoip.Fluctuations(),
                 starts=int(sys.argv[1]), article=0)
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
print(json.dumps([peak, time.perf_counter() - began]))
"""


@dataclass(frozen=True)
class Call:
    """One call of the engine, and what it answered."""

    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    answer: Any


class Noting:
    """An engine that notes its calls."""

    def __init__(self, engine: Any, calls: list[Call]) -> None:
        self._engine, self._calls = engine, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if name not in ("score", "ascend"):
            return found

        def noted(*arguments: Any) -> Any:
            kept = tuple(a.copy() if isinstance(a, np.ndarray) else a for a in arguments)
            kept = tuple(None if callable(a) else a for a in kept)  # progress
            answer = found(*arguments)
            self._calls.append(Call(found, kept, answer))
            return answer

        return noted


def noted_calls(run: Callable[[], object]) -> list[Call]:
    """Every call that a survey makes of its engine."""
    calls: list[Call] = []
    made = work.for_layer
    work.for_layer = lambda *a: Noting(made(*a), calls)  # type: ignore[attr-defined]
    try:
        run()
    finally:
        work.for_layer = made  # type: ignore[attr-defined]
    return calls


def verify(calls: list[Call]) -> None:
    """The engine alone gives the survey's bits."""
    for call in calls:
        again = call.run(*call.arguments)
        pairs = (
            [(vars(again)[n], vars(call.answer)[n]) for n in ("images", "activations", "steps")]
            if isinstance(again, Ascents)
            else [(again, call.answer)]
        )
        if not all(np.array_equal(one, other) for one, other in pairs):
            raise SystemExit("the engine alone gives other answers than in the survey")


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """On the clock and of all cores together: the latter hardly depends on what else runs."""
    began = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def compare(layer: int, mixes: int, starts: int, repeats: int) -> dict[str, Any]:
    """Medians of both, and what the survey takes on top."""
    chosen = pyoip.grid()[:: max(1, 60 // mixes)][:mixes]

    def survey() -> None:
        with tempfile.TemporaryDirectory() as folder:
            pyoip.survey("mnist", layer, out=Path(folder, "s.db"), mixes=chosen, starts=starts)

    calls = noted_calls(survey)
    verify(calls)
    pairs = [
        (seconds(survey), seconds(lambda: [call.run(*call.arguments) for call in calls]))
        for _ in range(repeats)
    ]
    both = np.array(pairs)  # (repeats, survey or alone, clock or cores)
    whole, alone = np.median(both[:, :, 0], axis=0).tolist()
    overheads, cores = np.sort(both[:, 0] / both[:, 1] - 1, axis=0).T.tolist()
    return {
        **{"layer": layer, "mixes": len(chosen), "starts": starts, "calls": len(calls)},
        **{"survey": whole, "engine": alone, "overhead": float(np.median(overheads))},
        **{"least": overheads[0], "most": overheads[-1], "cores": float(np.median(cores))},
    }


class Clock:
    """Seconds spent in some functions, without those that they call in turn."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._inner = [0.0]

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self._inner.append(0.0)
            began = time.perf_counter()
            try:
                return function(*arguments, **more)
            finally:
                took = time.perf_counter() - began
                self.spent[part] = self.spent.get(part, 0.0) + took - self._inner.pop()
                self._inner[-1] += took

        return call


PARTS = {
    "noise": ((starts, "mixed_images"),),
    "file": tuple((Store, name) for name in ("__init__", "put_maps", "put", "starts_of", "close")),
    "read back": ((run, "load_survey"),),
    "model": ((run, "load"),),
    "ranking": ((work.Worker, "_best"), (work, "_packed"), (work, "_counts")),
    "verdicts": ((work.Worker, "_climbed"),),
}


def taken_apart(mixes: int, images: int, repeats: int) -> dict[str, Any]:
    """Seconds of a survey of layer 1 by part, of the run that takes least on top."""
    chosen = pyoip.grid()[:: max(1, 60 // mixes)][:mixes]
    few = images // len(chosen)

    def once() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder, patched(clock := Clock()):
            began = time.perf_counter()
            pyoip.survey("mnist", 1, out=Path(folder, "s.db"), mixes=chosen, starts=few)
            whole = time.perf_counter() - began
        rest = whole - sum(clock.spent.values())
        return {"images": images, "whole": whole, **clock.spent, "other Python": rest}

    return min((once() for _ in range(repeats)), key=lambda run: run["whole"] / run["engine"])


@contextmanager
def patched(clock: Clock) -> Iterator[None]:
    """Functions that take the time of a survey, timed."""
    made, kept = work.for_layer, []

    def engine(*arguments: Any) -> Any:
        made_engine = made(*arguments)
        for name in ("score", "ascend"):
            setattr(made_engine, name, clock.timed("engine", getattr(made_engine, name)))
        return made_engine

    for part, places in PARTS.items():
        for place, name in places:
            kept.append((place, name, getattr(place, name)))
            setattr(place, name, clock.timed(part, getattr(place, name)))
    work.for_layer = engine
    try:
        yield
    finally:
        work.for_layer = made
        for place, name, function in kept:
            setattr(place, name, function)


def memory(starts: int) -> dict[str, float]:
    command = [sys.executable, "-c", MEMORY, str(starts)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    peak, took = json.loads(out)
    return {"starts": starts, "peak_mb": peak, "seconds": took}


def driver(pieces: int = 240) -> dict[str, float]:
    """What the one process that writes can take: pieces of 32 maps, stored and over a cluster."""
    from distributed import Client, LocalCluster

    network = pyoip.load("mnist")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "s.db")
        plan = pyoip.survey(network, 3, out=path, mixes=pyoip.Fluctuations(), article=0).plan
        worker = work.Worker(network, plan)
        task = replace(next(plan.climbs(range(1))), count=32)
        starts = np.tile(np.arange(plan.ascents), (1, task.count, 1))
        found = worker.climb(task, starts)
        wide = replace(plan, mixes=pyoip.sobol(pieces))
        with Store(Path(folder, "wide.db"), wide) as store:
            scoring = next(plan.scorings(range(1)))
            scored = worker.score(scoring)
            for mix in range(pieces):
                store.put(replace(scoring, mix=mix), scored, "cpu")
            began = time.perf_counter()
            for mix in range(pieces):
                climb = replace(task, mix=mix)
                store.starts_of(climb)
                store.put(climb, found, "cpu")
            stored = pieces / (time.perf_counter() - began)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        shared = client.scatter(found, broadcast=True)
        send = lambda number, found: found  # noqa: E731 - workers get it by value
        client.gather([client.submit(send, -n, shared) for n in range(1, 9)])
        began = time.perf_counter()
        for first in range(0, pieces, 8):
            client.gather([client.submit(send, first + n, shared) for n in range(8)])
        sent = pieces / (time.perf_counter() - began)
    return {"maps": len(found.maps), "stored_per_second": stored, "sent_per_second": sent}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mixes", type=int, default=12)
    parser.add_argument("--starts", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--layers", type=int, nargs="*", default=LAYERS)
    parser.add_argument("--sizes", type=int, nargs="*", default=[], help="start images of layer 1")
    parser.add_argument("--million", action="store_true", help="also measure memory")
    parser.add_argument("--driver", action="store_true", help="also measure who writes")
    parser.add_argument("--json", help="also write the figures to this file")
    asked = parser.parse_args()
    print(describe())
    print(
        f"layer  mixes  {'survey':>9}  {'engine alone':>12}  on top (least to most), of all cores"
    )
    rows = []
    for layer in asked.layers:
        row = compare(layer, asked.mixes, asked.starts, asked.repeats)
        rows.append(row)
        print(
            f"{layer:>5}  {row['mixes']:>5}  {row['survey']:>7.3f} s  {row['engine']:>10.3f} s  "
            f"{row['overhead']:.1%} ({row['least']:.1%} to {row['most']:.1%}), {row['cores']:.1%}",
            flush=True,
        )
    whole = (
        sum(row["survey"] for row in rows) / sum(row["engine"] for row in rows) - 1 if rows else 0
    )
    print(f"all of them: {whole:.1%} on top; wanted: under {MOST:.0%}")
    sizes = [taken_apart(asked.mixes, size, asked.repeats) for size in asked.sizes]
    for size in sizes:
        parts = {name: s for name, s in size.items() if name not in ("images", "whole", "engine")}
        shares = ", ".join(f"{name} {s / size['engine']:.1%}" for name, s in parts.items())
        print(
            f"layer 1, {size['images']:,} start images: engine {size['engine']:.3f} s, on top "
            f"{sum(parts.values()) / size['engine']:.1%}: {shares}",
            flush=True,
        )
    peaks = [memory(starts) for starts in (10_000, 1_000_000)] if asked.million else []
    for peak in peaks:
        print(f"{peak['starts']:,} start images: {peak['peak_mb']:.0f} MB, {peak['seconds']:.1f} s")
    writes = driver() if asked.driver else {}
    if writes:
        print(
            f"the writing process: {writes['stored_per_second']:.0f} pieces of "
            f"{writes['maps']:.0f} maps a second stored, {writes['sent_per_second']:.0f} "
            "taken from a cluster"
        )
    if asked.json:
        document = {"machine": describe(), "rows": rows, "overhead": whole, "memory": peaks}
        document["sizes"] = sizes
        document["driver"] = writes
        Path(asked.json).write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
