"""What nvcc makes of the CUDA kernels, where it is on the machine; no device is needed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import toolkit
from conftest import ROOT

KERNELS = {"maps_kernel", "ascend_kernel"}  # by matrix products
MOST_REGISTERS = 128  # with 256 threads, two blocks on a multiprocessor


def _tool(name: str) -> Path:
    found = toolkit.find(name)
    if found is None:
        pytest.skip(f"{name}: not on this machine")
    return found


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> tuple[list[Path], str]:
    """All kernels for compute capability 9.0, warnings as errors, and what ptxas counts."""
    folder, flags = tmp_path_factory.mktemp("cuda"), ["-std=c++20", "-O3", "-arch=sm_90", "-cubin"]
    flags += ["--expt-relaxed-constexpr", "-Xptxas=-v", "--Werror=all-warnings"]
    programs, said = [], ""
    for source in sorted((ROOT / "csrc" / "cuda").glob("*.cu")):
        programs.append(folder / f"{source.stem}.cubin")
        said += _ran(_tool("nvcc"), *flags, "-o", programs[-1], source)
    return programs, said


def _ran(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _by_kernel(heading: str, text: str) -> dict[str, str]:
    """What follows each heading with a mangled name, by the kernel's own name."""
    parts = re.split(heading, text)[1:]
    names = [re.search(r"([a-z]+(?:_[a-z]+)*_kernel)[EI]", name) for name in parts[::2]]
    return {n[1] if n else m: t for n, m, t in zip(names, parts[::2], parts[1::2], strict=True)}


def test_kernels_keep_everything_in_registers(compiled) -> None:
    """No stack, no spills, and registers for two blocks on a multiprocessor."""
    numbers = r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    kept = {
        name: re.findall(numbers, text)
        for name, text in _by_kernel(r"Function properties for (\S+)", compiled[1]).items()
    }
    assert set(kept) >= KERNELS
    assert {name: n for name, n in kept.items() if n != [("0", "0", "0")]} == {}
    used = {
        name: [int(n) for n in re.findall(r"Used (\d+) registers", text)]
        for name, text in _by_kernel(r"Compiling entry function '(\S+)'", compiled[1]).items()
    }
    assert set(used) == set(kept)  # no function but the kernels: all is inlined
    assert {k: n for k, n in used.items() if len(n) != 1 or n[0] > MOST_REGISTERS} == {}


@pytest.fixture(scope="module")
def instructions(compiled) -> dict[str, set[str]]:
    """Of each kernel, the instructions that it is made of, by their full names."""
    tool = _tool("cuobjdump")
    listing = "".join(_ran(tool, "-sass", program) for program in compiled[0])
    line = r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)"
    found = _by_kernel(r"Function : (\S+)", listing)
    return {name: set(re.findall(line, text)) for name, text in found.items()}


def _some(names: set[str], *words: str) -> bool:
    """Whether an instruction's name is made of all these words."""
    return any(set(words) <= set(name.split(".")) for name in names)


def test_the_machine_code_is_what_the_sources_want(instructions) -> None:
    """Tensor cores, 16 bytes at a time from device and shared memory, and nothing on a stack.

    Nor by loads that find out at run time what memory an address is of (LD, ST): the kernels
    have a pointer into shared memory, and must not lose sight of what it is.
    """
    for kernel in KERNELS:
        names = instructions[kernel]
        assert _some(names, "HMMA", "1688", "TF32"), kernel
        assert _some(names, "LDG", "128"), kernel
        assert _some(names, "LDS", "128") or kernel == "maps_kernel", kernel  # it has no target map
    for kernel, names in instructions.items():
        assert not [n for n in names if n.split(".")[0] in ("LDL", "STL", "LD", "ST")], kernel
