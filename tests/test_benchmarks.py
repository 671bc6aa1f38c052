"""The benchmarks' own arithmetic: operations counted by hand, contenders timed in turn."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from problems import ACTIVATIONS, conv_layer

from pyoip.network import Network
from pyoip.stack import Pool, Stack, build_stack

sys.path.append(str(ROOT / "benchmarks"))

import timing
from work import direct_operations, forward_operations

MAX2 = Pool("max", (2, 2), (2, 2), (0, 0, 0, 0))
MAX3 = Pool("max", (3, 3), (2, 2), (0, 0, 0, 0))
AVERAGE2 = Pool("average", (2, 2), (2, 2), (0, 0, 0, 0))

TARGET = {1: 26**2 * 9, 2: 11**2 * 32 * 9, 3: 3**2 * 64 * 9}  # one map
FIRST = 32 * 9  # of all maps at one position
SECOND = 64 * 32 * 9


@pytest.mark.parametrize(
    ("layer", "multiply_adds"),
    [
        (1, 2 * TARGET[1]),
        (2, 26**2 * FIRST + 2 * TARGET[2] + 13**2 * FIRST),
        # the target's 5×5 inputs are pooled from 10×10, those read 12×12, pooled from 24×24
        (3, (24**2 + 12**2) * FIRST + (10**2 + 5**2) * SECOND + 2 * TARGET[3]),
    ],
)
def test_operations_of_the_shipped_network(mnist: Network, layer: int, multiply_adds: int) -> None:
    assert direct_operations(build_stack(mnist, layer)) == 2 * multiply_adds


def test_published_operations_of_the_shipped_network(mnist: Network) -> None:
    found = [direct_operations(build_stack(mnist, layer)) / 1e6 for layer in (1, 2, 3)]
    np.testing.assert_allclose(found, [0.024, 0.63, 5.04], rtol=0.02)


def _two_layers(pool: Pool | None, **more: object) -> Stack:
    rng = np.random.default_rng(0)
    first = conv_layer(rng, (1, 10, 10), 4, pool=pool, **more)  # type: ignore[arg-type]
    last = conv_layer(rng, first.pooled_shape, 3, activation=ACTIVATIONS[0])
    return Stack((1, 10, 10), (first, last))


@pytest.mark.parametrize(
    ("pool", "forward", "backward", "target"),
    [
        (None, 8**2, 8**2, 6**2),
        (AVERAGE2, 8**2, 8**2, 2**2),  # every position has a share of the gradient
        (MAX2, 8**2, 4**2, 2**2),  # one entry per pooled value
        (MAX3, 7**2, 3**2, 1),  # the eighth row and column are read by no window
    ],
)
def test_operations_follow_the_pooling(
    pool: Pool | None, forward: int, backward: int, target: int
) -> None:
    expected = (forward + backward) * 4 * 9 + 2 * target * 4 * 9
    assert direct_operations(_two_layers(pool)) == 2 * expected


def test_taps_on_padding_are_not_operations() -> None:
    layer = conv_layer(np.random.default_rng(0), (1, 5, 5), 7, pads=(1, 1, 1, 1))
    inside = (3 * 5 - 2) ** 2  # taps of five rows, all but the first's upper and the last's lower
    assert direct_operations(Stack((1, 5, 5), (layer,))) == 2 * 2 * inside


def test_a_forward_pass_computes_all_maps(mnist: Network) -> None:
    found = forward_operations(build_stack(mnist, 2))
    assert found == 2 * (26**2 * FIRST + 64 * TARGET[2])


def test_contenders_run_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "REST", 0.0)
    calls: list[str] = []
    rates = {"a": iter([3.0, 1.0, 8.0]), "b": iter([2.0, 2.0, 2.0])}

    def contender(name: str) -> timing.Rate:
        def rate() -> float:
            calls.append(name)
            return next(rates[name])

        return rate

    found = timing.interleaved({name: contender(name) for name in rates}, repeats=3)
    assert calls == list("ababab")
    assert found == {"a": timing.Figure(3.0, 1.0, 8.0), "b": timing.Figure(2.0, 2.0, 2.0)}


def test_the_fastest_variant_goes_to_the_final(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "REST", 0.0)
    assert timing.best_of({"slow": lambda: 1.0, "fast": lambda: 2.0}) == "fast"


def test_a_rate_counts_the_steps_that_were_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of our own: a step takes 10 ms, whatever the machine does."""
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    seen: list[int] = []

    def run(steps: int) -> None:
        seen.append(steps)
        clock[0] += 0.01 * steps

    rate = timing.stepping(run, images=7, seconds=0.4, multiple=5)
    assert rate() == pytest.approx(7 / 0.01)
    assert all(steps % 5 == 0 for steps in seen)
    assert 0.2 <= 0.01 * seen[-1] <= 0.8


def test_the_device_benchmark_runs_where_there_is_none() -> None:
    """On the CPU and with short runs: answers verified, everybody timed, the figures saved."""
    found = subprocess.run(
        [
            *(sys.executable, ROOT / "benchmarks" / "gpu.py", "--engine", "cpu", "--device", "cpu"),
            *("--quick", "--layers", "1", "--batches", "--without", "compiled", "fused"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "torch eager: verified" in found.stdout
    assert "times the best peer" in found.stdout
    assert "whole job, 128 ascents" in found.stdout
