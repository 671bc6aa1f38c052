"""The command line: what it prints where, how it ends, and what it says to a newcomer's slips."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import onnx
import pytest
import typer
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

import pyoip.ascent
from pyoip import load_result
from pyoip import progress as progress_module
from pyoip.cli import app
from pyoip.console import as_typed, explain
from pyoip.errors import DataError, Interrupted, InvalidArgument, ModelError
from pyoip.fluctuations import Fluctuations
from pyoip.options import start_from
from pyoip.progress import ProgressLine, one_line
from pyoip.settings import Settings

QUICK = ("--candidates", "16", "--starts", "1", "--steps", "4")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """Two conv layers on 1 x 9 x 9 images; map 0 of the first one is dead."""
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    bias = numpy_helper.from_array(np.array([-99, 0, 0, 0], np.float32), "conv1.bias")
    nodes = [
        helper.make_node("Conv", ["image", "conv1.weight", "conv1.bias"], ["c1"], name="first"),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "conv2.weight"], ["c2"], name="second"),
        helper.make_node("Relu", ["c2"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 9, 9])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3, 5, 5])],
        [weights("conv1.weight", 4, 1, 3, 3), bias, weights("conv2.weight", 3, 4, 3, 3)],
    )
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return str(path)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*args: str):
    return CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)


def error_of(*args: str) -> str:
    """The one line on stderr of a command that must fail; nothing else anywhere."""
    done = run(*args)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("pyoip: error: ")
    assert done.stderr.endswith("\n")
    line = done.stderr.removeprefix("pyoip: error: ")[:-1]
    assert "\n" not in line
    return line


def process(*args: str, **extra):
    return subprocess.run(
        [sys.executable, "-m", "pyoip", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **extra,
    )


# --- layers, info, version, help -----------------------------------------------------------


def test_layers_prints_the_networks_table(model):
    done = run("layers", model)
    assert done.exit_code == 0
    assert done.stdout == f"{pyoip.load(model)}\n"
    assert done.stderr == ""


def test_layers_as_json(model):
    document = json.loads(run("layers", model, "--json").stdout)
    assert (document["network"], document["input_shape"]) == ("tiny", [1, 9, 9])
    first, second = document["layers"]
    assert (first["number"], first["name"], first["maps"]) == (1, "conv1", 4)
    assert second["receptive_field"] == [5, 5]
    assert "first" in first["aliases"]


def test_info_says_which_engines_work_and_why_not(monkeypatch):
    monkeypatch.setattr("pyoip.engines.available", lambda: {"cpu": None, "cuda": "no device"})
    monkeypatch.setattr("pyoip.engines.describe", lambda: {"threads": "2"})
    lines = run("info").stdout.splitlines()
    assert "  cpu             yes" in lines
    assert "  cuda            no: no device" in lines
    assert "  threads         2" in lines
    assert f"  numpy           {np.__version__}" in lines
    document = json.loads(run("info", "--json").stdout)
    assert document["engines"] == {"cpu": None, "cuda": "no device"}
    assert document["build"] == {"threads": "2"}


def test_info_works_for_real():
    assert json.loads(run("info", "--json").stdout)["engines"]["reference"] is None


def test_version_is_the_packages():
    assert run("--version").stdout == f"pyoip {pyoip.__version__}\n"


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands_and_a_first_line_to_type(args):
    done = run(*args)
    assert done.exit_code == 0
    for word in ("layers", "ascend", "train", "info", "pyoip ascend mnist --layer 2 --out oips"):
        assert word in done.stdout


def test_ascend_help_has_examples_and_the_defaults_of_the_settings():
    text = " ".join(run("ascend", "--help").stdout.replace("│", " ").split())
    assert "pyoip ascend mnist -l conv3 -m 0-7,9 --snapshots 1,2,4,8,16,32" in text
    assert f"[default: {Settings.candidates}]" in text
    scales = ",".join(f"{s:g}" for s in Fluctuations.scales)
    assert f"--scales {scales}" in text


def test_help_and_errors_need_no_heavy_import():
    code = (
        "import sys\n"
        "from pyoip.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'onnx', 'matplotlib', 'torch', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    for args in (["--help"], ["ascend", "--help"], ["asend"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


# --- ascend --------------------------------------------------------------------------------


def test_ascend_saves_and_says_where(model):
    done = run("ascend", model, "-l", "conv1", "-m", "0-1,3", "--out", "oips", *QUICK)
    assert done.exit_code == 0, done.stderr
    result = load_result("oips")
    assert result.maps.tolist() == [0, 1, 3]
    assert done.stdout.splitlines() == [
        *str(result).splitlines(),
        f"pictures: {os.path.join('oips', 'contact_sheet.png')}, and one PNG per map beside it",
    ]
    assert "tiny, layer 1 (conv1): 3 maps, engine cpu" in done.stdout
    assert done.stderr == ""


def test_without_out_the_folder_is_named_after_network_and_layer(model):
    run("ascend", model, "--layer", "2", *QUICK)
    assert load_result("oips_tiny_layer2").layer == 2


def test_ascend_as_json_prints_one_object_and_nothing_else(model):
    done = run("ascend", model, "--json", "--out", "oips", *QUICK)
    document = json.loads(done.stdout)
    assert document["folder"] == "oips"
    assert [entry["map"] for entry in document["maps"]] == [0, 1, 2, 3]
    assert document["maps"][0]["verdict"] == "dead"
    assert done.stderr == ""


def test_quiet_is_quiet(model):
    done = run("ascend", model, "--quiet", "--out", "oips", *QUICK)
    assert (done.stdout, done.stderr, done.exit_code) == ("", "", 0)
    assert len(load_result("oips")) == 4


def test_every_option_reaches_the_ascent(model, monkeypatch):
    seen = {}

    def spy(*args, **asked):
        seen.update(asked, args=args)
        raise DataError("seen")

    monkeypatch.setattr(pyoip.ascent, "ascend", spy)
    np.save("own.npy", np.ones((9, 9)))
    options = {
        "--candidates": 5, "--starts": 2, "--steps": 7, "--step-size": 0.25, "--smooth": 3,
        "--momentum": 0.5, "--patience": 4, "--tolerance": 0.125, "--seed": 2**64 - 1,
        "--objective": "preactivation", "--method": "article", "--engine": "reference",
        "--threads": 1, "--precision": "fast",
    }  # fmt: skip
    text = [str(word) for pair in options.items() for word in pair]
    text += ["--constraint", "clip", "--low", "-1", "--high", "2.5", "--snapshots", "1,2,7"]
    text += ["--scales", "1,3", "--weights", "0.5,2", "--smoothing", "1"]
    assert error_of("ascend", model, "-l", "conv2:1-2", *text) == "seen"
    for option, value in options.items():
        assert seen[option[2:].replace("-", "_")] == value
    assert seen["args"][1:] == (2, [1, 2])
    box = seen["constraint"]
    assert (box.kind, box.low, box.high) == ("clip", -1.0, 2.5)
    assert seen["snapshots"] == (1, 2, 7)
    assert seen["fluctuations"] == Fluctuations((1.0, 3.0), (0.5, 2.0), 1)
    assert error_of("ascend", model, "--start", "own.npy") == "seen"
    assert seen["start"].tolist() == np.ones((1, 9, 9)).tolist()
    assert error_of("ascend", model, "--start", "own.npy", "--scales", "1") == (
        "--start: stands in for drawn images; leave out --scales, --weights and --smoothing"
    )


def test_defaults_are_those_of_the_settings(model, monkeypatch):
    seen = {}

    def spy(*_, **asked):
        seen.update(asked)
        raise DataError("seen")

    monkeypatch.setattr(pyoip.ascent, "ascend", spy)
    error_of("ascend", model)
    settings = Settings()
    for name in ("candidates", "starts", "steps", "step_size", "momentum", "seed", "constraint"):
        assert seen[name] == getattr(settings, name), name
    assert (seen["fluctuations"], seen["start"], seen["snapshots"]) == (None, None, ())


def test_weights_default_to_one_per_scale(model, monkeypatch):
    from pyoip.options import fluctuations_from

    assert fluctuations_from("1,2", None, 0) == Fluctuations((1.0, 2.0), (1.0, 1.0), 0)
    assert fluctuations_from(None, None, 3) == Fluctuations(smoothing=3)
    assert fluctuations_from(None, None, 0) is None


def test_a_saved_result_is_continued(model):
    run("ascend", model, "--out", "oips", *QUICK)
    before = load_result("oips")
    done = run("ascend", model, "--start", "oips", "--out", "oips", "--steps", "3")
    assert done.exit_code == 0, done.stderr
    after = load_result("oips")
    assert np.allclose(after.starts, before.images, atol=1e-6)  # constrained once more
    assert (after.activations >= before.activations * (1 - 1e-6)).all()


# --- slips ---------------------------------------------------------------------------------


def test_a_misspelt_command():
    assert error_of("asend", "mnist") == "no command 'asend': did you mean 'pyoip ascend'?"


def test_an_unknown_command():
    commands = app.registered_commands
    own = [c.name or c.callback.__name__.replace("_", "-") for c in commands]
    names = ", ".join([*own, *(group.name for group in app.registered_groups)])
    assert error_of("zzz") == f"no command 'zzz': there are {names}"
    assert names.startswith("layers, ascend, ")


def test_a_model_without_a_command():
    assert error_of("net.onnx", "-l", "2") == (
        "no command 'net.onnx': did you mean 'pyoip ascend net.onnx -l 2'?"
    )


def test_a_missing_model():
    assert error_of("ascend", "--layer", "2") == (
        "which model? As in 'pyoip ascend mnist' ('pyoip ascend --help' lists the options)"
    )


def test_an_option_without_its_dashes():
    assert error_of("ascend", "mnist", "layer", "2") == (
        "'layer 2' needs two dashes: did you mean --layer 2? "
        "('pyoip ascend --help' lists the options)"
    )


def test_a_word_too_many():
    assert error_of("layers", "mnist", "b") == (
        "'b' is one word too many ('pyoip layers --help' lists the options)"
    )


def test_a_misspelt_option():
    assert error_of("ascend", "mnist", "--candidate", "3") == (
        "no option --candidate: did you mean --candidates? "
        "('pyoip ascend --help' lists the options)"
    )


def test_words_where_a_number_belongs():
    line = error_of("ascend", "mnist", "--steps", "many")
    assert line.startswith("invalid value for '--steps': ")
    assert line.endswith(" ('pyoip ascend --help' lists the options)")
    assert error_of("ascend", "mnist", "--steps") == (
        "option '--steps' requires an argument ('pyoip ascend --help' lists the options)"
    )


def test_places_where_no_file_can_be(model, tmp_path, monkeypatch):
    monkeypatch.setattr("pyoip.train.load_dataset", lambda *_: pytest.fail("fetched data"))
    for command in (("train",), ("export-step", model), ("survey", model)):
        assert error_of(*command, "--out", str(tmp_path)) == (
            f"{tmp_path}: is a folder; must be a file"
        )
        assert error_of(*command, "--out", "no/x") == "no/x: there is no folder no; make it first"
    assert error_of("train", "--resume") == (
        "mnist.onnx.checkpoint: no such checkpoint: start without --resume"
    )


def test_an_unknown_layer_or_map(model):
    assert error_of("ascend", model, "--layer", "conv9") == (
        "--layer conv9: not a layer of this network; valid are 1 conv1, 2 conv2"
    )
    assert error_of("ascend", model, "--maps", "2-4") == "map 4: conv1 has the maps 0..3"


@pytest.mark.parametrize("command", ["layers", "ascend"])
def test_models_that_are_none(command, tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    for name in ("missing.onnx", str(tmp_path), "text.onnx"):
        assert error_of(command, name).startswith(f"{name}: ")
    assert [p.name for p in tmp_path.iterdir()] == ["text.onnx"]


def test_files_of_another_kind_are_called_by_their_name(model, tmp_path):
    survey = ("--starts", "3", "--ascents", "1", "--article", "0", "--steps", "1", "--scales", "1")
    run("survey", model, "-m", "1", "--out", "s.db", *survey)
    run("survey", "report", "s.db", "--out", "report")
    run("ascend", model, "-m", "1", "--out", "oips", *QUICK)
    np.save("a.npy", np.ones((9, 9)))
    (tmp_path / "text").write_text("hello")
    resumed = "saved result; 'pyoip ascend MODEL --start oips' goes on from it"
    is_survey = "a survey's file; 'pyoip survey status s.db' tells of it"
    told = {
        "s.db": is_survey,
        "oips": f"a {resumed}",
        "oips/result.json": f"part of a {resumed}",
        "oips/oips.npz": f"part of a {resumed}",
        "oips/map_001.png": (
            "a picture; 'pyoip ascend MODEL --start oips/map_001.png' begins with it"
        ),
        "a.npy": "an array; 'pyoip ascend MODEL --start a.npy' begins with the images in it",
        "report": f"the report of a survey, to be read in {os.path.join('report', 'report.txt')}",
    }
    run("export-step", model, "--out", "step.onnx")
    told["step.onnx"] = "an exported ascent step, for runtimes; give the model it was made of"
    run("export-web", model, "page")
    told["page"] = "a page; 'python -m http.server --directory page' shows it"
    for name, what in told.items():
        for command in ("layers", "ascend", "check", "export-step"):
            assert error_of(command, name) == f"{name}: is no model but {what}"
        if name != "s.db":
            assert error_of("survey", "status", name) == f"{name}: is no survey but {what}"
    for command in ("status", "report", "export"):
        words = ["t.csv"] if command == "export" else []
        assert error_of("survey", command, model, *words) == (
            f"{model}: is no survey but a model; 'pyoip layers {model}' lists its layers"
        )
    assert error_of("ascend", model, "--start", "s.db") == (
        f"s.db: is no start image but {is_survey}"
    )
    assert error_of("s.db") == f"no command 's.db': it is {is_survey}"
    assert error_of("layers", "text").startswith("text: not an ONNX model")


def test_a_database_of_another_program_is_no_survey(tmp_path):
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("CREATE TABLE t (x)")
    assert error_of("layers", "other.db") == (
        "other.db: is no model but a database, and no survey that this pyoip reads"
    )
    assert error_of("survey", "status", "other.db") == "other.db: a database, but no survey"


def test_values_out_of_range_name_the_option(model):
    assert error_of("ascend", model, "--steps", "0").startswith("--steps 0: must be ")
    assert error_of("ascend", model, "--constraint", "clp").startswith("--constraint clp: must be ")
    assert error_of("ascend", model, "--engine", "abacus").startswith("--engine abacus: ")
    assert error_of("check", model, "--engines", "cpu,abacus").startswith("--engines abacus: ")
    assert error_of("check", model, "--layers", "7").startswith("layer 7: not a layer ")
    assert error_of("ascend", model, "-l", "2:1", "-m", "2") == (
        "--layer 2:1 names maps; --maps 2 must be left out"
    )
    assert error_of("ascend", model, "--scales", "1,.5") == (
        "--scales 0.5: must be a number in [1, 1e+06]"
    )
    assert error_of("ascend", model, "--constraint", "clip", "--low", "2") == (
        "--low 2: must be below --high 1"
    )
    assert error_of("train", "--batch-size", "0").startswith("--batch-size 0: must be ")
    assert error_of("ascend", model, "--low", "0.1") == (
        "--low: is the box of '--constraint clip', but the constraint is 'standardize'"
    )
    assert error_of("ascend", model, "--snapshots", "1;2") == (
        "--snapshots '1;2': must be whole numbers with commas between, as in 1,2,4"
    )


def test_the_folder_is_checked_before_the_work(model, monkeypatch, tmp_path):
    monkeypatch.setattr(pyoip.ascent, "ascend", lambda *_, **__: pytest.fail("began to work"))
    (tmp_path / "file").write_text("x")
    assert error_of("ascend", model, "-o", "file") == (
        "file: is a file, and a result is saved as a folder: choose another"
    )
    assert error_of("ascend", model, "-o", "file/oips") == (
        "file/oips: cannot be written: Not a directory"
    )
    assert error_of("ascend", model, "-o", str(tmp_path)) == (
        f"{tmp_path}: holds 'file', which is not part of a saved result: "
        "choose an empty or a new folder"
    )


def test_another_layers_result_needs_overwrite(model):
    run("ascend", model, "--out", "oips", *QUICK)
    assert error_of("ascend", model, "-l", "2", "--out", "oips", *QUICK) == (
        "oips: holds the result of tiny, layer 1: choose another folder, or allow it to be "
        "replaced (--overwrite)"
    )
    assert run("ascend", model, "-l", "2", "--out", "oips", "--overwrite", *QUICK).exit_code == 0
    assert load_result("oips").layer == 2


def test_train_passes_its_options_on(monkeypatch):
    seen = {}

    def spy(*args, **asked):
        seen.update(asked, args=args)
        raise DataError("seen")

    monkeypatch.setattr("pyoip.train.train", spy)
    assert (
        error_of("train", "--dataset", "fashion-mnist", "--epochs", "3", "--resume", "-q") == "seen"
    )
    assert seen["args"] == ("fashion-mnist", None)
    assert (seen["epochs"], seen["resume"], seen["progress"]) == (3, True, False)


def test_trains_defaults_are_those_of_the_function(monkeypatch):
    import inspect

    from pyoip.train import train

    defaults = {p.name: p.default for p in inspect.signature(train).parameters.values()}
    seen = {}

    def spy(*args, **asked):
        seen.update(asked, dataset=args[0], out=args[1])
        raise DataError("seen")

    monkeypatch.setattr("pyoip.train.train", spy)
    error_of("train")
    assert seen == defaults


# --- own start images ----------------------------------------------------------------------


def test_start_images_from_arrays(tmp_path):
    own = np.arange(2 * 12.0).reshape(2, 1, 3, 4)
    np.save("four.npy", own)
    np.save("two.npy", own[0, 0])
    np.savez("named.npz", images=own, other=own[:1])
    np.savez("only.npz", anything=own[1])
    shape = (1, 3, 4)
    assert np.array_equal(start_from(tmp_path / "four.npy", shape), own)
    assert np.array_equal(start_from(tmp_path / "two.npy", shape), own[0])
    assert np.array_equal(start_from(tmp_path / "named.npz", shape), own)
    assert np.array_equal(start_from(tmp_path / "only.npz", shape), own[1])
    assert start_from(tmp_path / "four.npy", shape).dtype == np.float32


@pytest.mark.parametrize("channels", [1, 3])
def test_start_images_from_pictures(tmp_path, channels):
    colours = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)
    Image.fromarray(colours).save("picture.png")
    image = start_from(tmp_path / "picture.png", (channels, 1, 2))
    if channels == 3:
        assert image.tolist() == [[[1, 0]], [[0, 0]], [[0, 1]]]
    else:  # brightness as the eye sees it
        assert image[0, 0].tolist() == pytest.approx([76 / 255, 29 / 255])


def test_pictures_are_read_as_people_see_them(tmp_path):
    """Clear pixels are white, half clear ones half white; a camera's turn is followed."""
    clear = np.array([[[0, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 127]]], np.uint8)
    Image.fromarray(clear, "RGBA").save(tmp_path / "clear.png")
    read = start_from(tmp_path / "clear.png", (1, 1, 3))
    np.testing.assert_allclose(read[0, 0], [0, 1, 0.5], atol=0.01)
    turned = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera was held a quarter turn to the left
    turned.save(tmp_path / "turned.png", exif=exif)
    upright = start_from(tmp_path / "turned.png", (1, 3, 2))
    expected = np.rot90(np.arange(6).reshape(2, 3) * 40, -1) / 255
    np.testing.assert_allclose(upright[0], expected, atol=1e-6)


def test_start_images_that_are_none(model, tmp_path):
    np.save("small.npy", np.ones((1, 8, 9)))
    np.save("words.npy", np.array(["a"]))
    np.savez("many.npz", a=np.ones(1), b=np.ones(1))
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty").mkdir()

    def says(name: str) -> str:
        return error_of("ascend", model, "--start", name)

    assert says("small.npy") == (
        "small.npy: holds 1 x 8 x 9 numbers; the network takes images of 1 x 9 x 9"
    )
    assert says("none.npy") == "none.npy: no such file or folder"
    assert says("empty") == "empty: not a saved result: it has no result.json"
    for name in ("words.npy", "many.npz", "text.png"):
        assert says(name).startswith(f"{name}: not a readable .npy, .npz or picture file (")


# --- interruption and other endings --------------------------------------------------------


def test_interruption_keeps_the_finished_maps(model, monkeypatch):
    kept = pyoip.ascend(model, 1, [0, 1], candidates=4, starts=1, steps=2)

    def stop(*_, **__):
        raise Interrupted("stopped", kept)

    monkeypatch.setattr(pyoip.ascent, "ascend", stop)
    done = run("ascend", model, "--out", "oips")
    assert done.exit_code == 130
    assert done.stderr == "pyoip: interrupted: the 2 finished maps are in oips\n"
    assert load_result("oips").maps.tolist() == [0, 1]


def test_interruption_before_any_map_leaves_no_folder(model, monkeypatch, tmp_path):
    def stop(*_, **__):
        raise Interrupted("stopped", [])

    monkeypatch.setattr(pyoip.ascent, "ascend", stop)
    done = run("ascend", model, "--out", "oips")
    assert (done.exit_code, done.stderr) == (130, "pyoip: interrupted: none finished\n")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_loading(model, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyoip.network.load", stop)
    done = run("layers", model)
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "pyoip: interrupted\n")


def test_ctrl_c_for_real(model):
    code = "from pyoip import progress, cli; progress.SECONDS_BETWEEN_LINES = 0; cli.main()"
    asked = ["ascend", model, "-o", "oips", "--method", "article", "--steps", "1000000"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *asked],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stderr is not None
            first = child.stderr.readline()  # progress: the core is at work
            assert first.startswith("pyoip: tiny, layer 1: "), first
            began = time.monotonic()
            child.send_signal(signal.SIGINT)
            last = child.communicate(timeout=60)[1].splitlines()[-1]
            assert time.monotonic() - began < 60  # soon, on a machine however busy
        finally:
            child.kill()
    assert child.returncode == 130
    assert last.startswith("pyoip: interrupted: ")


def test_a_reader_that_left_is_no_error(model):
    code = "import sys; from pyoip import cli; sys.stdin.read(); cli.main()"
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", code, "layers", model],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    os.close(reading)
    assert child.communicate("", timeout=60)[1] == ""
    assert child.returncode == 1


def test_python_m_pyoip_ends_with_the_exit_codes(model):
    done = process("layers", model)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tiny: input 1 x 9 x 9\n")
    done = process("layers", "missing.onnx")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("pyoip: error: missing.onnx: ")
    assert done.stderr.count("\n") == 1


def test_a_terminal_without_utf8_still_gets_its_text(model):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = process("--help", env=environment)
    assert done.returncode == 0, done.stderr
    assert "ascend" in done.stdout


TYPED = {"input_shape": "--input-shape", "overwrite": "--overwrite", "steps": "--steps"}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InvalidArgument("steps=2.50: must be whole"), "--steps 2.5: must be whole"),
        (InvalidArgument("steps (1, 2): must rise"), "--steps 1,2: must rise"),
        (InvalidArgument("steps: hold NaN"), "--steps: hold NaN"),
        (InvalidArgument("steps='a b': no number"), "--steps 'a b': no number"),
        (InvalidArgument("many steps=1, my_steps=2"), "many --steps 1, my_steps=2"),
        (InvalidArgument("step=1: one of them"), "--steps 1: one of them"),
        (InvalidArgument("step 1: one of them"), None),
        (InvalidArgument("starts=1: no option of this command"), None),
        (
            ModelError("x.onnx: open; pass input_shape=(C, H)"),
            "x.onnx: open; pass --input-shape C,H",
        ),
        (DataError("d: replace it (overwrite=True)"), "d: replace it (--overwrite)"),
        (DataError("steps=1.npy: no such file"), None),
        (DataError("steps: a folder"), None),
        (DataError("a/steps=1.npy: no such file"), None),
    ],
)
def test_errors_name_options_as_they_are_typed(error, line):
    assert as_typed(error, TYPED) == (line or str(error))
    assert as_typed(error, {}) == str(error)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "not enough memory: ask for fewer maps, starts or candidates at a time"),
        (OSError(28, "No space left on device", "x.onnx"), "x.onnx: No space left on device"),
        (OSError("odd"), "odd"),
        (DataError("as it is"), "as it is"),
        (typer.BadParameter("no"), "invalid value: no ('pyoip --help' lists the options)"),
    ],
)
def test_errors_are_explained(error, line):
    assert explain(error) == line


def test_a_line_stays_a_line():
    assert one_line("a\nb\t\x1b[31mc\x00") == "a b ?[31mc?"


# --- progress ------------------------------------------------------------------------------


def test_elsewhere_than_on_a_terminal_progress_is_a_line_every_ten_seconds(capsys):
    now = iter([0.0, 9.9, 10.0, 15.0, 20.1, 21.0])
    with ProgressLine("net, layer 2", clock=lambda: next(now)) as progress:
        for done in (1, 2, 3, 4, 5):
            progress(done, 8, 8 - done)
    assert capsys.readouterr().err.splitlines() == [
        "pyoip: net, layer 2: 25%, 6 ascents to come, about 30 s left",
        "pyoip: net, layer 2: 50%, 4 ascents to come, about 20 s left",
    ]


def test_no_time_left_is_guessed_before_anything_is_done(capsys):
    now = iter([0.0, 11.0])
    with ProgressLine("net", clock=lambda: next(now)) as progress:
        progress(0, 8, 8)
    assert capsys.readouterr().err == "pyoip: net: 0%, 8 ascents to come\n"


def test_silent_progress_is_silent(capsys):
    now = iter([0.0, 100.0])
    with ProgressLine("net", silent=True, clock=lambda: next(now)) as progress:
        progress(1, 2, 1)
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("silent", [False, True])
def test_on_a_terminal_progress_is_a_bar_on_stderr(monkeypatch, silent, capsys):
    monkeypatch.setattr(progress_module.sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with ProgressLine("net, layer 2", silent=silent) as progress:
        progress(2, 8, 6)
    text = terminal.getvalue()
    assert ("net, layer 2" in text and "25%" in text and "6 ascents to come" in text) is not silent
    assert capsys.readouterr().out == ""
