"""The derived step graph on ONNX Runtime's CPU provider beside torch's eager autograd.

    python benchmarks/onnx_step.py [--quick] [--all] [--batch 64] [--repeats 5] [--json FILE]
                                   [MODEL ...]

Both compute the mean activation of one map per image and its gradient by the pixels, at the last
convolution layer of each model (--all: at every one), in float32 on two threads. Models are files,
by default those in the folder that PYOIP_TEST_MODELS names. torch runs the same graph rebuilt of
its own functions, up to the layer, weights without gradients, in the faster of its two memory
layouts. Answers are verified against torch in float64 first; then both run in turn.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from cpu import THREADS, be_fair
from machine import describe
from peers.torch_graph import TorchGraph
from timing import Rate, best_of, interleaved, stepping

import pyoip
from pyoip.engines.onnx import lanes
from pyoip.gradient import gradient_model, locate

# float32 beside float64, relative to the largest value; a flipped decision at a near-tie of a
# ReLU or a pooling changes one image's gradient by far more, so the median image is judged.
TOLERANCE = 1e-5
SECONDS = 0.4  # of one measurement


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--quick", action="store_true", help="short runs; figures are rough")
    parser.add_argument("--all", action="store_true", help="every convolution layer")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", help="also write the figures to this file")
    found = parser.parse_args()
    if not found.models:
        default = Path(__file__).resolve().parent.parent.parent / "shared" / "models"
        folder = Path(os.environ.get("PYOIP_TEST_MODELS", default))
        found.models = sorted(folder.glob("*.onnx"))
    if not found.models:
        parser.error("no models: name ONNX files, or set PYOIP_TEST_MODELS to a folder of them")
    return found


def compare(network: pyoip.Network, layer: int, batch: int, repeats: int) -> dict[str, Any]:
    """Verify, then time, one layer; return the figures in images per second."""
    images = pyoip.start_images(batch, network.input_shape)
    maps = np.arange(batch) % network.layers[layer - 1].maps
    place = locate(network, layer, lanes())  # as the engine does
    session = _session(gradient_model(place, "activation").SerializeToString())
    feeds = {"image": images, "map": maps}
    peers = _peers(network, layer, images, maps)
    error = _verified(session.run(None, feeds)[2], peers["contiguous"].double(), images, maps)
    peers = _peers(network, layer, images, maps)
    heats = {name: _rate(peer.run, batch) for name, peer in peers.items()}
    layout = best_of(heats)
    contenders = {
        "pyoip": _rate(lambda: session.run(None, feeds), batch),
        "torch": heats[layout],
    }
    figures = interleaved(contenders, repeats)
    ratio = figures["pyoip"].median / figures["torch"].median
    return {
        **{"network": network.name, "layer": layer, "batch": batch, "error": error},
        **{"layout": layout, "ratio": ratio},
        **{name: figure.json() for name, figure in figures.items()},
        "line": f"{figures['pyoip']!s:>28}  {figures['torch']!s:>28}",
    }


def _rate(run: Callable[[], object], batch: int) -> Rate:
    """Images per second over as many calls as fill half a second."""

    def several(calls: int) -> None:
        for _ in range(calls):
            run()

    return stepping(several, batch, SECONDS)


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Peer:
    """torch with a batch of images and maps at hand."""

    def __init__(self, graph: TorchGraph, images: torch.Tensor, maps: torch.Tensor) -> None:
        self.graph, self.images, self.maps = graph, images, maps

    def run(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.graph.gradient(self.images, self.maps)

    def double(self) -> Peer:
        return Peer(self.graph.double(), self.images.double(), self.maps)


def _peers(network: pyoip.Network, layer: int, images: Any, maps: Any) -> dict[str, Peer]:
    conv = network.nodes[network.layers[layer - 1].node].outputs[0]
    given = torch.tensor(images)
    if network.layout == "NHWC":
        given = given.permute(0, 2, 3, 1).contiguous()
    layouts = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
    return {
        name: Peer(
            TorchGraph(network.graph, conv, layout),
            given.contiguous(memory_format=layout) if network.layout == "NCHW" else given,
            torch.tensor(maps),
        )
        for name, layout in layouts.items()
    }


def _verified(found: Any, exact: Peer, images: Any, maps: Any) -> float:
    """Median over the images of the gradient's largest deviation; too much of it ends the run."""
    truth = exact.run()[1].numpy()
    truth = truth if truth.shape == found.shape else truth.transpose(0, 3, 1, 2)
    scale = np.abs(truth).max(axis=(1, 2, 3))
    alive = scale > 0
    if not alive.any():
        raise SystemExit("no image has a gradient: nothing can be verified")
    error = float(np.median((np.abs(found - truth).max(axis=(1, 2, 3)) / scale.clip(1e-30))[alive]))
    if not error <= TOLERANCE:
        raise SystemExit(f"gradients differ by {error:.1e}, must be at most {TOLERANCE:.0e}")
    return error


def main() -> None:
    asked = arguments()
    be_fair()
    torch.set_num_threads(THREADS)
    repeats = 2 if asked.quick else asked.repeats
    print(describe())
    print(f"images per second, batch {asked.batch}: median (least–most)")
    print(f"{'network':<18}layer {'pyoip':>28}  {'torch':>28}  ratio  error")
    rows = []
    for path in asked.models:
        network = pyoip.load(path)
        last = len(network.layers)
        for layer in range(1, last + 1) if asked.all else [last]:
            row = compare(network, layer, asked.batch, repeats)
            print(
                f"{row['network']:<18}{layer:>5} {row.pop('line')}  {row['ratio']:5.2f}"
                f"  {row['error']:.0e}",
                flush=True,
            )
            rows.append(row)
    ratios = [row["ratio"] for row in rows]
    print(f"ratio: median {np.median(ratios):.2f}, least {min(ratios):.2f}")
    if asked.json:
        document = {"machine": describe(), "batch": asked.batch, "rows": rows}
        Path(asked.json).write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
