"""The main job through its public door."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest
import torch

import pyoip
from pyoip.engines.cpu import CpuEngine
from pyoip.network import Network
from pyoip.result import Result
from pyoip.stack import build_stack

QUICK = {"candidates": 64, "trials": 6, "starts": 2, "kicks": 1, "steps": 40}


class Crafted(torch.nn.Module):
    """Six maps of known fate on layer 2.

    0 and 1: alive. 2: weights of 1e-4 and a negative bias. 3: the difference of two equal
    maps minus 0.1, never alive, though no bound of ours shows it. 4: alive for few images.
    5: constant.
    """

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv1 = torch.nn.Conv2d(1, 4, 3)
        self.conv2 = torch.nn.Conv2d(4, 6, 3)
        with torch.no_grad():
            self.conv1.weight.copy_(torch.randn(4, 1, 3, 3, generator=generator))
            self.conv1.bias.zero_()
            self.conv1.weight[1] = self.conv1.weight[0]
            w = torch.randn(6, 4, 3, 3, generator=generator) * 0.3
            w[2] *= 1e-4
            w[3] = 0
            w[3, 0, 1, 1], w[3, 1, 1, 1] = 1.0, -1.0
            w[5] = 0
            self.conv2.weight.copy_(w)
            self.conv2.bias.copy_(torch.tensor([0.0, 0.0, -0.5, -0.1, -5.0, 0.3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))))


@cache
def crafted() -> Network:
    return pyoip.load(Crafted(), input_shape=(1, 12, 12))


@cache
def layer_one() -> Result:
    return pyoip.ascend("mnist", layer=1)


def test_every_map_of_a_layer_in_one_call() -> None:
    r = layer_one()
    assert r.images.shape == r.starts.shape == (32, 1, 28, 28)
    assert r.counts() == {"found": 32}
    assert (r.activations > r.real).all()
    assert r.history.shape == (32, r.settings.steps + 1)
    assert r.maps.tolist() == list(range(32))
    assert (r.engine, r.layer_name, r.network) == ("cpu", "conv1", "mnist")
    assert {"candidates", "ascents", "total"} <= set(r.timing)
    np.testing.assert_allclose(r.images.mean(axis=(1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(r.images.std(axis=(1, 2, 3)), 1, atol=1e-5)
    again = pyoip.score("mnist", r.images, 1)
    np.testing.assert_allclose(again[np.arange(32), r.maps], r.activations, rtol=1e-5)
    best_start = pyoip.score("mnist", r.starts, 1)[np.arange(32), np.arange(32)]
    np.testing.assert_allclose(best_start, r.history[:, 0], rtol=1e-5, atol=1e-7)


def test_a_map_alone_is_the_map_among_all() -> None:
    """One seed, one pool: the same bits whichever maps are asked for, on any threads."""
    r = layer_one()
    for part in (
        pyoip.ascend("mnist", "conv1:7", threads=1),
        pyoip.ascend("mnist", 1, maps=[7, 30], threads=2),
    ):
        row = part.maps.tolist().index(7)
        assert part.images[row].tobytes() == r.images[7].tobytes()
        assert part.history[row].tobytes() == r.history[7].tobytes()
        assert part.candidates[row] == r.candidates[7]
    other = pyoip.ascend("mnist", 1, maps=[7], seed=1)
    assert other.images[0].tobytes() != r.images[7].tobytes()


def test_candidates_are_the_best_of_the_pool() -> None:
    """Each map starts from its own best candidates, in order, however the pool is cut up."""
    r = pyoip.ascend("mnist", 2, maps=range(5), candidates=200, trials=1, starts=3, kicks=0, seed=4)
    scores = pyoip.score("mnist", pyoip.start_images(200, seed=4), 2)[:, :5]
    best = np.argsort(-scores, axis=0, kind="stable")[:3].T
    np.testing.assert_array_equal(r.runs.candidates, best)


def test_small_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pyoip.ascend("mnist", 1, **QUICK)
    monkeypatch.setattr("pyoip.starts.BLOCK_BYTES", 28 * 28 * 4 * 5)
    monkeypatch.setattr("pyoip.climb.BLOCK_BYTES", 28 * 28 * 4 * 5)
    cut = pyoip.ascend("mnist", 1, **QUICK)
    assert cut.images.tobytes() == whole.images.tobytes()
    np.testing.assert_array_equal(cut.runs.candidates, whole.runs.candidates)


def test_quick_blocks_are_followed_by_larger_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast engine gets many images at a time; which maps are together changes nothing."""
    counts: list[int] = []

    def ascend(self: CpuEngine, starts, *rest):
        counts.append(len(starts))
        return plain(self, starts, *rest)

    plain = CpuEngine.ascend
    monkeypatch.setattr(CpuEngine, "ascend", ascend)
    quick = {"steps": 4, "starts": 1, "trials": 1, "kicks": 0}
    results = []
    for seconds, blocks in ((0.0, [8] * 8), (1e9, [8, 56])):
        counts.clear()
        monkeypatch.setattr("pyoip.climb.BLOCK_SECONDS", seconds)
        results.append(pyoip.ascend("mnist", 2, engine="cpu", **quick))
        assert counts == blocks
    assert results[0].images.tobytes() == results[1].images.tobytes()


def test_verdicts_of_crafted_maps() -> None:
    r = pyoip.ascend(crafted(), 2, candidates=256, starts=4)
    assert r.verdicts[0] == r.verdicts[1] == "found"
    assert r.verdicts[2] == "dead"
    assert r.bounds[2] <= 0
    assert r.verdicts[3] == "silent"
    assert r.bounds[3] > 0
    assert r.activations[3] == 0
    assert r.woke[3] == -1
    assert r.verdicts[4] == "found"
    assert r.activations[5] == pytest.approx(0.3)
    assert np.isnan(r.bounds[[0, 1, 4, 5]]).all()
    assert np.isnan(r.real).all()


def test_a_map_that_no_candidate_activates_is_woken() -> None:
    """Map 4 sleeps on every candidate; its ascents start on the preactivation and arrive."""
    pool = pyoip.score(crafted(), pyoip.start_images(8, (1, 12, 12)), 2)
    assert pool[:, 4].max() == 0
    r = pyoip.ascend(crafted(), 2, maps=[4], candidates=8, starts=2, kicks=0)
    assert r.history[0, 0] == 0
    assert r.woke[0] > 0
    assert r.history[0, r.woke[0]] > 0
    assert r.verdicts == ("found",)


def test_weak_and_unfinished() -> None:
    best = pyoip.ascend(crafted(), 2, maps=[0])
    assert best.verdicts == ("found",)
    poor = pyoip.ascend(crafted(), 2, maps=[0], steps=3, starts=1, compare=best.images * 5 + 2)
    assert poor.verdicts == ("weak",)
    assert poor.real[0] == pytest.approx(best.activations[0], rel=1e-5)
    short = pyoip.ascend(crafted(), 2, maps=[0], steps=3, starts=1)
    assert short.verdicts == ("unfinished",)
    assert not short.converged[0]


def test_real_maxima_come_with_the_model() -> None:
    r = pyoip.ascend("mnist", 1, **QUICK)
    np.testing.assert_array_equal(
        r.real, pyoip.load("mnist").real_maxima(1, "standardize", "activation")
    )
    box = pyoip.ascend("mnist", 1, constraint="clip", **QUICK)
    np.testing.assert_array_equal(
        box.real, pyoip.load("mnist").real_maxima(1, "clip", "activation")
    )
    wide = pyoip.ascend("mnist", 1, constraint=pyoip.Constraint("clip", 0, 2), **QUICK)
    assert np.isnan(wide.real).all()
    assert np.isnan(pyoip.ascend("mnist", 1, compare=None, **QUICK).real).all()


# --- the four ways to start ----------------------------------------------------------------


def test_one_map_from_many_starts() -> None:
    own = pyoip.start_images(9, seed=77)
    r = pyoip.ascend("mnist", 1, maps=[3], start=own, steps=40)
    assert r.runs.activations.shape == (1, 9)
    assert r.activations[0] == r.runs.activations.max()
    row = int(r.runs.activations.argmax())
    alone = pyoip.ascend("mnist", 1, maps=[3], start=own[row], steps=40)
    assert alone.images.tobytes() == r.images.tobytes()
    np.testing.assert_allclose(r.starts[0], own[row], atol=1e-6)
    assert (r.candidates == -1).all()
    assert r.fluctuations is None


def test_many_maps_from_one_start_image() -> None:
    own = pyoip.start_images(1, seed=5)[0, 0]
    r = pyoip.ascend("mnist", 1, start=own, steps=40)
    assert len(r) == 32
    np.testing.assert_allclose(r.starts[:, 0], np.broadcast_to(own, (32, 28, 28)), atol=1e-6)


def test_one_start_image_per_map() -> None:
    own = pyoip.start_images(3, seed=6)
    r = pyoip.ascend("mnist", 2, maps=[1, 2, 5], start=own, steps=20)
    np.testing.assert_allclose(r.starts, own, atol=1e-6)


def test_continuing_from_a_saved_result(tmp_path) -> None:
    first = pyoip.ascend("mnist", 2, maps=range(6), candidates=64, starts=1, steps=10)
    first.save(tmp_path / "r")
    more = pyoip.ascend("mnist", 2, maps=[4, 1], start=pyoip.load_result(tmp_path / "r"), steps=50)
    np.testing.assert_allclose(more.starts, first.images[[4, 1]], atol=1e-6)
    assert (more.activations >= first.activations[[4, 1]] * (1 - 1e-6)).all()
    assert (more.activations > first.activations[[4, 1]]).any()


# --- options -------------------------------------------------------------------------------


def test_layer_by_number_name_and_range() -> None:
    a = pyoip.ascend("mnist", "conv1:0-3", **QUICK)
    b = pyoip.ascend("mnist", 1, maps=slice(0, 4), **QUICK)
    assert a.images.tobytes() == b.images.tobytes()
    assert a.maps.tolist() == [0, 1, 2, 3]


def test_constraints_hold_and_snapshots_are_on_the_way() -> None:
    r = pyoip.ascend("mnist", 2, maps=[0], constraint="clip", snapshots=(0, 5, 40), **QUICK)
    assert r.images.min() >= 0
    assert r.images.max() <= 1
    assert r.snapshots.shape == (1, 3, 1, 28, 28)
    np.testing.assert_array_equal(r.snapshots[0, 0], r.starts[0])
    value = pyoip.score("mnist", r.snapshots[0], 2)[:, 0]
    np.testing.assert_allclose(value[:2], r.history[0, [0, 5]], rtol=1e-5)


def test_smoothing_gives_smoother_images() -> None:
    def roughness(smooth: int) -> float:
        r = pyoip.ascend("mnist", 2, maps=range(8), smooth=smooth, **QUICK)
        return float(np.abs(np.diff(r.images, axis=3)).mean())

    assert roughness(1) < 0.85 * roughness(0)


def test_objective_preactivation_and_the_articles_method() -> None:
    pre = pyoip.ascend("mnist", 1, objective="preactivation", **QUICK)
    np.testing.assert_array_equal(np.nanmax(pre.history, axis=1), pre.preactivations)
    article = pyoip.ascend("mnist", 1, method="article", step_size=0.05, **QUICK)
    assert not np.isnan(article.history).any()
    ours = pyoip.ascend("mnist", 1, **QUICK)
    assert np.median(ours.activations / article.activations) > 1


def test_reference_engine_agrees() -> None:
    settings = {"maps": [0, 9], "candidates": 8, "starts": 1, "steps": 8}
    a = pyoip.ascend("mnist", 2, engine="cpu", **settings)
    b = pyoip.ascend("mnist", 2, engine="reference", **settings)
    np.testing.assert_array_equal(a.candidates, b.candidates)
    np.testing.assert_allclose(a.activations, b.activations, rtol=1e-4)


def test_activations_are_the_networks() -> None:
    x = pyoip.start_images(3)
    maps = pyoip.activations("mnist", x, 3)
    assert maps.shape == (3, 128, 3, 3)
    np.testing.assert_allclose(
        maps.mean(axis=(2, 3)), pyoip.score("mnist", x, 3), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 9}, "9"),
        ({"maps": [99]}, "99"),
        ({"constraint": "sphere"}, r"constraint='sphere': must be one of 'standardize', 'clip'"),
        ({"objective": "max"}, r"objective='max': must be one of"),
        ({"method": "adam"}, r"method='adam': must be one of"),
        ({"precision": "half"}, r"precision='half': must be one of 'exact', 'fast'"),
        ({"steps": 0}, r"steps=0: must be an integer in 1"),
        ({"step_size": 0}, r"step_size=0: must be a number in \(0"),
        ({"momentum": 1.0}, r"momentum=1.0: must be a number in \[0, 0.999\]"),
        ({"starts": 5, "candidates": 4}, r"starts=5: must be an integer in 1 … 4, the cand"),
        ({"snapshots": (3, 2)}, r"snapshots=\(3, 2\): must be strictly increasing"),
        ({"snapshots": (999,), "steps": 10}, r"snapshots=999: must be an integer in 0 … 10"),
        ({"seed": -1}, r"seed=-1: must be an integer in 0"),
        ({"threads": 0}, r"threads=0: must be an integer in 1"),
        ({"engine": "gpu"}, r"engine='gpu': must be one of"),
        ({"compare": "mnist"}, r"compare='mnist': must be 'auto', real images or None"),
        ({"compare": np.zeros((2, 28, 28))}, r"compare: images of shape \(2, 28, 28\)"),
        ({"start": np.zeros((5, 28))}, r"start of shape"),
        ({"start": np.zeros((28, 28))}, r"one grey value cannot be standardised"),
        ({"start": np.full((28, 28), np.nan)}, r"start: holds NaN, infinite"),
        ({"start": np.zeros((2, 1, 28, 28))}, r"2 images for 32 maps"),
        ({"start": np.eye(28), "fluctuations": pyoip.Fluctuations()}, r"start and fluctuations"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        pyoip.ascend("mnist", **arguments)
    assert isinstance(caught.value, pyoip.PyoipError)
    assert "\n" not in str(caught.value)


# --- Ctrl-C --------------------------------------------------------------------------------


def test_interrupt_keeps_the_finished_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C (here from the progress callable) ends the call; what is finished is whole."""
    monkeypatch.setattr("pyoip.climb.BLOCK_MAPS", 2)
    monkeypatch.setattr("pyoip.climb.BLOCK_SECONDS", 0.0)
    seen = []

    def stop_later(done: int, total: int, left: int) -> None:
        seen.append((done, total, left))
        if done > 90:
            raise KeyboardInterrupt

    settings = {"candidates": 16, "starts": 3, "steps": 3000, "tolerance": 0.0, "threads": 1}
    settings |= {"patience": 10**6, "trials": 1, "kicks": 0}
    with pytest.raises(pyoip.Interrupted, match=r"of 64 maps are finished") as caught:
        pyoip.ascend("mnist", 2, progress=stop_later, **settings)
    kept = caught.value.result
    assert len(kept) in (2, 4)
    assert kept.interrupted
    assert kept.maps.tolist() == list(range(len(kept)))
    assert all(done == total - 10 * left for done, total, left in seen)
    alone = pyoip.ascend("mnist", 2, maps=[1], **settings)
    assert alone.images[0].tobytes() == kept.images[1].tobytes()
    assert not alone.interrupted


def test_other_errors_of_the_progress_callable_pass_through() -> None:
    def broken(*_: int) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        pyoip.ascend("mnist", 3, progress=broken)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_sigint_stops_soon() -> None:
    """A real signal in the middle of an ascent that would take minutes: it ends all the same.

    Signals are looked at ten times a second; no time is asserted but what an ascent that goes
    on would exceed."""
    code = (
        "import pyoip, time\n"
        "print('go', flush=True)\n"
        "try:\n"
        "    pyoip.ascend('mnist', 3, steps=200_000, patience=10**5, trials=1, starts=1)\n"
        "except pyoip.Interrupted as stop:\n"
        "    print('kept', len(stop.result), flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "go\n"
    time.sleep(2)
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert out.startswith("kept")


# --- the search ----------------------------------------------------------------------------


def test_kicks_never_lose_and_mostly_win() -> None:
    """Kicks start from each map's best image, are counted as runs, and can be repeated."""
    settings = {"maps": range(12), "candidates": 64, "trials": 6, "starts": 2}
    without = pyoip.ascend("mnist", 2, kicks=0, **settings)
    kicked = pyoip.ascend("mnist", 2, kicks=2, **settings)
    assert (kicked.activations >= without.activations).all()
    assert np.median(kicked.activations / without.activations) > 1.005
    assert without.runs.activations.shape == (12, 2)
    assert kicked.runs.activations.shape == (12, 2 + 2 * 4)
    np.testing.assert_array_equal(kicked.runs.activations[:, :2], without.runs.activations)
    np.testing.assert_array_equal(kicked.runs.activations.max(axis=1), kicked.activations)
    assert set(kicked.kicks) <= {0, 1, 2}
    assert (kicked.kicks > 0).any()
    np.testing.assert_array_equal(kicked.candidates, without.candidates)
    np.testing.assert_array_equal(kicked.origins, without.starts)
    pool = pyoip.start_images(indices=kicked.candidates)
    np.testing.assert_array_equal(kicked.origins, pool)
    row = int(np.flatnonzero(kicked.kicks)[0])
    again = pyoip.ascend("mnist", 2, maps=[row], start=kicked.starts[row])
    assert again.activations[0] == pytest.approx(kicked.activations[row], rel=1e-3)


def test_half_of_the_starts_begin_boldly() -> None:
    """Even ranks are careful, odd ones bold; each half keeps the best of its own trials."""
    pool = pyoip.start_images(1024)
    settings = {"maps": [3], "kicks": 0, "steps": 60}
    both = pyoip.ascend("mnist", 2, trials=16, starts=4, **settings)
    ranked = np.argsort(-pyoip.score("mnist", pool, 2)[:, 3], kind="stable")[:16]
    assert set(both.runs.candidates[0, :2]) <= set(ranked[::2].tolist())
    assert set(both.runs.candidates[0, 2:]) <= set(ranked[1::2].tolist())
    for column, size in enumerate((0.2, 0.2, 2.0, 2.0)):
        start = pool[both.runs.candidates[0, column]]
        alone = pyoip.ascend("mnist", 2, maps=[3], steps=60, start=start, step_size=size)
        assert alone.activations[0] == pytest.approx(both.runs.activations[0, column], rel=1e-4)
    tried = pyoip.ascend("mnist", 2, maps=[3], steps=16, start=pool[ranked[::2]])
    best = ranked[::2][np.argsort(-tried.runs.activations[0], kind="stable")[:2]]
    np.testing.assert_array_equal(both.runs.candidates[0, :2], best)


def test_a_map_is_woken_by_its_highest_position() -> None:
    """The mean preactivation of these maps is negative at its own maximum; one position is
    enough to be alive."""
    generator = torch.Generator().manual_seed(0)
    conv = torch.nn.Conv2d(1, 3, 3)
    with torch.no_grad():
        conv.weight.copy_(torch.randn(3, 1, 3, 3, generator=generator) * 0.35)
        conv.bias.fill_(-3.6)
    r = pyoip.ascend(torch.nn.Sequential(conv, torch.nn.ReLU()), 1, input_shape=(1, 12, 12))
    assert (r.woke > 0).all()  # each best image goes back to an ascent that began asleep
    assert r.verdicts == ("found",) * 3
    assert (r.preactivations < 0).all()


def test_progress_ends_at_all() -> None:
    for maps in ([0], range(20)):
        seen: list[tuple[int, int, int]] = []
        pyoip.ascend("mnist", 1, maps, progress=lambda *n, s=seen: s.append(n), **QUICK)
        assert seen[-1][0] == seen[-1][1]
        assert seen[-1][2] == 0
        assert seen == sorted(seen, key=lambda n: n[0])


def test_slopes_that_the_core_does_not_take() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.LeakyReLU(-0.5))
    network = pyoip.load(module, input_shape=(1, 8, 8))
    with pytest.raises(pyoip.UnsupportedLayer, match=r"slope below zero -0.5.*reference"):
        pyoip.ascend(network, 1, engine="cpu")
    plain = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.LeakyReLU(0.0))
    flat = pyoip.load(plain, input_shape=(1, 8, 8))
    assert pyoip.ascend(flat, 1, candidates=16, kicks=0).verdicts == ("found", "found")
    assert build_stack(flat, 1).layers[0].activation.kind == "relu"


def test_weights_beyond_float32_are_refused() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU())
    with torch.no_grad():
        module[0].weight.fill_(3e38)
        module[0].weight[:, :, 0, 0] = -3e38
    with pytest.raises(pyoip.UnsupportedLayer, match="exceeds float32"):
        pyoip.ascend(module, 1, input_shape=(1, 8, 8), **QUICK)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pyoip.score("mnist", np.full((1, 1, 28, 28), np.nan), 1), "images: holds NaN"),
        (lambda: pyoip.score("mnist", "abc", 1), "images: holds no real numbers"),
        (lambda: pyoip.score("mnist", np.ones((1, 1, 28, 28)) * 1j, 1), "no real numbers"),
        (lambda: pyoip.score("mnist", np.ones((28, 28)), 1), r"images of shape \(28, 28\)"),
        (lambda: pyoip.ascend("mnist", start=[[1], [2, 3]]), "start: holds no real numbers"),
        (lambda: pyoip.ascend("mnist", compare=np.full((1, 1, 28, 28), np.nan)), "compare: holds"),
        (lambda: pyoip.ascend("mnist", snapshots=5), r"snapshots=5: must be step numbers"),
        (lambda: pyoip.ascend("mnist", step_size=True), r"step_size=True: must be a number"),
        (lambda: pyoip.ascend("mnist", fluctuations=3), r"fluctuations=3: must be a pyoip"),
        (lambda: pyoip.ascend("mnist", progress=3), r"progress=3: must be a callable"),
    ],
)
def test_what_is_no_image_or_number_is_named(call, message: str) -> None:
    with pytest.raises(pyoip.InvalidArgument, match=message):
        call()


def test_numbers_of_numpy_are_welcome(tmp_path) -> None:
    r = pyoip.ascend(
        "mnist", 1, np.arange(2), steps=np.int64(20), tolerance=np.float32(0.01), seed=np.uint64(3)
    )
    r.save(tmp_path / "r")
    assert pyoip.load_result(tmp_path / "r").settings == r.settings


def test_score_of_some_maps() -> None:
    x = pyoip.start_images(2)
    np.testing.assert_array_equal(
        pyoip.score("mnist", x, "conv1:3-4"), pyoip.score("mnist", x)[:, 3:5]
    )
