"""Instructions per image-step of the fused core, beside the counts on record.

Timings are as noisy as the machine; the count of instructions is the same number every time, so
that a few percent show. A slower mix of as many instructions does not: time that with
benchmarks/cpu.py.

The driver (csrc/driver.cpp), compiled as the extension is, climbs on one thread under valgrind's
callgrind, which knows AVX2 and not AVX-512. Counted is the kernels' function `ascend` alone, in
a longer run minus a shorter one: 32 steps and nothing else.

    python benchmarks/instructions.py [--record] [--build FOLDER]

Fails when a count is more than 5 % above that of this compiler in instructions.json; a compiler
without counts there passes. --record writes them. CXX chooses the compiler of a new FOLDER.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import driver  # noqa: E402
from problems import TOLERANCE, errors_of  # noqa: E402

import pyoip  # noqa: E402
from pyoip.settings import Method, Settings  # noqa: E402
from pyoip.stack import Stack, build_stack  # noqa: E402

RECORD = Path(__file__).with_name("instructions.json")
ISA = "avx2"
MOST = 1.05  # times the count on record
SHORT, LONG = 8, 40  # steps
COUNTED = "pyoip::cpu::(anonymous namespace)::ascend(*"  # with all that it calls


@dataclass(frozen=True)
class Case:
    """Some ascents of the shipped network; few, as callgrind is some hundred times slower."""

    layer: int
    method: Method
    images: int

    @property
    def name(self) -> str:
        return f"layer {self.layer}, {self.method}"


CASES = (
    Case(1, "tangent", 4),
    Case(1, "article", 4),
    Case(2, "tangent", 2),
    Case(3, "tangent", 1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write the counts to the record")
    parser.add_argument("--build", type=Path, help="folder to build in; default build/driver")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise driver.MissingToolError("valgrind: not on this machine")
    program = driver.build(folder=arguments.build and arguments.build.resolve())
    if ISA not in driver.info(["valgrind", "-q", "--tool=none", program])["instruction sets"]:
        print(f"{ISA}: not on this machine under valgrind, skipped")
        return
    compiler = driver.info([program])["compiler"]
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    print(f"instructions per image-step, {ISA}, {compiler}")
    counts = {case.name: instructions_per_step(program, case) for case in CASES}
    lines, failures = compare(counts, record, compiler)
    print("\n".join(lines))
    if arguments.record:
        record[compiler] = counts
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
        print("recorded")
    elif failures:
        sys.exit("\n".join(failures))


def compare(
    counts: Mapping[str, int], record: Mapping[str, Mapping[str, int]], compiler: str
) -> tuple[list[str], list[str]]:
    """A line for each count, and one for each that is too high."""
    reference = record.get(compiler)
    if reference is None:
        lines = [f"{name}: {count:,}" for name, count in counts.items()]
        return [*lines, f"no reference for {compiler}; recorded: {', '.join(record) or 'none'}"], []
    lines, failures = [], []
    for name, count in counts.items():
        if name not in reference:
            lines.append(f"{name}: {count:,}; no reference")
            continue
        before = reference[name]
        change = f"{count:,}; on record {before:,}; {100 * (count / before - 1):+.1f} %"
        fewer = "; so far below the record: --record" if before > MOST * count else ""
        lines.append(f"{name}: {change}{fewer}")
        if count > MOST * before:
            failures.append(f"{name}: more instructions than before: {change}")
    return lines, failures


# --- counting --------------------------------------------------------------------------------


def instructions_per_step(program: Path, case: Case) -> int:
    stack = build_stack(pyoip.load("mnist"), case.layer)
    starts = pyoip.start_images(case.images)
    plain = driver.DriverEngine(stack, [program], isa=ISA)
    targets = plain.score(starts, "activation").argmax(axis=1).astype(np.int32)  # awake
    if errors_of(plain, stack, starts, targets).largest > TOLERANCE:
        sys.exit(f"{case.name}: wrong answers; nothing to count")
    short, again, long = (
        instructions(program, case, stack, starts, targets, steps) for steps in (SHORT, SHORT, LONG)
    )
    if short != again:
        sys.exit(f"{case.name}: {short} instructions, then {again}; the count is not repeatable")
    return round((long - short) / (LONG - SHORT) / case.images)


def instructions(
    program: Path, case: Case, stack: Stack, starts: np.ndarray, targets: np.ndarray, steps: int
) -> int:
    """Of one run, which is checked to take all its steps."""
    settings = Settings(steps=steps, method=case.method)
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder, "profile")
        tool = (
            "--tool=callgrind",
            f"--toggle-collect={COUNTED}",
            f"--callgrind-out-file={profile}",
        )
        counted = driver.DriverEngine(stack, ["valgrind", "-q", *tool, program], isa=ISA)
        if (counted.ascend(starts, targets, settings).steps != steps).any():
            sys.exit(f"{case.name}: an ascent ended early; the counts cannot be compared")
        count = total(profile.read_text())
    if count == 0:
        sys.exit(f"{case.name}: nothing counted; COUNTED={COUNTED!r} must name a function")
    return count


def total(profile: str) -> int:
    """The sum that a profile of callgrind ends with."""
    (line,) = (line for line in profile.splitlines() if line.startswith("totals:"))
    return int(line.split()[1])


if __name__ == "__main__":
    try:
        main()
    except (driver.MissingToolError, RuntimeError) as error:
        sys.exit(f"instructions.py: {error}")
