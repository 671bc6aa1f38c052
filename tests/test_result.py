"""Results: the same after saving and loading, safe on disk, readable as text."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyoip import folder
from pyoip.errors import DataError, InvalidArgument
from pyoip.fluctuations import Fluctuations
from pyoip.result import Result, Runs, load_result
from pyoip.settings import Constraint, Settings
from pyoip.summary import ranges, steps_of, times

ARRAYS = (
    *("maps", "images", "activations", "preactivations", "history", "starts", "candidates"),
    *("origins", "kicks"),
    *("bounds", "real", "converged", "woke", "snapshot_steps", "snapshots"),
)


def make_result(n: int = 5, shape=(1, 9, 7), snapshots=(1, 2), **changes) -> Result:
    """A result over maps 3 … with every verdict and awkward numbers."""
    rng = np.random.default_rng(1)

    def normal(*size: int) -> np.ndarray:
        return rng.standard_normal(size).astype(np.float32)

    history = np.cumsum(np.abs(normal(n, 9)), axis=1, dtype=np.float32)
    for i in range(n):
        history[i, 5 + i % 4 :] = np.nan
    bounds = np.full(n, np.nan)
    bounds[3:5] = [0.13, -1e-300][: max(0, n - 3)]
    settings = Settings(
        constraint=Constraint("clip", -0.1, 1 / 3),
        steps=8,
        step_size=0.1 + 0.2,
        snapshots=snapshots,
        starts=2,
        seed=2**64 - 1,
    )
    fields = {
        "network": "tiny",
        "sha256": "ab" * 32,
        "layer": 2,
        "layer_name": "conv2",
        "maps": np.arange(3, 3 + n),
        "images": normal(n, *shape),
        "activations": np.array([1.5, 2.5, 0.25, 0, 0], np.float32)[:n],
        "preactivations": normal(n),
        "history": history,
        "verdicts": ("found", "unfinished", "weak", "silent", "dead")[:n],
        "starts": normal(n, *shape),
        "origins": normal(n, *shape),
        "candidates": np.array([17, 2**40, -1, 0, 1])[:n],
        "kicks": np.array([0, 2, 0, 1, 3], np.int32)[:n],
        "bounds": bounds,
        "real": np.array([1, np.nan, 7, np.nan, np.nan], np.float32)[:n],
        "converged": np.array([1, 0, 1, 1, 1], bool)[:n],
        "woke": np.array([0, 3, 0, -1, -1], np.int32)[:n],
        "snapshot_steps": np.array(snapshots, np.int64),
        "snapshots": normal(n, len(snapshots), *shape),
        "runs": Runs(
            normal(n, 2),
            rng.integers(0, 9, (n, 2)).astype(np.int32),
            rng.integers(0, 4, (n, 2)).astype(np.uint8),
            rng.integers(0, 1024, (n, 2)),
        ),
        "settings": settings,
        "fluctuations": Fluctuations((1.0, 3.0), (0.1, 0.7), 2),
        "engine": "cpu",
        "timing": {"candidates": 0.1, "ascents": 1.25},
        "version": "0.1.0",
    }
    return Result(**(fields | changes))


@pytest.fixture
def result() -> Result:
    return make_result()


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "oips"
    make_result().save(path)
    return path


@pytest.fixture
def saved(saved_once, tmp_path):
    """A folder with `make_result()` in it, this test's own."""
    return shutil.copytree(saved_once, tmp_path / "oips")


def assert_same(a: Result, b: Result) -> None:
    for name in ARRAYS:
        x, y = getattr(a, name), getattr(b, name)
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes()), name
    for field in dataclasses.fields(Runs):
        x, y = getattr(a.runs, field.name), getattr(b.runs, field.name)
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes()), field.name
    for field in dataclasses.fields(Result):
        if field.name not in (*ARRAYS, "runs"):
            assert getattr(a, field.name) == getattr(b, field.name), field.name


def contents(path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in path.iterdir()}


# --- round trip ----------------------------------------------------------------------------


def test_loading_gives_back_every_bit(result, saved):
    assert_same(load_result(saved), result)


@pytest.mark.parametrize(
    "changes", [{"fluctuations": None}, {"n": 0, "snapshots": ()}, {"shape": (3, 5, 6)}, {"n": 1}]
)
def test_other_shapes_of_result_survive_too(tmp_path, changes):
    result = make_result(**changes)
    result.save(tmp_path / "a" / "b")
    assert_same(load_result(str(tmp_path / "a" / "b")), result)


def test_saving_twice_gives_the_same_files(result, saved):
    before = contents(saved)
    result.save(saved)
    assert contents(saved) == before


def test_the_folder_holds_one_picture_per_map_a_sheet_strips_arrays_and_json(saved):
    numbers = ("003", "004", "005", "006", "007")
    expected = {f"{kind}_{n}.png" for kind in ("map", "evolution") for n in numbers}
    assert set(contents(saved)) == expected | {"contact_sheet.png", "oips.npz", "result.json"}
    with Image.open(saved / "map_003.png") as picture:
        assert picture.size == (7 * 25, 9 * 25)


def test_without_snapshots_no_strips_are_drawn(tmp_path):
    make_result(snapshots=()).save(tmp_path / "oips")
    assert not list((tmp_path / "oips").glob("evolution*"))


def test_start_images_come_onto_the_sheet_when_asked_for(result, saved, tmp_path):
    result.save(tmp_path / "with", starts=True)
    with (
        Image.open(saved / "contact_sheet.png") as plain,
        Image.open(tmp_path / "with" / "contact_sheet.png") as paired,
    ):
        assert paired.size[0] > plain.size[0]


def test_the_json_can_be_read_by_others(saved):
    document = json.loads(
        (saved / "result.json").read_text(),
        parse_constant=lambda name: pytest.fail(f"{name} is not JSON"),
    )
    assert document["counts"] == {"found": 1, "unfinished": 1, "weak": 1, "silent": 1, "dead": 1}
    assert document["settings"]["seed"] == 2**64 - 1
    entry = document["maps"][3]
    assert (entry["map"], entry["verdict"], entry["real"], entry["bound"]) == (
        6,
        "silent",
        None,
        0.13,
    )
    assert entry["steps"] == 7


# --- refusing to read ----------------------------------------------------------------------


def rewrite(saved, **changes) -> None:
    path = saved / "result.json"
    document = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in document.items() if v != "absent"}))


def rearrange(saved, **arrays) -> None:
    """Replace arrays, checksum included."""
    with np.load(saved / "oips.npz") as file:
        kept = dict(file) | arrays
    np.savez(saved / "oips.npz", **{k: v for k, v in kept.items() if v is not None})
    rewrite(saved, arrays_sha256=folder._checksum(saved / "oips.npz"))


def refusal(path) -> str:
    with pytest.raises(DataError) as caught:
        load_result(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_missing_folder_a_file_and_a_foreign_folder_are_refused(tmp_path):
    assert refusal(tmp_path / "no") == f"{tmp_path / 'no'}: no such folder"
    (tmp_path / "file").write_text("x")
    assert refusal(tmp_path / "file") == (
        f"{tmp_path / 'file'}: is a file, not the folder of a saved result"
    )
    assert refusal(tmp_path) == f"{tmp_path}: not a saved result: it has no result.json"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', "\xff", "[" * 100_000])
def test_a_foreign_or_damaged_document_is_refused(saved, text):
    (saved / "result.json").write_bytes(text.encode("latin-1"))
    assert refusal(saved).startswith(f"{saved / 'result.json'}: ")


def test_a_newer_format_is_refused_by_name(saved):
    rewrite(saved, format_version=2, version="0.9")
    assert refusal(saved) == (
        f"{saved / 'result.json'}: format 2, written by pyoip 0.9: this version reads formats "
        "up to 1; upgrade pyoip"
    )


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_damaged_arrays_are_noticed(saved, damage):
    data = bytearray((saved / "oips.npz").read_bytes())
    data[len(data) // 2] ^= 1
    data = {"flip": data, "cut": data[:-100], "empty": b""}[damage]
    (saved / "oips.npz").write_bytes(data)
    assert refusal(saved) == (
        f"{saved / 'oips.npz'}: damaged: its checksum is not the one in result.json"
    )


def test_missing_arrays_are_named(saved):
    (saved / "oips.npz").unlink()
    assert refusal(saved) == f"{saved / 'oips.npz'}: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    "changes",
    [
        {"images": None},
        {"starts": np.zeros((5, 1, 9, 8), np.float32)},  # another size than the OIPs
        {"images": np.zeros((5, 1, 9, 7))},  # float64
        {"runs_steps": np.zeros((5, 3), np.int32)},
        {"woke": np.zeros((5, 1), np.int32)},
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(saved, changes):
    rearrange(saved, **changes)
    assert next(iter(changes)) in refusal(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": "absent"},
        {"settings": {"steps": -1}},
        {"network": "absent"},
        {"maps": [{"verdict": "great"}] * 5},
        {"maps": 7},
        {"fluctuations": {"scales": [0.5]}},
        {"arrays_sha256": "absent"},
        {"format_version": "1"},
    ],
)
def test_a_document_with_wrong_entries_is_refused(saved, changes):
    rewrite(saved, **changes)
    assert "damaged" in refusal(saved)


# --- refusing to write ---------------------------------------------------------------------


def test_a_folder_with_foreign_files_stays_as_it_is(result, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError) as caught:
        result.save(tmp_path, overwrite=True)
    assert str(caught.value) == (
        f"{tmp_path}: holds 'thesis.tex', which is not part of a saved result: "
        "choose an empty or a new folder"
    )
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_foreign_file_beside_a_result_protects_the_folder(result, saved):
    (saved / "notes.txt").write_text("map 3 is odd")
    before = contents(saved)
    with pytest.raises(DataError, match=r"holds 'notes\.txt', which is not part"):
        result.save(saved)
    assert contents(saved) == before


def test_a_foreign_result_json_protects_the_folder(result, tmp_path):
    (tmp_path / "result.json").write_text('{"loss": 0.1}')
    with pytest.raises(DataError, match=r"holds 'result\.json', which is not part"):
        result.save(tmp_path)


def test_another_layers_result_is_replaced_only_when_told_to(saved):
    other = make_result(n=2, layer=3)
    with pytest.raises(DataError) as caught:
        other.save(saved)
    assert str(caught.value) == (
        f"{saved}: holds the result of tiny, layer 2: choose another folder, or allow it to be "
        "replaced (overwrite=True)"
    )
    assert len(load_result(saved)) == 5
    other.save(saved, overwrite=True)
    assert_same(load_result(saved), other)


def test_replacing_removes_pictures_that_are_no_longer_true(saved):
    make_result(n=2, snapshots=()).save(saved, overwrite=True)
    assert set(contents(saved)) == {
        *("map_003.png", "map_004.png", "contact_sheet.png", "oips.npz", "result.json")
    }


def test_maps_that_the_new_result_lacks_are_not_lost(saved):
    before = contents(saved)
    with pytest.raises(DataError, match=r"holds 3 maps of this layer that the new result lacks"):
        make_result(n=2).save(saved)
    assert contents(saved) == before
    make_result(n=5).save(saved)


def test_a_manifest_cannot_reach_outside_its_folder(result, saved):
    outside = saved.parent / "precious.txt"
    outside.write_text("keep")
    rewrite(saved, files=["../precious.txt", *contents(saved)])
    result.save(saved)
    assert outside.read_text() == "keep"


def test_a_file_as_folder_is_refused(result, tmp_path):
    (tmp_path / "oips").write_text("x")
    with pytest.raises(DataError, match="is a file, and a result is saved as a folder"):
        result.save(tmp_path / "oips")


def test_a_folder_below_a_file_is_refused(result, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"oips: cannot be written: Not a directory"):
        result.save(tmp_path / "file" / "oips")


def failing_at(name: str):
    """The real np.savez, or a picture, on a disk that is full."""

    def fail(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", name)

    return fail


@pytest.mark.parametrize("part", ["savez", "write_png"])
def test_a_full_disk_changes_nothing(result, saved, monkeypatch, part):
    before = contents(saved)
    if part == "savez":
        monkeypatch.setattr(folder.np, "savez", failing_at("oips.npz"))
    else:
        monkeypatch.setattr("pyoip.figures.write_png", failing_at("map.png"))
    with pytest.raises(DataError) as caught:
        make_result(n=2).save(saved, overwrite=True)
    assert str(caught.value) == f"{saved}: the result could not be saved: No space left on device"
    assert contents(saved) == before
    with pytest.raises(DataError):
        result.save(saved.parent / "new" / "folder")
    assert not (saved.parent / "new").exists()


def test_a_real_limit_on_file_size_leaves_nothing_behind(tmp_path):
    # The kernel refuses to write beyond the limit, as a full disk would.
    code = (
        "import sys, resource; sys.path.insert(0, sys.argv[1])\n"
        "from test_result import make_result\n"
        "import matplotlib.font_manager\n"  # its cache is written before the limit holds
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "make_result().save(sys.argv[2])\n"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, here, str(tmp_path / "oips")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "DataError" in done.stderr.splitlines()[-1]
    assert "could not be saved: File too large" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_cleared_away(result, saved):
    (saved / ".pyoip-dead").mkdir()
    (saved / ".pyoip-dead" / "map_000.png").write_text("half")
    result.save(saved)
    assert ".pyoip-dead" not in [p.name for p in saved.iterdir()]
    assert_same(load_result(saved), result)


def test_pictures_renamed_without_their_document_are_noticed(result, saved):
    # Killed between the first and the last rename: new arrays beside the old document.
    make_result(n=2).save(saved.parent / "other")
    (saved.parent / "other" / "oips.npz").replace(saved / "oips.npz")
    assert "its checksum is not the one" in refusal(saved)


def test_checking_a_folder_leaves_no_trace(tmp_path):
    folder.check_folder(tmp_path / "a" / "b", "ab" * 32, 1)
    assert list(tmp_path.iterdir()) == []


# --- text and pictures ---------------------------------------------------------------------


def test_the_summary_counts_verdicts_and_accounts_for_every_map_not_found(result):
    assert str(result).splitlines() == [
        "tiny, layer 2 (conv2): 5 maps, engine cpu",
        "verdict     maps   activation          steps",
        "found          1   1.500               4",
        "unfinished     1   2.500               5             4",
        "weak           1   0.250               6             5",
        "silent         1   -                   7             6 (bound 0.13)",
        "dead           1   -                   4             7 (bound -1e-300)",
        "time: 1.35 s (candidates 0.10, ascents 1.25)",
    ]


def test_an_interrupted_result_claims_no_proof(tmp_path):
    halted = make_result(interrupted=True, bounds=np.full(5, np.nan))
    lines = str(halted).splitlines()
    assert lines[0] == "tiny, layer 2 (conv2): 5 maps, engine cpu, interrupted"
    assert lines[5].endswith(" 6: interrupted before a proof was tried")
    halted.save(tmp_path / "halted")
    again = load_result(tmp_path / "halted")
    assert str(again) == str(halted)
    document = tmp_path / "halted" / "result.json"
    older = json.loads(document.read_text())
    assert older.pop("interrupted") is True
    document.write_text(json.dumps(older))  # as earlier versions wrote it
    assert load_result(tmp_path / "halted").interrupted is False


def test_long_lists_of_maps_wrap_without_parting_a_map_from_its_bound():
    n = 40
    many = make_result(
        n=1,
        maps=np.arange(n),
        verdicts=("silent",) * n,
        activations=np.zeros(n, np.float32),
        history=np.zeros((n, 3), np.float32),
        bounds=np.where(np.arange(n) % 2, 0.125, np.nan),
    )
    lines = str(many).splitlines()[2:-1]
    assert max(map(len, lines)) <= 100
    listed = " ".join(line[53:] for line in lines)
    assert listed.startswith("0 (no bound), 1 (bound 0.12), 2 (no bound),")
    assert all(line.rstrip(",").endswith(")") for line in lines)


def test_counts_name_only_verdicts_that_occur():
    assert make_result(n=2).counts() == {"found": 1, "unfinished": 1}


def test_repr_is_one_line(result):
    assert repr(result) == "<pyoip.Result: tiny, layer 2 (conv2): 5 maps, engine cpu>"
    assert len(result) == 5


def test_the_sheet_carries_title_settings_and_bounds(result):
    sheet = result.contact_sheet()
    assert sheet.title == "tiny · layer 2 · conv2"
    assert " ".join(sheet.subtitle) == (
        "mean activation, pixels -0.1 to 0.333333, up to 8 steps of 0.3, 2 of 1024 start "
        "images, 3 kicks, seed 18446744073709551615, engine cpu"
    )
    assert [tile.note for tile in sheet.tiles] == ["", "", "", "≤ 0.13", "≤ −1e−300"]


def test_own_start_images_and_the_articles_method_are_named():
    settings = Settings(method="article", starts=1)
    sheet = make_result(fluctuations=None, settings=settings).contact_sheet()
    text = " ".join(sheet.subtitle)
    assert "standardized images" in text
    assert "the article's method, own start images, seed 0" in text


def test_evolution_is_asked_for_by_map_number(result):
    strip = result.evolution(4)
    assert strip.title == "tiny · layer 2 · conv2 · map 4"
    assert strip.note == (
        "activation 2.500, kicked 2 times from candidate 1099511627776, stopped after 5 steps, "
        "silent until step 3 of its first ascent"
    )
    assert result.evolution(3).real == 1.0
    assert result.evolution(4).real is None
    with pytest.raises(InvalidArgument, match=r"^map=0: must be one of this result's maps, 3-7$"):
        result.show_evolution(0)


def test_show_returns_the_drawn_figures(result):
    size = result.contact_sheet().size
    assert result.show().bbox.size.tolist() == list(size)
    wide = result.show(starts=True).bbox.width
    assert wide > size[0]
    assert result.show_evolution(3).bbox.size.tolist() == list(result.evolution(3).size)


def test_a_notebook_gets_the_sheet_as_png(result, saved):
    assert result._repr_png_() == (saved / "contact_sheet.png").read_bytes()


def test_helpers_for_text():
    assert ranges([4]) == "4"
    assert ranges([9, 1, 2, 3]) == "9, 1-3"
    assert times({"total": 3.0, "load": 1.0}) == "3.00 s (load 1.00)"
    history = np.array([[1, 2, np.nan], [1, np.nan, np.nan], [np.nan] * 3, [1, 2, 3]])
    assert steps_of(history).tolist() == [1, 0, 0, 2]
