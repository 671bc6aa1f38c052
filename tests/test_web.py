"""The page as a folder, and its modules beside Python's definition, run by Node."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import STRANGERS, needs_strangers
from test_cli import error_of, run

import pyoip
from pyoip import reference
from pyoip.errors import DataError, InvalidArgument, UnsupportedLayer
from pyoip.fluctuations import Fluctuations
from pyoip.reference import Value
from pyoip.settings import Constraint, Settings
from pyoip.web import publish
from pyoip.web.page import SITE
from pyoip.web.runtime import ADDRESS, SCRIPT, TESTED, WASM

node = shutil.which("node")
needs_node = pytest.mark.skipif(node is None, reason="node is not on this machine")


# --- the folder --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A page of the shipped network."""
    folder = tmp_path_factory.mktemp("page") / "deep" / "page"
    pyoip.export_web("mnist", folder, title="Maps & <more>")
    return folder


@pytest.fixture
def runtime(tmp_path) -> Path:
    """Something that looks like the npm package."""
    package = tmp_path / "onnxruntime-web"
    (package / "dist").mkdir(parents=True)
    for name in (SCRIPT, WASM, "ort.js"):
        (package / "dist" / name).write_text(name)
    (package / "package.json").write_text('{"name": "onnxruntime-web", "version": "9.8.7"}')
    return package


def document(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "page.json").read_text())
    return read


def all_files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_page_json_names_what_is_there(page, mnist) -> None:
    told = document(page)
    assert set(told["files"]) == all_files(page)
    assert told["format"] == "pyoip page"
    assert told["title"] == "Maps & <more>"
    assert told["sha256"] == mnist.sha256
    assert told["input_shape"] == [1, 28, 28]
    assert told["constraint"] == {"kind": "standardize", "low": 0.0, "high": 1.0}
    settings = Settings()
    assert told["settings"] == {
        name: getattr(settings, name)
        for name in (
            *("objective", "steps", "step_size", "bold"),
            *("momentum", "patience", "tolerance", "smooth"),
        )
    }
    assert told["fluctuations"] == {
        "scales": [1.0, 2.0, 4.0, 9.0],
        "weights": [1.0] * 4,
        "smoothing": 0,
    }
    layer = told["layers"][1]
    assert (layer["number"], layer["name"], layer["maps"]) == (2, "conv2", 64)
    assert layer["output_shape"] == [64, 11, 11]
    assert layer["receptive_field"] == [8, 8]
    assert layer["gates"] is True
    known = mnist.real_maxima(2, "standardize", "activation")
    np.testing.assert_array_equal(np.float32(layer["real_maxima"]), known)


def test_title_is_text(page) -> None:
    assert "<title>Maps &amp; &lt;more&gt;</title>" in (page / "index.html").read_text()


def test_graphs_are_valid_and_take_any_batch(page) -> None:
    for layer in document(page)["layers"]:
        step, score = (onnx.load(page / layer[name]) for name in ("step", "score"))
        for model in (step, score):
            onnx.checker.check_model(model, full_check=True)
            image = model.graph.input[0].type.tensor_type.shape.dim
            assert (image[0].dim_param, [d.dim_value for d in image[1:]]) == ("B", [1, 28, 28])
        assert {value.name for value in step.graph.input} == {
            *("image", "velocity", "gradient", "best"),
            *("step_size", "best_merit", "map", "blur"),
        }
        assert [value.name for value in score.graph.output] == ["score"]


def test_nothing_is_loaded_from_elsewhere_but_the_runtime(page) -> None:
    told = document(page)
    assert told["runtime"] == {
        "script": ADDRESS + SCRIPT,
        "wasm": ADDRESS + WASM,
        "version": TESTED,
    }
    for name in ("index.html", "style.css", *(p.name for p in SITE.glob("*.js"))):
        addresses = (page / name).read_text().split("://")[1:]
        known = ("localhost:8000", "www.w3.org/2000/svg")
        assert all(address.startswith(known) for address in addresses), name


def test_modules_import_what_is_there() -> None:
    for path in SITE.glob("*.js"):
        for line in path.read_text().splitlines():
            if line.startswith(("import ", "export {")) and " from " in line:
                assert (SITE / line.split('"')[1]).is_file(), f"{path.name}: {line}"


def test_runtime_is_copied(tmp_path, runtime) -> None:
    for given in (runtime, runtime / "dist"):
        folder = tmp_path / given.name
        pyoip.export_web("mnist", folder / "page", layers=1, runtime=given)
        told = document(folder / "page")
        assert told["runtime"] == {
            "script": f"runtime/{SCRIPT}",
            "wasm": f"runtime/{WASM}",
            "version": "9.8.7",
        }
        assert (folder / "page/runtime" / WASM).read_text() == WASM
        assert set(told["files"]) == all_files(folder / "page")


def test_what_is_no_runtime_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match=rf"holds no {SCRIPT} with .*npm pack onnxruntime-web@"):
        pyoip.export_web("mnist", tmp_path / "page", runtime=tmp_path)
    assert not (tmp_path / "page").exists()


def test_layers_settings_and_the_report(tmp_path) -> None:
    fluctuations = Fluctuations((3, 5), (1, 0.5), smoothing=2)
    page = pyoip.export_web(
        "mnist",
        tmp_path,
        layers=["conv3", 1, 3],
        objective="preactivation",
        constraint=Constraint("clip", -1, 2),
        fluctuations=fluctuations,
    )
    told = document(tmp_path)
    assert page.layers == (1, 3)
    assert page.size == sum((tmp_path / name).stat().st_size for name in told["files"])
    assert "mnist: 2 layers" in str(page)
    assert [layer["number"] for layer in told["layers"]] == [1, 3]
    assert all(layer["real_maxima"] is None for layer in told["layers"])
    assert told["settings"]["objective"] == "preactivation"
    assert told["constraint"] == {"kind": "clip", "low": -1.0, "high": 2.0}
    assert told["fluctuations"] == {"scales": [3, 5], "weights": [1, 0.5], "smoothing": 2}


def _network_with_a_barrier() -> onnx.ModelProto:
    """Conv, CumSum, Conv: the second layer has no gradient."""
    return onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 18]>
        barred (float[n, 1, 6, 6] x) => (float[n, 1, 6, 6] y)
        <float[2, 1, 1, 1] w = {1, 2}, float[1, 2, 1, 1] v = {1, 2}, int64 k = {2}> {
            a = Conv(x, w)
            b = CumSum (a, k)
            y = Conv(b, v)
        }
        """
    )


def test_layers_without_a_gradient_are_left_out(tmp_path) -> None:
    page = pyoip.export_web(_network_with_a_barrier(), tmp_path)
    assert page.layers == (1,)
    assert "CumSum" in page.missing[2]
    assert "left out: layer 2" in str(page)
    assert document(tmp_path)["missing"] == [{"number": 2, "name": "y"}]
    with pytest.raises(UnsupportedLayer, match="CumSum"):
        pyoip.export_web(_network_with_a_barrier(), tmp_path / "other", layers=[2])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"layers": 4}, "layer 4: not a layer of this network"),
        ({"layers": []}, r"layers=\(\): must name one layer or more"),
        ({"title": " "}, "title=' ': must be a text"),
        ({"constraint": "box"}, "constraint='box': must be one of"),
        ({"objective": "loss"}, "objective='loss': must be one of"),
    ],
)
def test_wrong_arguments(tmp_path, wrong, says) -> None:
    with pytest.raises(InvalidArgument, match=says):
        pyoip.export_web("mnist", tmp_path / "page", **wrong)
    assert not (tmp_path / "page").exists()


def test_an_earlier_page_is_replaced(tmp_path, runtime) -> None:
    folder = tmp_path / "page"
    pyoip.export_web("mnist", folder, runtime=runtime)
    pyoip.export_web("mnist", folder, layers=2)
    assert all_files(folder) == set(document(folder)["files"])
    assert "model/layer1.onnx" not in all_files(folder)
    assert not (folder / "runtime").exists()


@pytest.mark.parametrize("name", ["thesis.tex", "model/notes.txt", "page.json"])
def test_a_foreign_folder_is_refused_and_nothing_lost(tmp_path, name) -> None:
    if name.startswith("model/"):
        pyoip.export_web("mnist", tmp_path, layers=1)
    (tmp_path / name).write_text("precious")
    before = {n: (tmp_path / n).read_bytes() for n in all_files(tmp_path)}
    with pytest.raises(DataError, match=f"{name}' *, which is not part of a page"):
        pyoip.export_web("mnist", tmp_path)
    assert {n: (tmp_path / n).read_bytes() for n in all_files(tmp_path)} == before
    pyoip.export_web("mnist", tmp_path, overwrite=True)
    kept = (tmp_path / name).read_text() == "precious"
    assert kept == (name != "page.json")
    assert document(tmp_path)["network"] == "mnist"


def test_a_page_json_that_names_files_elsewhere_is_not_trusted(tmp_path) -> None:
    precious, folder = tmp_path / "precious", tmp_path / "page"
    precious.write_text("")
    folder.mkdir()
    names = ["../precious", "page.json"]
    (folder / "page.json").write_text(json.dumps({"format": "pyoip page", "files": names}))
    pyoip.export_web("mnist", folder, overwrite=True, layers=1)
    assert precious.exists()


@pytest.mark.parametrize("failing", [1, 5, 12])
def test_a_full_disk_changes_nothing(tmp_path, monkeypatch, failing) -> None:
    pyoip.export_web("mnist", tmp_path, layers=1)
    before = {n: (tmp_path / n).read_bytes() for n in all_files(tmp_path)}
    calls = iter(range(1000))
    write = publish._write

    def full(file: Path, content: bytes) -> None:
        if next(calls) == failing:
            raise OSError(28, "No space left on device")
        write(file, content)

    monkeypatch.setattr(publish, "_write", full)
    with pytest.raises(DataError, match="could not be written: No space left on device"):
        pyoip.export_web("mnist", tmp_path)
    assert {n: (tmp_path / n).read_bytes() for n in all_files(tmp_path)} == before


def test_a_file_or_folder_in_the_way(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: is a file, and a page is a folder"):
        pyoip.export_web("mnist", tmp_path / "file")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "model").write_text("")
    with pytest.raises(DataError, match=r"model: is in the way of the page's model/layer1\.onnx"):
        pyoip.export_web("mnist", tmp_path / "site", overwrite=True)
    assert all_files(tmp_path / "site") == {"model"}


def test_the_installed_package_holds_the_page() -> None:
    try:
        files = importlib.metadata.files("pyoip") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pyoip is not installed here, only on the path")
    there = {PurePosixPath(str(f)).name for f in files if "web/site" in str(f)}
    assert there == {p.name for p in SITE.iterdir()}


@needs_strangers
@pytest.mark.parametrize("path", sorted(STRANGERS.glob("*.onnx")), ids=lambda p: p.stem)
def test_pages_of_strangers(path, tmp_path) -> None:
    page = pyoip.export_web(path, tmp_path)
    network = pyoip.load(path)
    assert set(page.layers) | set(page.missing) == {layer.number for layer in network.layers}
    for layer in document(tmp_path)["layers"]:
        for name in ("step", "score"):
            onnx.checker.check_model(onnx.load(tmp_path / layer[name]), full_check=True)


# --- the command -------------------------------------------------------------------------------


def test_command(tmp_path) -> None:
    done = run("export-web", "mnist", "page", "--layers", "1,conv2", "--title", "A title")
    assert done.exit_code == 0
    assert done.stdout.startswith("mnist: 2 layers")
    assert "python -m http.server --directory page" in done.stdout
    assert document(Path("page"))["title"] == "A title"
    again = run("export-web", "mnist", "page", "--quiet", "--scales", "2", "--pixels", "0,255")
    assert (again.exit_code, again.stdout) == (0, "")
    assert document(Path("page"))["fluctuations"]["scales"] == [2]
    told = json.loads(run("export-web", "mnist", "page", "--json").stdout)
    assert told["layers"] == [1, 2, 3]


def test_command_in_a_foreign_folder(tmp_path) -> None:
    Path("site").mkdir()
    Path("site/other.html").write_text("")
    line = error_of("export-web", "mnist", "site")
    assert line.startswith("site: holds 'other.html', which is not part of a page")
    assert run("export-web", "mnist", "site", "--overwrite", "-q").exit_code == 0
    assert Path("site/other.html").exists()


def test_command_refuses() -> None:
    assert "layer 9: not a layer" in error_of("export-web", "mnist", "page", "--layers", "9")
    assert "holds no ort.wasm" in error_of("export-web", "mnist", "page", "--runtime", ".")
    assert not Path("page").exists()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


# --- the modules -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def javascript(tmp_path_factory):
    """Run a program that prints JSON; `given` is its data."""
    folder = tmp_path_factory.mktemp("modules")
    shutil.copytree(SITE, folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')

    def call(program: str, given: Any) -> Any:
        (folder / "program.js").write_text(f"const given = {json.dumps(given)};\n{program}")
        command = [str(node), str(folder / "program.js")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call


# float32 in Python, float64 in the page; the series for logarithm and angle differ by 1e-6.
IMAGE_TOLERANCE = 1e-5

STARTS = {
    "default": {},
    "far numbers": {"seed": 2**64 - 1, "index": 2**52 + 3},
    "halves round to even": {"shape": (1, 20, 28), "scales": (8, 3.5), "weights": (1, 0.3)},
    "colour": {"shape": (3, 32, 24), "scales": (1, 5), "weights": (0.2, 2), "seed": 9},
    "silent scales": {"scales": (1, 2, 4), "weights": (0, 1e-3, 1), "index": 4},
    "blurred": {"smoothing": 3, "index": 11},
    "box": {"constraint": Constraint("clip", -0.5, 2.0), "index": 2},
    "narrow": {"shape": (2, 3, 40), "scales": (1.5, 40), "weights": (1, 1)},
    "another stream": {"stream": 5, "index": 1},
}


@needs_node
@pytest.mark.parametrize("name", STARTS)
def test_start_images_are_those_of_python(javascript, name) -> None:
    case = {
        **{"shape": (1, 28, 28), "scales": (1, 2, 4, 9), "weights": (1, 1, 1, 1)},
        **{"smoothing": 0, "seed": 0, "index": 0, "stream": 0},
        **{"constraint": Constraint()},
        **STARTS[name],
    }
    fluctuations = Fluctuations(case["scales"], case["weights"], case["smoothing"])
    expected = pyoip.start_images(
        shape=case["shape"],
        fluctuations=fluctuations,
        indices=[case["index"]],
        **{name: case[name] for name in ("seed", "stream", "constraint")},
    )[0]
    given = {**case, "seed": str(case["seed"]), "constraint": vars(case["constraint"])}
    program = """
    import { startImage } from "./fluctuations.js";
    const { shape, seed, index, stream, constraint, ...fluctuations } = given;
    const image = startImage(shape, fluctuations, { seed, index, stream, constraint });
    console.log(JSON.stringify(Array.from(image)));
    """
    image = np.array(javascript(program, given)).reshape(expected.shape)
    np.testing.assert_allclose(image, expected, atol=IMAGE_TOLERANCE * np.abs(expected).max())


@needs_node
def test_contrast_and_numbers_are_those_of_python(javascript, rng) -> None:
    from pyoip.canvas import contrast_window, format_values, to_pixels

    images = rng.standard_normal((3, 3, 5, 4)).astype(np.float32)
    window = contrast_window(images)
    values = [[12.3456, 0.5, 0.0, 0.0002], [1e-5], [-3.25, 2], [1e7, 1], [0.0]]
    program = """
    import { contrastWindow, formatValues, toPixels } from "./picture.js";
    const images = given.images.map((image) => Float32Array.from(image));
    const window = contrastWindow(images);
    const pixels = Array.from(toPixels(images[0], [3, 5, 4], window));
    console.log(JSON.stringify({ window, pixels, texts: given.values.map(formatValues) }));
    """
    flat = [image.reshape(-1).tolist() for image in images]
    told = javascript(program, {"images": flat, "values": values})
    assert told["window"] == pytest.approx({"low": window.low, "high": window.high})
    rgba = np.array(told["pixels"]).reshape(5, 4, 4)
    np.testing.assert_array_equal(rgba[..., :3], to_pixels(images[0], window))
    assert (rgba[..., 3] == 255).all()
    assert told["texts"] == [format_values(row) for row in values]


def _script(rng: np.random.Generator, steps: int) -> list[dict[str, float]]:
    """What an ascent might see: rises, plateaus, falls, sleep, perhaps a vanished gradient."""
    seen = []
    value = float(rng.uniform(-0.5, 1))
    for _ in range(steps + 1):
        value += float(rng.choice([0.3, 1e-4, 0.0, 0.0, -0.1]))
        asleep = value <= 0
        numbers = {"activation": max(value, 0.0), "preactivation": value - 0.2}
        merit = value if asleep else numbers["activation"]
        slope = 0.0 if rng.random() < 0.004 else 1.0
        seen.append({**numbers, "merit": merit, "slope": slope})
    return [{k: float(np.float32(v)) for k, v in one.items()} for one in seen]


def _by_reference(monkeypatch, script, settings: Settings) -> dict[str, Any]:
    """What `ascend_one` decides when it sees the script; its step sizes by the image's way."""
    at = iter(script)
    places: list[float] = []

    def evaluate(_stack, images, _targets, _objective, wake) -> Value:
        seen = next(at)
        places.append(float(images[0, 0, 0, 0]))
        return Value(
            activation=np.array([seen["activation"]]),
            preactivation=np.array([seen["preactivation"]]),
            peak=np.array([seen["merit"]]),
            asleep=np.array([seen["activation"] <= 0]),
            gradient=np.full((1, 1, 1, 2), seen["slope"]),
        )

    monkeypatch.setattr(reference, "evaluate", evaluate)
    out = reference.ascend_one(None, np.zeros((1, 1, 2)), 0, settings)  # type: ignore[arg-type]
    return {
        "history": out.history[: out.steps + 1].tolist(),
        "steps": out.steps,
        "woke": out.woke,
        "stop": ("steps", "converged", "zero gradient", "interrupted")[out.stop],
        "activation": out.activation,
        "preactivation": out.preactivation,
        "sizes": np.diff(places).tolist(),
    }


@needs_node
@pytest.mark.parametrize("smooth", [0, 5])
@pytest.mark.parametrize("objective", ["activation", "preactivation"])
def test_ascents_are_decided_as_by_the_reference(
    javascript, monkeypatch, rng, objective, smooth
) -> None:
    box = Constraint("clip", -1e6, 1e6)  # without momentum an image shows its step sizes
    settings = Settings(
        objective=objective,
        constraint=box,
        steps=90,
        step_size=0.5,
        momentum=0.0,
        patience=3,
        tolerance=0.01,
        smooth=smooth,
    )
    scripts = [_script(rng, settings.steps) for _ in range(60)]
    names = ("objective", "steps", "step_size", "patience", "tolerance", "smooth")
    given = {"scripts": scripts, "settings": {name: getattr(settings, name) for name in names}}
    program = """
    import { Climb, Row } from "./ascent.js";
    const at = given.scripts.map(() => 0), sizes = given.scripts.map(() => []);
    const run = async ({ image, velocity, gradient, best, step_size, map, blur }) => {
      const seen = map.map((row) => given.scripts[row][at[row]]);
      map.forEach((row, i) => {
        const { smooth } = given.settings;
        if (blur !== (smooth && at[row] && at[row] % smooth === 0 ? 1 : 0)) throw new Error("blur");
        if (at[row]++) sizes[row].push(step_size[i]);
      });
      const all = (name) => Float32Array.from(seen, (one) => one[name]);
      return {
        next_image: image, next_velocity: velocity, next_gradient: gradient, next_best: best,
        activation: all("activation"), preactivation: all("preactivation"),
        merit: all(given.settings.objective === "activation" ? "merit" : "preactivation"),
        slope: all("slope"),
      };
    };
    const ascent = new Climb(run, given.settings, true), done = [];
    const waiting = given.scripts.map((_, map) => new Row(map, Float32Array.of(map)));
    while (waiting.length || ascent.rows.length) {
      if (waiting.length && ascent.open && ascent.rows.length < 7)
        done.push(...(await ascent.add(waiting.splice(0, 7 - ascent.rows.length))));
      if (ascent.rows.length) done.push(...(await ascent.step()));
    }
    done.sort((a, b) => a.map - b.map);
    console.log(JSON.stringify(done.map((row) => ({
      history: row.history, steps: row.steps, woke: row.woke, stop: row.stop,
      activation: row.activation, preactivation: row.preactivation, sizes: sizes[row.map],
      own: row.bestImage[0] === row.map,
    }))));
    """
    told = javascript(program, given)
    assert len(told) == len(scripts)
    stops = set()
    for one, script in zip(told, scripts, strict=True):
        expected = _by_reference(monkeypatch, script, settings)
        stops.add(expected["stop"])
        assert one.pop("own")
        # A direction is 1 but for the 1e-7 that keeps it finite.
        np.testing.assert_allclose(one.pop("sizes"), expected.pop("sizes"), rtol=1e-5)
        assert one == expected
    assert {"converged", "zero gradient"} <= stops
