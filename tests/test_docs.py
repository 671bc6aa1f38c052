"""Tables in the documentation name what is written, all of it and in its order."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from survey_case import survey

import pyoip
from pyoip.surveys.export import write_table
from pyoip.surveys.report import write_report


def documented(page: str, head: str, nth: int = 0) -> list[str]:
    """First cells, unquoted, of the nth table of a page whose first column is called `head`."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    begins = [i for i, line in enumerate(lines) if line.startswith(f"| {head} |")]
    names = []
    for line in lines[begins[nth] + 2 :]:
        row = re.match(r"\| `([^`]+)`", line)
        if row is None:
            break
        names.append(row[1])
    return names


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> pyoip.Survey:
    return survey(tmp_path_factory.mktemp("docs") / "survey.db")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs") / "oips"
    quick = {"candidates": 8, "trials": 2, "starts": 1, "kicks": 0, "steps": 3}
    pyoip.ascend("mnist", 1, [0, 5], snapshots=(1, 2), **quick).save(path)
    return path


def test_columns_of_a_reports_table(found: pyoip.Survey, tmp_path: Path) -> None:
    write_report(found, tmp_path)
    head = (tmp_path / "maps.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert head[-2:] == ["alive 1 px", "alive 4 px"]
    assert [*head[:-2], "alive … px"] == documented("survey.md", "column")


def test_columns_of_exported_tables(found: pyoip.Survey, tmp_path: Path) -> None:
    columns = documented("survey.md", "column", 1)
    write_table(found, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.reader(file)) == columns[:-1]
    parquet = pytest.importorskip("pyarrow.parquet")
    write_table(found, tmp_path / "t.parquet")
    assert parquet.read_schema(tmp_path / "t.parquet").names == columns


def test_exported_arrays(found: pyoip.Survey, tmp_path: Path) -> None:
    write_table(found, tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as arrays:
        assert arrays.files == documented("survey.md", "array")


def test_alive_is_a_count_in_rows_and_a_share_in_arrays(
    found: pyoip.Survey, tmp_path: Path
) -> None:
    write_table(found, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        counts = [int(row["alive"]) for row in csv.DictReader(file)]
    assert np.allclose(np.array(counts) / found.plan.starts, found.alive.ravel())


def test_entries_of_a_saved_result(folder: Path) -> None:
    document = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert list(document["maps"][0]) == documented("result.md", "name")
    assert document["interrupted"] is False


def test_arrays_of_a_saved_result(folder: Path) -> None:
    with np.load(folder / "oips.npz") as arrays:
        assert arrays.files == documented("result.md", "array")


def test_files_of_a_saved_result(folder: Path) -> None:
    kinds = {re.sub(r"_\d+", "_000", path.name) for path in folder.iterdir()}
    assert kinds == set(documented("result.md", "file"))
