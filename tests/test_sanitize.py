"""What runs the kernels under compute-sanitizer, itself: without a device, and by a tool played."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import sanitize
import toolkit
from conftest import ROOT
from problems import problem

CLEAN = "========= ERROR SUMMARY: 0 errors\n"
NO_RACE = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n"
RACE = "========= RACECHECK SUMMARY: 1 hazard displayed (0 errors, 1 warning)\n"


def test_every_call_of_the_module_is_made(cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the host: a call that is new in the module's stub is to be added."""
    made: set[str] = set()

    class Watched:
        def __init__(self, *given: object) -> None:
            self._core = cuda.Engine(*given)

        def __getattr__(self, name: str) -> object:
            made.add(name)
            return getattr(self._core, name)

    watched = SimpleNamespace(**vars(cuda) | {"Engine": Watched})
    monkeypatch.setattr("pyoip._cuda", watched)
    monkeypatch.setitem(sys.modules, "pyoip._cuda", watched)
    few = [problem(seed, count=1, sides=(5, 8)) for seed in range(2)]
    monkeypatch.setattr(sanitize, "_cases", lambda: few)
    sanitize.make_calls()
    assert made >= _calls_of_the_stub()


def _calls_of_the_stub() -> set[str]:
    """Of the module and of its engine, all but what needs no kernel."""
    body = ast.parse((ROOT / "pyoip" / "_cuda.pyi").read_text()).body
    (engine,) = (n for n in body if isinstance(n, ast.ClassDef) and n.name == "Engine")
    found = [n for n in (*body, *engine.body) if isinstance(n, ast.FunctionDef)]
    return {n.name for n in found if not n.decorator_list} - {"__init__", "info"}


def test_the_cases_run_on_the_host(cuda) -> None:
    """All of them, as on a device: what fits no block there would say nothing about the kernels."""
    sanitize.make_calls()


@pytest.mark.parametrize("summary", [CLEAN, NO_RACE])
def test_a_clean_report_is_clean(summary: str) -> None:
    assert sanitize.clean(0, f"{sanitize.DONE}\n{summary}")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, sanitize.DONE + "\n" + CLEAN),
        (0, sanitize.DONE + "\n" + CLEAN.replace("0", "10")),
        (0, sanitize.DONE + "\n" + CLEAN + CLEAN.replace("0", "1")),
        (0, sanitize.DONE + "\n" + RACE),
        (0, sanitize.DONE + "\n"),  # nobody watched
        (0, CLEAN),  # nothing ran
    ],
)
def test_all_else_is_not(code: int, said: str) -> None:
    assert not sanitize.clean(code, said)


def _play(folder: Path, monkeypatch: pytest.MonkeyPatch, summary: str) -> Path:
    """A compute-sanitizer that knows one option more, and ends with this line."""
    played = folder / "compute-sanitizer"
    played.write_text(
        "#!/bin/sh\n"
        '[ "$1" = --help ] && echo "  --racecheck-detect-level arg (=warn)" && exit\n'
        f'echo "$@" >> {folder}/asked\necho "{sanitize.DONE}\n{summary}"\n'
    )
    played.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setattr("pyoip.engines.available", lambda: {"cuda": None})
    monkeypatch.setattr(sys, "argv", ["sanitize.py"])
    return folder / "asked"


@pytest.mark.parametrize(("errors", "code"), [(0, 0), (3, 4)])
def test_all_four_tools_run_whatever_one_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: int, code: int
) -> None:
    asked = _play(tmp_path, monkeypatch, f"========= ERROR SUMMARY: {errors} errors")
    assert sanitize.main() == code
    lines = asked.read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [["--tool", tool] for tool in sanitize.TOOLS]
    assert all(line.endswith("sanitize.py run") for line in lines)
    more = [line.split()[4:-3] for line in lines]
    assert more == [[], ["--racecheck-detect-level", "info"], [], []]


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sanitize.py"])
    monkeypatch.setattr(toolkit, "find", lambda tool: None)
    with pytest.raises(SystemExit, match="compute-sanitizer: neither on PATH nor in"):
        sanitize.main()
    monkeypatch.setattr(sys, "argv", ["sanitize.py", "leakcheck"])
    with pytest.raises(SystemExit, match="leakcheck: must be among memcheck, racecheck"):
        sanitize.main()
