"""``pyoip survey``: running, going on, and reading what was found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pyoip
from pyoip.cli import app

SMALL = (
    *("--scales", "1,4", "--smoothings", "0,1", "--starts", "30", "--ascents", "2"),
    *("--article", "2", "--steps", "24"),
)


def _run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["survey", *map(str, words)])
    return done.exit_code, done.stdout


def _process(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pyoip", "survey", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "layer3.db"
    code, out = _run("mnist", "--layer", "conv3", "--maps", "20-27", "--out", path, *SMALL)
    assert code == 0
    assert "stored: 3 of 3 pieces" in out
    assert f"'pyoip survey report {path}' draws it" in out
    return path


def test_what_is_run_by_name_and_without_is_the_same(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.db"
    assert _run("run", "mnist", "-l", "3", "-m", "20-27", "-o", out, *SMALL)[0] == 0
    one, other = pyoip.load_survey(file), pyoip.load_survey(out)
    assert one.plan == other.plan
    assert (one.activations == other.activations).all()
    assert one.plan.mixes == pyoip.grid(scales=(1, 4), smoothings=(0, 1))


def test_options_reach_the_plan(tmp_path: Path) -> None:
    out = tmp_path / "box.db"
    code, text = _run(
        *("mnist", "-l", "conv1:0-1", "--sobol", "5", "--starts", "8", "--ascents", "1"),
        *("--constraint", "clip", "--high", "2", "--seed", "9", "--article", "0", "--steps", "5"),
        *("--out", out, "--json"),
    )
    assert code == 0
    assert json.loads(text)["seed"] == 9
    plan = pyoip.load_survey(out).plan
    assert plan.mixes == pyoip.sobol(5)
    assert (plan.settings.constraint.kind, plan.settings.constraint.high) == ("clip", 2.0)
    assert (plan.starts, plan.ascents, plan.article, plan.maps) == (8, 1, 0, (0, 1))


def test_status_tells_where_it_stands(file: Path) -> None:
    code, out = _run("status", file)
    assert code == 0
    assert "8 maps, 6 mixes of 1, 4 px, 30 start images each" in out
    assert "dead by proof: 25" in out
    document = json.loads(_run("status", file, "--json")[1])
    assert document["done"] == document["total"] == 3
    assert document["verdicts"]["dead"] == 1


def test_show_tells_of_one_map(file: Path, tmp_path: Path) -> None:
    code, out = _run("show", file, "22")
    assert code == 0
    assert out.startswith("map 22 of mnist, layer 3: ")
    assert out.count(" px") > 6
    assert "kinds of OIP" in out
    code, out = _run("show", file, "25")
    assert "map 25 of mnist, layer 3: dead" in out
    assert "proven at most -" in out
    document = json.loads(_run("show", file, "22", "--json")[1])
    assert len(document["mixes"]) == 6
    assert document["clusters"][0]["activation"] == document["activation"]
    picture = tmp_path / "map22.png"
    assert _run("show", file, "22", "--out", picture)[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_report_writes_a_folder(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    code, out = _run("report", file, "--out", folder)
    assert code == 0
    names = {path.name for path in folder.iterdir()}
    assert {"report.txt", "maps.csv", "waking.png", "coverage.png", "starters.png"} <= names
    assert all(name in out for name in names)
    lines = (folder / "maps.csv").read_text().splitlines()
    assert len(lines) == 9
    assert lines[6].startswith("25,dead,0.0,")
    assert (folder / "report.txt").read_text().strip() in out
    (folder / "gallery_9.png").write_bytes(b"a page of an earlier report")
    assert _run("report", file, "--out", folder)[0] == 0
    assert not (folder / "gallery_9.png").exists()
    other = tmp_path / "other.db"
    small = ("--starts", "5", "--ascents", "1", "--article", "0", "--steps", "2", "--scales", "1")
    assert _run("mnist", "-m", "0", "-o", other, *small)[0] == 0
    refused = _process("report", other, "--out", folder)
    assert "holds the report of another survey (mnist, layer 3" in refused.stderr
    assert (folder / "maps.csv").read_text().splitlines() == lines


def test_export_writes_tables(file: Path, tmp_path: Path) -> None:
    for ending in ("csv", "parquet", "npz"):
        path = tmp_path / f"table.{ending}"
        assert _run("export", file, path) == (0, f"{path}: 48 rows\n")
        assert path.stat().st_size > 1000
        named = tmp_path / f"named.{ending}"
        assert _run("export", file, "--out", named) == (0, f"{named}: 48 rows\n")
        assert named.stat().st_size == path.stat().st_size
    beside = tmp_path / "beside.db"
    beside.write_bytes(file.read_bytes())
    assert _run("export", beside) == (0, f"{tmp_path / 'beside.csv'}: 48 rows\n")
    assert (tmp_path / "beside.csv").read_bytes() == (tmp_path / "table.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("status", "missing.db"), "missing.db: no such file; 'pyoip survey MODEL --out"),
        (("show", "FILE", "7"), "map 7: must be a map of this survey, which has 20-27"),
        (("export", "FILE", "t.xlsx"), "t.xlsx: must end in .csv, .parquet, .npz"),
        (
            ("export", "FILE", "a.csv", "--out", "b.csv"),
            "--out b.csv: names a second file beside a",
        ),
        (("mnist", "--out", "nowhere/x.db"), "nowhere/x.db: there is no folder nowhere; make it"),
        (("show", "FILE", "22", "--out", "nowhere/x.png"), "nowhere/x.png: there is no folder no"),
        (("mnist", "--scales", "40"), "--scales 40: one that has a weight must be in 1 … 18.6, to"),
        (
            ("mnist", "--smoothings", "1,0,1"),
            "--smoothings 1,0,1: must be numbers of which each is",
        ),
        (
            ("report", "FILE", "--out", "FILE"),
            "is a file, and a report is a folder: choose another",
        ),
        (("show", "FILE", "22", "--out", "x.jpg"), "x.jpg: must end in .png"),
        (("mnist", "--levels", "a"), "--levels 'a': must be numbers with commas between"),
        (("mnist", "--smoothings", "0.5"), "--smoothings '0.5': must be whole numbers"),
        (("mnist", "--low", "0"), "--low: is the box of '--constraint clip'"),
        (("no.onnx",), "no.onnx"),
        (("staus", "FILE"), "no command 'staus': did you mean 'pyoip survey status "),
        (("FILE",), "is no model but a survey's file; 'pyoip survey status "),
        (("run", "FILE"), "is no model but a survey's file; 'pyoip survey status "),
        (("report", "mnist"), "mnist: is no survey but a network that ships with pyoip; 'pyoip "),
        (("mnist", "--sobol", "-1"), "--sobol -1: must be an integer in 1"),
        (("mnist", "--sobol", "4", "--levels", "0,1"), "--levels: belongs to the grid"),
        (("mnist", "--scales", "1,2,3,4,5,6,7,8,9", "--levels", "0,.2,.4,.6,.8,1"), "65536 mixes"),
        (("export", "FILE", "nowhere/t.csv"), "nowhere/t.csv: there is no folder nowhere"),
        (
            ("mnist", "--seed", "1", "--out", "FILE", "-l", "3", "-m", "20-27", *SMALL),
            "--seed 0, not 1",
        ),
        (
            ("mnist", "--starts", "2147483648"),
            "--starts 2147483648: must be an integer in 1 … 2147",
        ),
    ],
)
def test_slips_are_told_in_a_line(file: Path, words: tuple[str, ...], message: str) -> None:
    done = _process(*(file if word == "FILE" else word for word in words))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "stopped.db"
    words = ("mnist", "-l", "3", "-o", out, "--starts", "200")
    command = [sys.executable, "-m", "pyoip", "survey", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        while not out.exists() or not _done(out):
            time.sleep(0.05)
            assert run.poll() is None
        os.kill(run.pid, signal.SIGINT)
        said = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert "interrupted: " in said
    assert "the same call goes on" in said
    stored = _done(out)
    assert 0 < stored < pyoip.load_survey(out).total
    assert _process("status", out).stdout.count(f"stored: {stored} of") == 1


def _done(path: Path) -> int:
    try:
        return pyoip.load_survey(path).done
    except pyoip.DataError:  # not a survey yet
        return 0
