"""The judge of benchmarks/instructions.py: which counts fail it, and what it says."""

from __future__ import annotations

import json
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import instructions

RECORD = {"GNU 12.2.0": {"layer 1, tangent": 1000, "layer 2, tangent": 20_000}}


def _compare(first: int, second: int, compiler: str = "GNU 12.2.0"):
    counts = {"layer 1, tangent": first, "layer 2, tangent": second}
    return instructions.compare(counts, RECORD, compiler)


def test_counts_up_to_five_percent_more_pass() -> None:
    lines, failures = _compare(1050, 19_500)
    assert lines == [
        "layer 1, tangent: 1,050; on record 1,000; +5.0 %",
        "layer 2, tangent: 19,500; on record 20,000; -2.5 %",
    ]
    assert failures == []


def test_more_fail_with_a_line_each() -> None:
    lines, failures = _compare(1051, 20_000)
    assert len(lines) == 2
    assert failures == [
        "layer 1, tangent: more instructions than before: 1,051; on record 1,000; +5.1 %"
    ]
    assert len(_compare(2000, 40_000)[1]) == 2


def test_a_record_far_too_high_is_told() -> None:
    """It would let the next regression pass."""
    lines, failures = _compare(900, 20_000)
    assert lines[0].endswith("-10.0 %; so far below the record: --record")
    assert failures == []


def test_other_compilers_and_new_cases_pass() -> None:
    lines, failures = _compare(9999, 9999, "Clang 14.0.6")
    assert lines[-1] == "no reference for Clang 14.0.6; recorded: GNU 12.2.0"
    assert failures == []
    lines, failures = instructions.compare({"layer 3, tangent": 7}, RECORD, "GNU 12.2.0")
    assert (lines, failures) == (["layer 3, tangent: 7; no reference"], [])


def test_the_record_holds_every_case() -> None:
    for counts in json.loads(instructions.RECORD.read_text()).values():
        assert set(counts) == {case.name for case in instructions.CASES}
        assert all(isinstance(count, int) and count > 0 for count in counts.values())


def test_total_is_read_from_a_profile() -> None:
    assert instructions.total("events: Ir\nfn=(1)\n5 70\n\ntotals: 1005339\n") == 1005339
    with pytest.raises(ValueError, match="not enough values"):
        instructions.total("events: Ir\n")
