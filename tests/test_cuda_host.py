"""What runs the CUDA core on the host (tests/cuda_host/): kernels whose answers are known, under
every order of their threads, and kernels and calls that are wrong, which must be told so.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import driver
import pytest

ORDERS = ("forward", "backward", "random:1", "random:2")
KERNELS = ("reduction", "scan", "transpose", "mma", "persistent", "stop")
CALLS = ("launches", "memory")


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return driver.build("cuda-host", program="pyoip_cuda_host_test")
    except driver.MissingToolError as error:
        pytest.skip(str(error))


def _run(program: Path, test: str, **variables: str) -> subprocess.CompletedProcess[str]:
    ours = {f"PYOIP_CUDA_HOST_{name}": value for name, value in variables.items()}
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYOIP_CUDA_HOST_")}
    return subprocess.run(
        [program, test], env=kept | ours, capture_output=True, text=True, check=False, timeout=120
    )


def _output(program: Path, test: str, **variables: str) -> str:
    done = _run(program, test, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("test", KERNELS)
def test_kernels_are_right_in_every_order_of_their_threads(program: Path, test: str) -> None:
    """The program compares with plain loops; the bits are the same whatever the order."""
    assert len({_output(program, test, ORDER=order) for order in ORDERS}) == 1


def test_a_missing_barrier_shows_in_other_bits(program: Path) -> None:
    assert len({_output(program, "no-barrier", ORDER=order) for order in ORDERS}) == len(ORDERS)
    assert "ffffffff" in _output(program, "no-barrier")  # memory that nobody wrote is NaN


def test_quotients_by_products_are_exact(program: Path) -> None:
    """Up to 2^16 by up to 2^16: more than a block's shared memory has numbers."""
    _output(program, "divisors")


@pytest.mark.parametrize("test", CALLS)
def test_wrong_calls_are_refused(program: Path, test: str) -> None:
    _output(program, test)


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ("left-barrier", r"no thread can go on: of 64, 63 wait at __syncthreads \(.*1 have ended"),
        ("two-barriers", r"thread 5 came to __syncthreads \(.*wait at __syncthreads \("),
        ("barrier-and-warp", r"63 wait at __syncthreads \(.*1 of warp 0 wait at __syncwarp \("),
        ("left-warp", r"31 of warp 1 wait at __any_sync \(.*, 33 have ended"),
        ("part-of-a-warp", r"__ballot_sync: only the full mask"),
        ("past-the-end", r"block 0: byte 64 of the shared memory was written; .* asked for 64"),
        ("past-everything", r"byte 232450 of the shared memory was written; .* for 232448"),
        ("outside", r"__syncthreads: called outside a kernel"),
    ],
)
def test_what_cuda_leaves_undefined_ends_in_words(program: Path, test: str, says: str) -> None:
    done = _run(program, test)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert re.search(says, line), line


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "cudaSuccess 1 host shim 9.0 132 232448 233472 2147483648"),
        (
            {"MULTIPROCESSORS": "7", "SHARED_MEMORY": "101376", "MEMORY": "1000", "DEVICES": "2"},
            "cudaSuccess 2 host shim 9.0 7 101376 102400 1000",
        ),
        ({"DEVICES": "0"}, "cudaErrorNoDevice 0  0.0 0 0 0 0"),
        ({"DEVICES": "old-driver"}, "cudaErrorInsufficientDriver 0  0.0 0 0 0 0"),
    ],
)
def test_the_device_is_what_the_environment_says(
    program: Path, variables: dict[str, str], says: str
) -> None:
    assert _output(program, "devices", **variables).strip() == says


def test_a_launch_fails_where_it_is_told_to(program: Path) -> None:
    _output(program, "failing-launch", FAIL_LAUNCH="2")
    assert "the wait: cudaSuccess" in _run(program, "failing-launch", FAIL_LAUNCH="3").stdout


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("ORDER", "sideways", "must be forward, backward or random:SEED"),
        ("SHARED_MEMORY", "232449", "must be from 0 to 232448"),
    ],
)
def test_variables_are_read_closely(program: Path, name: str, value: str, rule: str) -> None:
    done = _run(program, "reduction" if name == "ORDER" else "devices", **{name: value})
    assert done.stderr == f"cuda_host: PYOIP_CUDA_HOST_{name}={value}: {rule}\n"
