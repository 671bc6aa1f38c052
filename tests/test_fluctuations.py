"""Start images: their numbers, their statistics, and that each depends on its index alone."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pyoip import _cpu, reference
from pyoip.errors import InvalidArgument
from pyoip.fluctuations import Fluctuations, mixed_images, start_images
from pyoip.settings import Constraint

KNOWN_DIGESTS = {"standardize": "6e3db2a60b55e9d2", "clip": "b4cd206eaa586e03"}
KNOWN_BITS = [3194418003, 1063294877, 3215550655, 1065699551]


def test_philox_known_answers() -> None:
    """The three vectors published with the generator (Random123, kat_vectors)."""
    ones, pi = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    cases = {
        ((0, 0, 0, 0), 0): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ((ones,) * 4, ones << 32 | ones): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        (pi, 0x299F31D0A4093822): (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    }
    for (counter, key), words in cases.items():
        found = reference.philox(np.array([counter], np.uint32), key)[0]
        assert tuple(int(w) for w in found) == words


@pytest.mark.parametrize(
    "place", [(0, 0, 0, 0), (2**64 - 1, 2**24 - 1, 255, 2**64 - 1), (7, 1, 3, 2**33)]
)
def test_normal_values_equal_the_definition(place: tuple[int, int, int, int]) -> None:
    """Seed, stream, scale and index all enter as defined; float32 rounding is all that differs."""
    exact = reference.normal_values(*place, count=3001)
    np.testing.assert_allclose(_cpu.normal_values(*place, 3001), exact, rtol=3e-6, atol=3e-6)


def test_normal_values_keep_their_bits() -> None:
    """Fixed arithmetic: these bits are the same on every machine and in every version."""
    values = _cpu.normal_values(1, 2, 3, 4, 1000)
    assert values[:4].view(np.uint32).tolist() == KNOWN_BITS


@pytest.mark.parametrize("rule", [Constraint(), Constraint("clip", -1, 3)])
def test_images_keep_their_bits(rule: Constraint) -> None:
    """Of a mix, a blur and both constraints: the same in every version."""
    mix = Fluctuations((1, 2, 4.5), (0.5, 1.0, 2.0), 2)
    images = start_images(9, (3, 17, 40), mix, seed=4, stream=1, constraint=rule)
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == KNOWN_DIGESTS[rule.kind]


def test_normal_values_are_normal() -> None:
    """Moments and tails of four million values, within five standard errors."""
    v = np.concatenate([_cpu.normal_values(5, 0, 0, i, 2**20) for i in range(4)]).astype(np.float64)
    n = len(v)
    assert abs(v.mean()) < 5 / np.sqrt(n)
    assert abs(v.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((v**3).mean()) < 5 * np.sqrt(15 / n)
    assert abs((v**4).mean() - 3) < 5 * np.sqrt(96 / n)
    assert abs((np.abs(v) > 3).mean() - 0.0026998) < 5 * np.sqrt(0.0027 / n)
    pairs = v.reshape(-1, 2)
    assert abs((pairs[:, 0] * pairs[:, 1]).mean()) < 5 / np.sqrt(n / 2)


def test_an_image_is_the_same_alone_or_among_many() -> None:
    pool = start_images(500, seed=9)
    for i in (0, 1, 63, 499):
        assert start_images(indices=[i], seed=9)[0].tobytes() == pool[i].tobytes()
    far = start_images(indices=[2**63, 5], seed=9)
    assert far[1].tobytes() == pool[5].tobytes()
    assert not np.array_equal(far[0], pool[0])
    assert start_images(500, seed=9, threads=1).tobytes() == pool.tobytes()
    assert start_images(500, seed=9, threads=3).tobytes() == pool.tobytes()


def test_all_instruction_sets_draw_the_same(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where none of that name is there: engines refuse it, images do not depend on it."""
    for shape, mix in (((1, 28, 28), Fluctuations()), ((3, 17, 23), Fluctuations(smoothing=2))):
        for constraint in ("standardize", "clip"):
            monkeypatch.setenv("PYOIP_CPU_ISA", isa)
            images = start_images(9, shape, mix, constraint=constraint)
            for other in ("baseline", "mmx"):
                monkeypatch.setenv("PYOIP_CPU_ISA", other)
                again = start_images(9, shape, mix, constraint=constraint)
                assert images.tobytes() == again.tobytes()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 23), (2, 1, 40)])
@pytest.mark.parametrize("constraint", ["standardize", "clip"])
def test_a_mix_is_the_same_alone_or_among_many(
    shape: tuple[int, int, int], constraint: str
) -> None:
    """Whatever mixes share: weights of the first scales, all weights, a scale that some lack.

    Also where what they share is smoothed in one of them, and where two are the same.
    """
    weights = [(1, 1, 0.5), (1, 1, 0.25), (0, 1, 0.5), (1, 0, 0), (0, 0, 3), (1, 1, 0.5)]
    weights += [(0, 1, 0), (1, 0, 0), (0, 1, 0.5)]
    smoothings = (2, 0, 1, 0, 4, 0, 3, 1, 1)
    numbers = np.array([5, 0, 2**63, 77], np.uint64)
    mixes = [Fluctuations((1, 2, 5), w, s) for w, s in zip(weights, smoothings, strict=True)]
    for threads in (1, 3):
        many = mixed_images(
            shape, mixes, numbers, seed=8, stream=2, constraint=constraint, threads=threads
        )
        assert many.shape == (9, 4, *shape)
        for mix, images in zip(mixes, many, strict=True):
            alone = start_images(
                None, shape, mix, indices=numbers, seed=8, stream=2, constraint=constraint
            )
            assert images.tobytes() == alone.tobytes()


def test_seed_and_stream_make_other_pools() -> None:
    first = start_images(2)
    others = [start_images(2, seed=1), start_images(2, stream=1), start_images(2, seed=2**32)]
    for other in others:
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.2


def _upsampled(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Keys' bicubic interpolation, written out per pixel."""

    def taps(cells: int, size: int) -> np.ndarray:
        weights = np.zeros((size, cells))
        for x in range(size):
            at = (x + 0.5) * cells / size - 0.5
            for tap in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
                d = abs(at - tap)
                w = 1.5 * d**3 - 2.5 * d**2 + 1 if d < 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
                weights[x, min(max(tap, 0), cells - 1)] += w if d < 2 else 0.0
        return weights

    return taps(grid.shape[0], height) @ grid @ taps(grid.shape[1], width).T


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 40), (2, 5, 3)])
def test_images_equal_the_definition(shape: tuple[int, int, int]) -> None:
    """Scales, weights, upsampling, blur and standardisation, from the normal values up."""
    f = Fluctuations(scales=(1, 2, 4, 9), weights=(0.5, 1.0, 0.0, 2.0), smoothing=1)
    channels, height, width = shape
    for index in (0, 12345678901):
        image = np.zeros(shape)
        for slot, ((down, across), weight) in enumerate(
            zip(f.cells(height, width), f.weights, strict=True)
        ):
            values = reference.normal_values(3, 4, slot, index, channels * down * across)
            for c, grid in enumerate(values.reshape(channels, down, across)):
                image[c] += weight * _upsampled(grid, height, width)
        image = reference.constrain(Constraint(), reference.blur(image))
        found = start_images(shape=shape, fluctuations=f, indices=[index], seed=3, stream=4)[0]
        np.testing.assert_allclose(found, image, atol=2e-5)


def test_grids_of_the_article() -> None:
    cells = Fluctuations().cells(28, 28)
    assert cells == ((28, 28), (14, 14), (7, 7), (3, 3))


def test_images_satisfy_the_constraint() -> None:
    x = start_images(50, (3, 9, 11)).astype(np.float64)
    np.testing.assert_allclose(x.mean(axis=(1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=(1, 2, 3)), 1, atol=1e-6)
    box = start_images(50, constraint=Constraint("clip", -1, 3))
    assert box.min() == -1
    assert box.max() == 3
    assert 0.9 < box.mean() < 1.1


def test_coarse_scales_are_smooth() -> None:
    """Neighbouring pixels agree the more, the wider the cells."""

    def roughness(scale: float) -> float:
        x = start_images(20, fluctuations=Fluctuations((scale,), (1.0,)))
        return float(np.diff(x, axis=3).std())

    assert roughness(1) > 1.3
    assert roughness(9) < 0.3 < roughness(4) < roughness(2) < roughness(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Fluctuations((0.5,), (1.0,)), r"scales=0.5: must be a number in \[1, 1e\+06\]"),
        (lambda: Fluctuations((1, 2), (1.0,)), r"weights=\(1.0,\): must be one for each of the 2"),
        (lambda: Fluctuations((1,), (1e-7,)), r"weights=\(1e-07,\): must be not all below"),
        (lambda: Fluctuations((1,), (float("nan"),)), r"weights=nan: must be a number in \[0"),
        (lambda: Fluctuations(3, (1.0,)), r"scales=3: must be a sequence of numbers"),
        (lambda: Fluctuations(("a",), (1.0,)), r"scales='a': must be a number in \[1"),
        (lambda: Fluctuations(smoothing=-1), r"smoothing=-1: must be an integer in 0"),
        (start_images, r"either count or indices"),
        (lambda: start_images(1, indices=[1]), r"either count or indices"),
        (lambda: start_images(-1), r"count=-1: must be an integer in 0"),
        (lambda: start_images(1, (1, 1, 1)), r"shape=\(1, 1, 1\): must be \(C, H, W\)"),
        (lambda: start_images(1, (28, 28)), r"shape=\(28, 28\): must be \(C, H, W\)"),
        (lambda: start_images(1, (1, 1, 70000)), r"shape=70000: must be an integer in 1 … 65536"),
        (lambda: start_images(1, seed=-1), r"seed=-1: must be an integer in 0"),
        (lambda: start_images(1, stream=2**24), r"stream=16777216: must be an integer in 0"),
        (lambda: start_images(indices=[-1]), r"indices=-1: must be an integer in 0"),
        (lambda: start_images(indices=[1.5]), r"indices=1.5: must be an integer in 0"),
        (lambda: start_images(1, threads=0), r"threads=0: must be an integer in 1"),
        (lambda: start_images(1, constraint="box"), r"constraint='box': must be one of"),
        (
            lambda: start_images(1, fluctuations=Fluctuations((60.0,), (1.0,))),
            r"scales=\(60.0,\): one that has a weight must be in 1 … 18.6, to put two cells",
        ),
    ],
)
def test_bad_arguments_are_named(call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()


def test_progress_can_cancel() -> None:
    """An error of the progress callable ends the drawing and reaches the caller."""

    def stop(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        start_images(200_000, progress=stop, threads=1)
