"""Where tests find data, and the instruction sets that this processor runs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from cores import CPU, CUDA, Core, build_cuda_for_the_host

from pyoip import _cpu, engines
from pyoip.network import Network, load

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
STRANGERS = Path(os.environ.get("PYOIP_TEST_MODELS", SHARED / "models"))
needs_strangers = pytest.mark.skipif(
    not STRANGERS.is_dir(),
    reason="the models of other people are not here; set PYOIP_TEST_MODELS to their folder",
)

if "PYOIP_DATA" not in os.environ and (SHARED / "data").is_dir():
    os.environ["PYOIP_DATA"] = str(SHARED / "data")


@pytest.fixture(params=_cpu.info()["instruction_sets"])
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test once per instruction set."""
    monkeypatch.setenv("PYOIP_CPU_ISA", request.param)
    return str(request.param)


@pytest.fixture(scope="session")
def cuda_for_the_host() -> ModuleType:
    """The module _cuda, built for the host."""
    for tool in ("cmake", "ninja"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool}: not on this machine")
    return build_cuda_for_the_host(ROOT)


@pytest.fixture
def cuda(cuda_for_the_host: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The same in the place of pyoip._cuda."""
    monkeypatch.setitem(sys.modules, "pyoip._cuda", cuda_for_the_host)
    monkeypatch.setattr("pyoip._cuda", cuda_for_the_host, raising=False)
    return cuda_for_the_host


@pytest.fixture
def device() -> None:
    """A CUDA device is asked for: without one the test fails, and is not skipped."""
    reason = engines.available()["cuda"]
    if reason is not None:
        pytest.fail(f"engine 'cuda': {reason}")


ON_A_DEVICE = pytest.param("device", marks=pytest.mark.gpu)


@pytest.fixture(params=[*_cpu.info()["instruction_sets"], "cuda", ON_A_DEVICE])
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Core:
    """Run the test once per instruction set, on the CUDA core's host build, and on a device."""
    if request.param in ("cuda", "device"):
        request.getfixturevalue(request.param)
        return CUDA
    monkeypatch.setenv("PYOIP_CPU_ISA", request.param)
    return CPU


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of the test's own, the same on every run."""
    return np.random.default_rng(list(request.node.name.encode()))


@pytest.fixture(scope="session")
def mnist() -> Network:
    """The network that ships with pyoip."""
    return load("mnist")


def _wanting(terminal: pytest.TerminalReporter) -> list[str]:
    """Reasons of tests that were skipped for want of data or models."""
    reasons = [str(report.longrepr) for report in terminal.stats.get("skipped", [])]
    return [r for r in reasons if "PYOIP_DATA" in r or "PYOIP_TEST_MODELS" in r]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With PYOIP_REQUIRE_SHARED set, as in CI, no test may skip for want of data or models."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("PYOIP_REQUIRE_SHARED") and terminal is not None and _wanting(terminal):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why the run failed."""
    if os.environ.get("PYOIP_REQUIRE_SHARED") and (wanting := _wanting(terminalreporter)):
        terminalreporter.write_line(f"failed: PYOIP_REQUIRE_SHARED is set and {wanting[0]}")
