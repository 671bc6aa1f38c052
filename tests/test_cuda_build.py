"""What nvcc makes of the CUDA kernels, where it is on the machine; no device is needed."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

KERNELS = {"maps_kernel", "gradient_kernel", "ascend_kernel"}
MOST_REGISTERS = 128  # with 256 threads, two blocks on a multiprocessor


def _beside(tool: str) -> Path | None:
    """A tool of CUDA's: on PATH, where it is installed, or in a package of PyPI."""
    places = [Path(found).parent for found in [shutil.which(tool)] if found]
    places += sorted(Path("/usr/local").glob("cuda*/bin"), reverse=True)
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        places += sorted(Path(folder).glob("*/bin"))
    return next((place / tool for place in places if (place / tool).exists()), None)


def _tool(name: str) -> Path:
    found = _beside(name)
    if found is None:
        pytest.skip(f"{name}: not on this machine")
    return found


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> tuple[Path, str]:
    """The kernels for compute capability 9.0, with warnings as errors, and what ptxas counts."""
    program = tmp_path_factory.mktemp("cuda") / "kernels.cubin"
    flags = ["-std=c++20", "-O3", "-arch=sm_90", "--expt-relaxed-constexpr", "-Xptxas=-v"]
    flags += ["--Werror=all-warnings", "-cubin", "-o", program]
    command = [_tool("nvcc"), *flags, ROOT / "csrc" / "cuda" / "kernels.cu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return program, done.stdout + done.stderr


def _pairs(parts: list[str]) -> zip[tuple[str, str]]:
    """Names and what follows each, as `re.split` gives them in turn."""
    return zip(parts[::2], parts[1::2], strict=True)


def _kernel(name: str) -> str:
    """Of a mangled name, the kernel's own."""
    return next((kernel for kernel in KERNELS if kernel in name), name)


def test_kernels_keep_everything_in_registers(compiled) -> None:
    """No stack, no spills, and registers for two blocks on a multiprocessor."""
    kept = re.findall(
        r"Function properties for (\S+)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads",
        compiled[1],
    )
    assert {_kernel(name) for name, *_ in kept} >= KERNELS
    assert [line for line in kept if line[1:] != ("0", "0", "0")] == []
    parts = re.split(r"Compiling entry function '(\S+)'", compiled[1])[1:]
    used = {_kernel(name): re.search(r"Used (\d+) registers", text) for name, text in _pairs(parts)}
    assert set(used) == KERNELS
    assert {k: int(n[1]) for k, n in used.items() if n and int(n[1]) > MOST_REGISTERS} == {}
    assert all(used.values())


@pytest.fixture(scope="module")
def instructions(compiled) -> dict[str, set[str]]:
    """Of each kernel, the instructions that it is made of, by their full names."""
    command = [_tool("cuobjdump"), "-sass", compiled[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = re.split(r"Function : (\S+)", done.stdout)[1:]
    line = r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)"
    return {_kernel(name): set(re.findall(line, text)) for name, text in _pairs(parts)}


def _some(names: set[str], *words: str) -> bool:
    """Whether an instruction's name is made of all these words."""
    return any(set(words) <= set(name.split(".")) for name in names)


def test_the_machine_code_is_what_the_sources_want(instructions) -> None:
    """Tensor cores, 16 bytes at a time from device and shared memory, and nothing on a stack.

    Nor by loads that find out at run time what memory an address is of (LD, ST): the kernels
    have a pointer into shared memory, and must not lose sight of what it is.
    """
    assert set(instructions) == KERNELS
    for kernel, names in instructions.items():
        assert _some(names, "HMMA", "1688", "TF32"), kernel
        assert _some(names, "LDG", "128"), kernel
        assert _some(names, "LDS", "128") or kernel == "maps_kernel", kernel  # it has no target map
        assert not [n for n in names if n.split(".")[0] in ("LDL", "STL", "LD", "ST")], kernel
