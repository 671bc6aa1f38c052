"""The core on processors that this machine is not: NEON kernels, run by an emulator.

The driver (csrc/driver.cpp) stands in for the extension there; that it is the same core is
tested first, on this machine.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import driver
import numpy as np
import pytest
from driver import DriverEngine
from problems import SETTINGS, TOLERANCE, errors_of, problem, same_ascents

import pyoip
from pyoip import _cpu
from pyoip.engines.base import Ascents
from pyoip.engines.cpu import CpuEngine
from pyoip.engines.reference import ReferenceEngine
from pyoip.fluctuations import Fluctuations
from pyoip.settings import Constraint, Settings

Program = list[str | Path]


def _built(preset: str, *tools: str) -> Path:
    """The driver of a preset; without the tools for it the test is skipped."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool}: not on this machine")
    try:
        return driver.build(preset)
    except driver.MissingToolError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def native() -> Program:
    """The driver for this machine."""
    return [_built("driver")]


@pytest.fixture(scope="module")
def neon() -> Program:
    """The driver for 64-bit ARM, under an emulator."""
    return ["qemu-aarch64", _built("driver-aarch64", "aarch64-linux-gnu-g++", "qemu-aarch64")]


def _bits(found: Ascents) -> list[bytes]:
    return [np.asarray(value).tobytes() for value in vars(found).values()]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_driver_is_the_same_core(native: Program, isa: str, threads: int) -> None:
    """All four calls on four stacks: the bits of the extension, if it is as new as the sources."""
    if driver.info(native)["compiler"] != _cpu.info()["compiler"]:
        pytest.skip("the installed extension was built by another compiler")
    for seed in range(4):
        stack, images, targets = problem(seed)
        core, found = CpuEngine(stack, threads), DriverEngine(stack, native, threads, isa)
        assert found.activations(images).tobytes() == core.activations(images).tobytes()
        for objective in ("activation", "preactivation"):
            score = core.score(images, objective)
            assert found.score(images, objective).tobytes() == score.tobytes()
            pairs = zip(
                found.gradient(images, targets, objective),
                core.gradient(images, targets, objective),
                strict=True,
            )
            assert all(a.tobytes() == b.tobytes() for a, b in pairs)
        for settings in SETTINGS.values():
            ascents = [engine.ascend(images, targets, settings) for engine in (found, core)]
            assert _bits(ascents[0]) == _bits(ascents[1])


def test_an_error_of_the_driver_is_told(native: Program) -> None:
    """A missing instruction set, a stack beyond the limits, a problem cut short: one line each."""
    stack, images, targets = problem(0)
    with pytest.raises(RuntimeError, match="PYOIP_CPU_ISA='mmx'"):
        DriverEngine(stack, native, isa="mmx").score(images, "activation")
    with pytest.raises(RuntimeError, match="target 256"):
        DriverEngine(stack, native).gradient(images, 0 * targets + 256, "activation")
    wide = replace(stack, input_shape=(2, *stack.input_shape[1:]))
    with pytest.raises(RuntimeError, match="channels=2: must be 1 or 3"):
        driver.run(native, driver.stack_command(wide))
    whole = driver.stack_command(stack)
    for short in (whole[:-1], whole[:9], whole[:5]):
        with pytest.raises(RuntimeError, match="ends too soon"):
            driver.run(native, short)
    with pytest.raises(RuntimeError, match="no stack"):
        driver.run(native, driver.images_command(images, targets))
    with pytest.raises(RuntimeError, match="unknown command 'nonsense'"):
        driver.run(native, b"nonsense")


def test_neon_equals_the_definition(neon: Program) -> None:
    """Scores, activations and gradients of 20 random stacks."""
    assert driver.info(neon)["instruction sets"] == "neon"
    ties = 0
    for seed in range(20):
        stack, images, targets = problem(seed, count=2)
        errors = errors_of(DriverEngine(stack, neon), stack, images, targets)
        assert errors.largest < TOLERANCE, seed
        ties += errors.ties
    assert ties <= 2


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_neon_climbs_as_defined(neon: Program, settings: Settings) -> None:
    """Short ascents of six random stacks, on two threads; one may meet a flipped decision."""
    off = 0
    for seed in range(6):
        stack, images, targets = problem(seed, count=2, sides=(5, 16))
        found = DriverEngine(stack, neon, threads=2).ascend(images, targets, settings)
        exact = ReferenceEngine(stack).ascend(images, targets, settings)
        off += not same_ascents(found, exact)
    assert off <= 1


@pytest.mark.parametrize("machine", ["native", "neon"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 40), (2, 5, 3)])
@pytest.mark.parametrize("constraint", [Constraint(), Constraint("clip", -1, 3)])
def test_start_images_have_the_same_bits_everywhere(
    request: pytest.FixtureRequest, machine: str, shape: tuple[int, int, int], constraint
) -> None:
    """Made there and made by the extension here, to the last bit."""
    program: Program = request.getfixturevalue(machine)
    indices = [*range(30), 2**33, 2**64 - 1]
    mixed = Fluctuations(scales=(1, 2, 4, 9), weights=(0.5, 1.0, 0.0, 2.0), smoothing=1)
    for fluctuations in (Fluctuations(), mixed):
        place = {"seed": 2**40 + 7, "stream": 3, "constraint": constraint}
        there = driver.start_images(program, indices, shape, fluctuations, **place)
        here = pyoip.start_images(None, shape, fluctuations, indices=indices, **place)
        assert there.tobytes() == here.tobytes()
        assert np.ptp(there) > 1
