"""The house's own rules: who may import whom, stubs that are true, examples that run."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import pyoip
from pyoip import _cpu

PACKAGE = ROOT / "pyoip"

# The way of the data: a room imports only from rooms before it. Packages count as one room.
ROOMS = tuple(
    """
    errors files progress settings activation graph layers network stack gradient _cpu
    _cuda fluctuations reference bounds engines canvas pictures figures evolution summary parity
    folder saved result starts climb ascent surveys web data export training train kinds console
    options export_cli survey_cli cli __main__
    """.split()  # noqa: SIM905 - a list of 40 short words reads best as words
)
HEAVY = {"onnx", "onnxruntime", "matplotlib", "torch", "pooch", "typer", "rich", "PIL"}


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py").removesuffix(".pyi")


def _imports(path: Path) -> list[tuple[str, int]]:
    """Rooms of this package that a file imports, anywhere in it, but for type checking."""
    depth = len(path.relative_to(PACKAGE).parts)
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
        for node in ast.walk(test)
    }
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or id(node) in typing_only:
            continue
        if node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found += [(name.split(".")[0], node.lineno) for name in names]
    return found


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_only_from_rooms_before_them(path: Path) -> None:
    room = _room(path)
    assert room in ROOMS, f"{room}: give it a place in ROOMS"
    for other, line in _imports(path):
        assert other == room or ROOMS.index(other) < ROOMS.index(room), f"{path}:{line}: {other}"


def test_only_the_graph_and_the_export_know_onnx() -> None:
    for path in FILES:
        names = set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE))
        if "onnx" in names:
            assert _room(path) in ("graph", "network", "gradient", "export"), path
        if "torch" in names:
            assert _room(path) in ("graph", "data", "export", "training", "train"), path


def test_import_is_light() -> None:
    """Importing pyoip, and asking for its names, loads none of the heavy libraries."""
    code = "import pyoip, sys; dir(pyoip); pyoip.Settings(); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(out.stdout.split())


def test_public_names_exist() -> None:
    for name in pyoip.__all__:
        assert getattr(pyoip, name).__doc__
    assert set(pyoip.__all__) <= set(dir(pyoip))
    with pytest.raises(AttributeError, match="no attribute 'ascent_'"):
        _ = pyoip.ascent_


def _signature(node: ast.FunctionDef) -> list[str]:
    return [a.arg for a in (*node.args.args, *node.args.kwonlyargs) if a.arg != "self"]


@pytest.mark.parametrize("name", ["_cpu", "_cuda"])
def test_stubs_say_what_the_extension_has(name: str, request: pytest.FixtureRequest) -> None:
    """Names and parameters of a stub are those that pybind11 wrote into the docstrings."""
    module = _cpu if name == "_cpu" else request.getfixturevalue("cuda_for_the_host")
    body = ast.parse((PACKAGE / f"{name}.pyi").read_text()).body
    functions = {n.name: n for n in body if isinstance(n, ast.FunctionDef)}
    classes = {n.name: n for n in body if isinstance(n, ast.ClassDef)}
    assert {n for n in vars(module) if not n.startswith("_")} == set(functions) | set(classes)
    for function, node in functions.items():
        assert _documented(getattr(module, function).__doc__) == _signature(node), function
    for kind, node in classes.items():
        _stub_says_what_a_class_has(getattr(module, kind), node)


def _stub_says_what_a_class_has(kind: type, node: ast.ClassDef) -> None:
    methods = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef)}
    names = {n for n in vars(kind) if not n.startswith("_")}
    assert names == {n for n in methods if not n.startswith("_")}, kind
    assert set(methods) <= set(vars(kind)), kind
    for base in (ast.unparse(b) for b in node.bases):
        assert issubclass(kind, getattr(builtins, base)), kind
    for name, method in methods.items():
        documented = getattr(kind, name).__doc__ or ""
        if callable(getattr(kind, name)) and documented.startswith(f"{name}("):
            assert _documented(documented) == _signature(method), name


def _documented(doc: str) -> list[str]:
    first = doc.splitlines()[0]
    return [n for n in re.findall(r"[(,] ?(\w+): ", first) if n != "self"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_examples_in_docstrings_run(path: Path, monkeypatch, tmp_path) -> None:
    if path.name == "__main__.py":
        return
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(p for p in parts if p != "__init__"))
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0


@pytest.mark.parametrize(
    "name", ["ascend", "score", "load", "start_images", "export_web", "check", "Result", "Settings"]
)
def test_public_docstrings_tell_all_parameters(name: str) -> None:
    thing = getattr(pyoip, name)
    if inspect.isclass(thing):
        names = list(thing.__dataclass_fields__)
    else:
        names = list(inspect.signature(thing).parameters)
    text = inspect.getdoc(thing) or ""
    missing = [n for n in names if not re.search(rf"\b{n}\b", text)]
    assert not missing


def test_core_knows_no_python() -> None:
    for path in (ROOT / "csrc").rglob("*"):
        if path.suffix in (".cpp", ".hpp", ".inl") and "bindings" not in path.parts:
            assert not re.search(r"#include.*(pybind11|Python\.h|torch)", path.read_text()), path
