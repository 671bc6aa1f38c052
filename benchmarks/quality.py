"""Is the answer good, not just quick? pyoip's defaults beside a strong torch reference.

For every map that can be activated: the activation of pyoip's OIP over the best of 8 ascents
by Adam on the sphere (gradient projected, cosine decay), 400 steps each, from the 8 best of
1024 candidates. The promise for layers 2 and 3: median ratio at least 1.02, worst at least 0.97.

    python benchmarks/quality.py [MODEL ...] [--layers 2 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from machine import describe
from peers.torch_peer import TorchStack, adam_on_the_sphere

import pyoip
from pyoip.stack import build_stack

STARTS, STEPS, RATE = 8, 400, 0.3
MEDIAN, WORST = 1.02, 0.97  # promised for layers 2 and 3


def compare(model: str, layer: int) -> dict[str, object]:
    network = pyoip.load(model)
    began = time.perf_counter()
    ours = pyoip.ascend(network, layer)
    seconds = time.perf_counter() - began

    pool = pyoip.start_images(1024)
    scores = pyoip.score(network, pool, layer)
    alive = np.flatnonzero(scores.max(axis=0) > 0)
    best = np.argsort(-scores[:, alive], axis=0, kind="stable")[:STARTS].T
    net = TorchStack(build_stack(network, layer))
    verify(net, ours, network, layer)
    began = time.perf_counter()
    theirs = adam_on_the_sphere(net, pool[best.reshape(-1)], np.repeat(alive, STARTS), STEPS, RATE)
    reference_seconds = time.perf_counter() - began

    ratio = ours.activations[alive] / theirs.reshape(len(alive), STARTS).max(axis=1)
    return {
        "model": network.name,
        "accuracy": network.metadata.get("pyoip.accuracy"),
        "layer": layer,
        "maps": len(ours),
        "compared": len(alive),
        "verdicts": ours.counts(),
        "median": float(np.median(ratio)),
        "worst": float(ratio.min()),
        "worst map": int(alive[ratio.argmin()]),
        "best": float(ratio.max()),
        "seconds": seconds,
        "reference seconds": reference_seconds,
    }


def verify(net: TorchStack, ours: pyoip.Result, network: pyoip.Network, layer: int) -> None:
    """Torch must see the same activations in our images, or nothing is compared."""
    with torch.no_grad():
        seen = net.objective(torch.tensor(ours.images), torch.tensor(ours.maps)).numpy()
    np.testing.assert_allclose(seen, ours.activations, rtol=1e-4, atol=1e-6)


def kept(row: dict[str, object]) -> bool:
    """The promise; layer 1 has none."""
    return row["layer"] == 1 or (row["median"] >= MEDIAN and row["worst"] >= WORST)


def summary(row: dict[str, object]) -> str:
    return (
        f"{row['model']} layer {row['layer']}: median {row['median']:.4f}, "
        f"worst {row['worst']:.4f} (map {row['worst map']}), best {row['best']:.4f} over "
        f"{row['compared']} maps; {row['verdicts']}; "
        f"{row['seconds']:.1f} s beside {row['reference seconds']:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["mnist"])
    parser.add_argument("--layers", nargs="*", type=int, default=[2, 3])
    parser.add_argument("--json", help="also write the figures to this file")
    arguments = parser.parse_args()
    print(describe())
    rows = []
    for model in arguments.models:
        for layer in arguments.layers:
            row = compare(model, layer)
            rows.append(row)
            print(summary(row), flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"machine": describe(), "rows": rows}, file, indent=1)
    if broken := [summary(row) for row in rows if not kept(row)]:
        raise SystemExit("below the promise: " + "; ".join(broken))


if __name__ == "__main__":
    main()
