"""The fused CPU core beside the best scripts that frameworks allow, and beside the processor.

    python benchmarks/cpu.py [--quick] [--only ascents,single,score,shapes,scaling]
                             [--images 64 512] [--repeats 5] [--json FILE] [--plot FILE]

Everyone uses two threads and float32 and follows the same rule (gradient over its rms, constant
step, standardise). Answers are verified first; then all run in turn in this one process, the
processor's FMA peak among them. Of every framework the fastest of several variants is shown.

glibc gives the frameworks' buffers back to the system at every step, which slows them two- to
fourfold, unless MALLOC_MMAP_MAX_=0 is set: the script starts itself again with it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

SECTIONS = ("ascents", "single", "score", "shapes", "scaling")
ENVIRONMENT = {"MALLOC_MMAP_MAX_": "0"}
THREADS = 2


def be_fair() -> None:
    """Start again with the environment that the peers need; keep everyone to two processors."""
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    if hasattr(os, "sched_setaffinity"):  # JAX cannot be told a number of threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short runs; figures are rough")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between")
    parser.add_argument("--images", nargs="+", type=int, default=[64, 512])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--plot", help="draw the scaling to this PNG file")
    found = parser.parse_args()
    found.only = found.only.split(",")
    if unknown := set(found.only) - set(SECTIONS):
        parser.error(f"--only {','.join(unknown)}: must be among {','.join(SECTIONS)}")
    return found


def announce() -> dict[str, Any]:
    """Print and return the machine, and which peers are missing."""
    import peers
    from machine import describe

    _, missing = peers.available()
    print(describe())
    for peer, reason in missing.items():
        print(f"missing peer: {peer} ({reason}); pip install 'pyoip[bench]'")
    if "torch as a user writes it" in missing:
        raise SystemExit("without torch no answer can be verified in float64: nothing is timed")
    return {"machine": describe(), "missing peers": missing}


def sections() -> dict[str, Any]:
    import ascents
    import scaling
    import score
    import shapes

    runs = ascents.batches, ascents.single, score.run, shapes.run, scaling.run
    return dict(zip(SECTIONS, runs, strict=True))


def main() -> None:
    chosen = arguments()
    be_fair()
    from report import Options

    options = Options(
        repeats=2 if chosen.quick else chosen.repeats,
        seconds=0.1 if chosen.quick else 0.3,
        images=tuple(chosen.images),
        quick=chosen.quick,
        plot=chosen.plot,
    )
    found = announce()
    for name, run in sections().items():
        if name in chosen.only:
            print(f"\n== {name}")
            found[name] = run(options)
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
