"""What every section prints and hands on: rates, ratios to the best peer, shares of the peak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from timing import Figure, peak_name

OURS = "pyoip"


@dataclass(frozen=True)
class Options:
    """From the command line: how long, how often, and over how many images."""

    repeats: int
    seconds: float  # of one timed run
    images: tuple[int, ...]
    quick: bool
    plot: str | None = None


def row(
    what: str,
    figures: dict[str, Figure],
    operations: int,
    variants: dict[str, str],
    threads: dict[str, int],
) -> dict[str, Any]:
    """One comparison as a dictionary for JSON; `threads` are those of pyoip's own contenders."""
    best = best_peer(figures, threads)
    return {
        "what": what,
        "rates": {name: figure.json() for name, figure in figures.items()},
        "variants": variants,
        "best peer": best,
        "ratio": figures[OURS].median / figures[best].median if best else None,
        "operations": operations,
        "share of peak": {
            name: figures[name].median * operations / figures[peak_name(count)].median
            for name, count in threads.items()
        },
    }


def best_peer(figures: dict[str, Figure], ours: dict[str, int]) -> str | None:
    peers = [n for n in figures if n not in ours and not n.startswith("FMA")]
    return max(peers, key=lambda name: figures[name].median, default=None)


def show(made: dict[str, Any], unit: str) -> None:
    """Print one comparison, a line per contender."""
    print(f"\n{made['what']}   {unit}, median (least–most)", flush=True)
    for name, rate in made["rates"].items():
        if name.startswith("FMA"):
            continue
        line = f"  {name:28} {Figure(**rate)!s:32}"
        share = made["share of peak"].get(name)
        line += f" {share:6.1%} of the FMA peak" if share is not None else ""
        line += f"  [{made['variants'][name]}]" if name in made["variants"] else ""
        best = "  <- best peer" if name == made["best peer"] else ""
        print(line.rstrip() + best)
    if made["best peer"]:
        print(f"  ratio to the best peer: {made['ratio']:.2f}")
    peaks = {k: v for k, v in made["rates"].items() if k.startswith("FMA")}
    print("  " + "; ".join(f"{k}: {v['median'] / 1e9:.0f} GFLOP/s" for k, v in peaks.items()))
    if busy(peaks):
        print("  the machine was busy with something else: these figures say little")


def busy(peaks: dict[str, dict[str, float]]) -> bool:
    """Tell whether two threads together reached far less than twice the peak of one."""
    one, two = (peaks[peak_name(threads)]["median"] for threads in (1, 2))
    return two < 1.7 * one
