"""The benchmarks' own arithmetic and order: operations counted by hand, contenders in turn."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from problems import ACTIVATIONS, conv_layer

from pyoip.network import Network
from pyoip.stack import Pool, Stack, build_stack

sys.path.append(str(ROOT / "benchmarks"))

import gpu
import timing
from aside import Aside, Gone
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


@pytest.mark.parametrize(
    ("module", "method", "given", "reason"),
    [
        ("os", "abort", None, r"peer: its process ended, by SIGABRT \(abort\)"),
        ("os", "_exit", 3, r"peer: its process ended, with exit code 3 \(_exit\)"),
        ("sys", "exit", "wrong\nanswer", r"peer: SystemExit: wrong$"),
        ("math", "sqrt", -1.0, r"peer: ValueError: "),
        ("no_such_module", "", None, r"peer: ModuleNotFoundError: No module named"),
    ],
)
def test_who_fails_in_a_process_of_its_own_is_a_reason(module, method, given, reason) -> None:
    peer = Aside("peer", 60, importlib.import_module, module)
    with pytest.raises(Gone, match=reason):
        peer.ask(method, *([] if given is None else [given]))
    assert multiprocessing.active_children() == []


def test_who_has_failed_is_asked_again_in_a_new_process() -> None:
    peer = Aside("peer", 60, importlib.import_module, "os")
    first = peer.ask("getpid")
    assert peer.ask("getpid") == first != os.getpid()
    with pytest.raises(Gone, match="FileNotFoundError"):
        peer.ask("stat", "/no/such/file")
    assert peer.ask("getpid") not in (first, os.getpid())
    peer.end()
    assert multiprocessing.active_children() == []


def test_who_has_hung_is_asked_no_more() -> None:
    peer = Aside("peer", 60, importlib.import_module, "time")
    peer.ask("monotonic")
    peer.seconds = 1
    with pytest.raises(Gone, match=r"peer: no answer within 1 s \(sleep\)"):
        peer.ask("sleep", 1000)
    assert multiprocessing.active_children() == []
    began = time.monotonic()
    with pytest.raises(Gone, match="no answer"):
        peer.ask("monotonic")
    assert time.monotonic() - began < 1


class _Played:
    """In the place of a process: a contender with a rate, or with a reason to have none."""

    def __init__(self, name: str, seconds: float, kind: type, *given: object) -> None:
        self.name, self.end = name, lambda: None

    def ask(self, method: str, *given: object) -> object:
        if self.name in ("JAX", "torch eager"):
            raise Gone(f"{self.name}: its device is lost")
        answers = {"coarse": {p: timing.Figure(1, 1, 1) for p in ("tf32", "exact")}}
        answers |= {
            "whole_job": (4, [1.0]),
            "scoring": (1.0, 2.0),
            "rate": 60.0 if self.name == "pyoip" else 6.0,
        }
        return answers.get(method, 2.0)


def test_the_report_has_all_that_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Peers that fail are lines, and the file is whole after every one."""
    file = tmp_path / "gpu.json"
    seen: list[int] = []
    monkeypatch.setattr(gpu, "Aside", _Played)
    monkeypatch.setattr(timing, "REST", 0.0)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--engine", "cpu", "--device", "cpu", "--layers"])
    sys.argv += ["1", "--batches", "--json", str(file)]
    against = gpu.against

    def watched(bench: gpu.Bench, name: str) -> None:
        against(bench, name)
        seen.append(len(json.loads(file.read_text())["rows"]["layer 1, 32 images"]["peers"]))

    monkeypatch.setattr(gpu, "against", watched)
    assert gpu.main() == 0
    assert seen == [1, 2, 3, 4]
    peers = json.loads(file.read_text())["rows"]["layer 1, 32 images"]["peers"]
    assert peers["JAX"] == {"left out": "JAX: its device is lost"}
    assert peers["JAX fused"]["ratio"] == 10
    assert "10.00 times the best peer" in (said := capsys.readouterr().out)
    assert "2 of 4 peers timed" in said


def test_the_report_ends_in_time(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """What could not be begun is told, and without our own figures the exit code is not 0."""
    monkeypatch.setattr(gpu, "Aside", _Played)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--engine", "cpu", "--device", "cpu"])
    sys.argv += ["--minutes", "0"]
    assert gpu.main() == 1
    assert capsys.readouterr().out.count("the 0 minutes are over") == 9 + 3 + 4 * 9


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
    assert re.search(r"torch eager\n  layer 1, 32 images: [^l].*; pyoip beside it", found.stdout)
    assert "times the best peer" in found.stdout
    assert "whole job, 128 ascents" in found.stdout
