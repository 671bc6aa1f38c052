"""Where tests find data, and the instruction sets that this processor runs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pyoip import _cpu
from pyoip.network import Network, load

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

if "PYOIP_DATA" not in os.environ and (SHARED / "data").is_dir():
    os.environ["PYOIP_DATA"] = str(SHARED / "data")


@pytest.fixture(params=_cpu.info()["instruction_sets"])
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test once per instruction set."""
    monkeypatch.setenv("PYOIP_CPU_ISA", request.param)
    return str(request.param)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of the test's own, the same on every run."""
    return np.random.default_rng(list(request.node.name.encode()))


@pytest.fixture(scope="session")
def mnist() -> Network:
    """The network that ships with pyoip."""
    return load("mnist")
