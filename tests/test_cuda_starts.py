"""Start images of the CUDA core: the CPU's, to the bit; scored where they are drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import ON_A_DEVICE
from problems import conv_layer

import pyoip
from pyoip.engines import DrawingEngine
from pyoip.engines.cuda import CudaEngine
from pyoip.fluctuations import Fluctuations, described, start_images
from pyoip.settings import Settings
from pyoip.stack import Stack, build_stack
from pyoip.starts import Job

SHAPES = [(1, 28, 28), (3, 17, 23), (3, 1, 40), (1, 40, 1), (1, 3, 3)]
MIXES = [
    Fluctuations(),
    Fluctuations((1.0, 2.0, 5.0), (0.0, 1.0, 0.25), smoothing=2),
    Fluctuations((1.5, 1.0), (3.0, 0.0), smoothing=1),
]
NUMBERS = np.array([0, 7, 2**32 + 1, 2**64 - 1], np.uint64)


@pytest.fixture(params=["cuda", ON_A_DEVICE], autouse=True)
def where(request: pytest.FixtureRequest) -> str:
    """The core's build for the host, and a device."""
    request.getfixturevalue(request.param)
    name: str = request.param
    return name


def _engine(shape: tuple[int, int, int]) -> CudaEngine:
    """Of a small layer."""
    rng = np.random.default_rng(0)
    kernel = tuple(min(2, side) for side in shape[1:])
    return CudaEngine(Stack(shape, (conv_layer(rng, shape, 5, kernel=kernel),)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("constraint", ["standardize", "clip"])
def test_images_have_the_bits_of_the_cpus(shape: tuple[int, int, int], constraint: str) -> None:
    """All kinds of grids: of pixels, between them, of one row or column; left out; blurred."""
    engine = _engine(shape)
    for mix in MIXES:
        told = described(shape, [mix], seed=2**63 + 5, stream=3, constraint=constraint)
        found = engine.start_images(NUMBERS, told)
        wanted = start_images(
            None, shape, mix, indices=NUMBERS, seed=2**63 + 5, stream=3, constraint=constraint
        )
        assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("order", ["backward", "random:1"])
def test_bits_do_not_depend_on_which_thread_comes_first(
    where: str, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """A barrier that is missing shows here."""
    if where == "device":
        pytest.skip("threads of a device come as they like")
    shape = (3, 17, 23)
    told = described(shape, [MIXES[1]], seed=1, stream=0, constraint="standardize")
    engine = _engine(shape)
    forward = engine.start_images(NUMBERS, told)
    monkeypatch.setenv("PYOIP_CUDA_HOST_ORDER", order)
    assert engine.start_images(NUMBERS, told).tobytes() == forward.tobytes()


@pytest.mark.parametrize("objective", ["activation", "preactivation"])
def test_scores_are_those_of_the_images(objective) -> None:
    """Also of none, of more than a block draws, and with another mix by the same engine."""
    engine = CudaEngine(build_stack(pyoip.load("mnist"), 2))
    assert isinstance(engine, DrawingEngine)
    for mix in MIXES[:2]:
        told = described((1, 28, 28), [mix], seed=4, stream=0, constraint="standardize")
        for numbers in (NUMBERS, NUMBERS[:0]):
            found = engine.score_starts(numbers, told, objective)
            images = start_images(None, (1, 28, 28), mix, indices=numbers, seed=4)
            assert found.tobytes() == engine.score(images, objective).tobytes()


def test_little_memory_splits_a_call_and_changes_no_bit(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images between the two kernels take room as well."""
    if where == "device":
        pytest.skip("a device's memory is not ours to take")
    told = described((1, 28, 28), [Fluctuations()], seed=0, stream=0, constraint="standardize")
    numbers = np.arange(40)
    wanted = CudaEngine(build_stack(pyoip.load("mnist"), 1)).score_starts(
        numbers, told, "activation"
    )
    little = CudaEngine(build_stack(pyoip.load("mnist"), 1))
    monkeypatch.setenv("PYOIP_CUDA_HOST_MEMORY", "100000")
    assert little.score_starts(numbers, told, "activation").tobytes() == wanted.tobytes()
    assert 0 < little._core.smallest_batch < 40


class _Scoring:
    """An engine that scores what it is given, and draws nothing."""

    def __init__(self, engine: CudaEngine) -> None:
        self.score = engine.score


def test_the_best_candidates_are_those_of_images_drawn_elsewhere() -> None:
    """And perturbations have unit deviation whatever the images' constraint."""
    network = pyoip.load("mnist")
    engine = CudaEngine(build_stack(network, 2))
    settings = Settings(candidates=64, trials=8, constraint=pyoip.Constraint("clip"), seed=3)
    maps = np.array([0, 5, 63])
    job = Job(network, network.layers[1], maps, engine, settings, Fluctuations(), None)
    other = replace(job, engine=_Scoring(engine))
    np.testing.assert_array_equal(
        job.best_candidates().candidates, other.best_candidates().candidates
    )
    assert job.perturbations(2, 3).tobytes() == other.perturbations(2, 3).tobytes()
    found = np.empty((1, len(NUMBERS), 1, 28, 28), np.float32)
    assert job.pools(NUMBERS, MIXES[:1], found) is found
    assert found.tobytes() == other.pools(NUMBERS, MIXES[:1]).tobytes()
