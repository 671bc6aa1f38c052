"""What can be typed after ``pyoip``: every option once, and how its text is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from .errors import DataError, InvalidArgument, ModelError
from .kinds import kind_of
from .settings import Constraint

if TYPE_CHECKING:
    from .fluctuations import Fluctuations
    from .network import Network
    from .result import Result
    from .surveys import Survey

MODEL = "What the model takes"
ASCENT = "The ascent"
STARTS = "Start images"
OUTPUT = "Output"


def _in(panel: str) -> Callable[..., Any]:
    def option(text: str, *names: str, **extra: Any) -> Any:
        return typer.Option(*names, help=text, rich_help_panel=panel, **extra)

    return option


_any, _out, _starts, _ascent = _in("Options"), _in(OUTPUT), _in(STARTS), _in(ASCENT)
_model = _in(MODEL)

Model = Annotated[
    str, typer.Argument(help="'mnist' (ships with pyoip) or an ONNX file.", metavar="MODEL")
]
InputShape = Annotated[
    str | None,
    _model("Size of an image, where the model leaves it open; C,L of a signal.", metavar="C,H,W"),
]
Pixels = Annotated[
    str | None, _model("Black and white in the model's numbers; without it 0,1.", metavar="0,255")
]
Mean = Annotated[
    str | None, _model("Subtracted from pixels: one number, or one per channel.", metavar="0.5")
]
Std = Annotated[
    str | None, _model("Divides them then: one number, or one per channel.", metavar="0.5")
]
LayerSpec = Annotated[str, _any("Number from 1, or name; with maps: conv2:0-7.", "--layer", "-l")]
Maps = Annotated[str | None, _any("Maps from 0, as 0-7,9; without it all.", "--maps", "-m")]
Seed = Annotated[int, _any("Seed of everything random.")]
Threads = Annotated[int | None, _any("Threads; without it one per core.")]
Engine = Annotated[str, _any("Which engine computes; 'pyoip info' lists them.")]

Out = Annotated[
    Path | None, _out("Folder; without it oips_NETWORK_layerN.", "--out", "-o", metavar="FOLDER")
]
Overwrite = Annotated[
    bool, _out("Replace another network's or layer's result in that folder.", "--overwrite")
]
ShowStarts = Annotated[bool, _out("Put start images on the contact sheet.", "--show-starts")]
Snapshots = Annotated[
    str | None, _out("Keep the images of these steps and draw strips of them.", metavar="1,2,4,…")
]
Quiet = Annotated[bool, _out("No progress, no summary; errors still show.", "--quiet", "-q")]
Json = Annotated[bool, _out("Print one JSON object on stdout, nothing else.", "--json")]

Candidates = Annotated[int, _starts("Start images tried for all maps.")]
Trials = Annotated[int, _starts("Candidates per map that climb for a few steps.")]
Starts = Annotated[int, _starts("Ascents to the end per map: the best trials.")]
Kicks = Annotated[int, _starts("Rounds in which a map's best image is kicked and climbs again.")]
Scales = Annotated[str | None, _starts("Length scales in pixels.", metavar="1,2,4,9")]
Weights = Annotated[str | None, _starts("Weight of each scale.", metavar="1,1,1,1")]
Smoothing = Annotated[int, _starts("Blur passes over each start image.")]
Start = Annotated[
    Path | None,
    _starts("Own start image(s): .npy, .npz, .png, or a saved result to continue."),
]

Objective = Annotated[str, _ascent("What is raised.", metavar="activation|preactivation")]
ConstraintKind = Annotated[
    str, _ascent("What keeps images comparable.", metavar="standardize|clip")
]
Low = Annotated[float | None, _ascent("Least pixel of 'clip'; without it 0.")]
High = Annotated[float | None, _ascent("Largest pixel of 'clip'; without it 1.")]
Steps = Annotated[int, _ascent("Most steps of an ascent.")]
StepSize = Annotated[float, _ascent("Length of a step, in standard deviations of the image.")]
Bold = Annotated[float, _ascent("Half of the ascents begin with steps so many times larger.")]
Momentum = Annotated[float, _ascent("Share of the last step that is kept.")]
Patience = Annotated[
    int, _ascent("Steps in a window; after one without gain the step size halves.")
]
Tolerance = Annotated[float, _ascent("Relative gain below which an image has converged.")]
Smooth = Annotated[int, _ascent("Blur the image every so many steps; 0: never.")]
Method = Annotated[str, _ascent("How it climbs.", metavar="tangent|article")]
Precision = Annotated[
    str, _ascent("fast: rounding errors four to ten times larger.", metavar="exact|fast")
]

StepFile = Annotated[
    Path | None, _out("File; without it NETWORK_layerN_step.onnx.", "--out", "-o", metavar="FILE")
]
Update = Annotated[bool, _out("Put the next image out as well.", "--update")]
Layout = Annotated[
    str | None, _out("Order of the axes of images; without it the model's.", metavar="NCHW|NHWC")
]

Layers = Annotated[
    str | None,
    _any("Numbers or names with commas between; without it all.", "--layers", "-l", metavar="1,2"),
]
Engines = Annotated[
    str | None, _any("Engines with commas between; without it all that work.", metavar="cpu,onnx")
]
ImageCount = Annotated[int, _any("Start images compared per layer.")]
ShortSteps = Annotated[int, _any("Steps of the ascents.")]

SurveyFile = Annotated[Path, typer.Argument(help="What 'pyoip survey' wrote.", metavar="FILE")]
SurveyOut = Annotated[
    Path | None,
    _out("File; without it survey_NETWORK_layerN.db.", "--out", "-o", metavar="FILE"),
]
Levels = Annotated[
    str | None, _starts("Weights that a scale may have in a mix; without it 0,1.", metavar="0,1")
]
Smoothings = Annotated[str, _starts("Blur passes; each makes a set of mixes.", metavar="0,1,2,4")]
Sobol = Annotated[int | None, _starts("So many mixes from a Sobol sequence instead of the grid.")]
StartsPerMix = Annotated[int, _starts("Start images scored per mix.", "--starts")]
AscentsPerPair = Annotated[
    int, _ascent("Ascents per map and mix, from the best of them.", "--ascents")
]
Article = Annotated[int, _starts("Start images climbed the article's way, for comparison.")]
Scheduler = Annotated[
    str | None,
    _any("A Dask cluster that computes: its address, or local:N.", metavar="ADDRESS"),
]
MapNumber = Annotated[int, typer.Argument(help="Number of the map, from 0.", metavar="MAP")]
ReportFolder = Annotated[
    Path | None, _out("Folder; without it FILE_report.", "--out", "-o", metavar="FOLDER")
]
Picture = Annotated[Path | None, _out("Draw its OIPs as PNG.", "--out", "-o", metavar="FILE")]
ExportFile = Annotated[
    Path | None, typer.Argument(help="The same as --out.", metavar="[TABLE]", show_default=False)
]
ExportOut = Annotated[
    Path | None,
    _out(
        "File ending in .csv, .parquet or .npz; without it FILE.csv.",
        *("--out", "-o"),
        metavar="TABLE",
    ),
]

Dataset = Annotated[str, _any("What to learn.", metavar="mnist|fashion-mnist")]
TrainOut = Annotated[
    Path | None, _out("ONNX file; without it DATASET.onnx.", "--out", "-o", metavar="FILE")
]
Epochs = Annotated[int, _any("Passes over the training images.")]
BatchSize = Annotated[int, _any("Images per step.")]
LearningRate = Annotated[float, _any("Peak of the learning rate.")]
WeightDecay = Annotated[float, _any("Strength of the L2 regulariser.")]
Shift = Annotated[int, _any("Move training images by up to so many pixels, 0 to 8.")]
Resume = Annotated[bool, _any("Continue after the last finished epoch.", "--resume")]
Checkpoint = Annotated[Path | None, _out("Checkpoint; without it FILE.checkpoint.")]

PageFolder = Annotated[Path, typer.Argument(help="Folder of the page.", metavar="DIR")]
PageTitle = Annotated[str | None, _any("Headline; without it the network's name.")]
Runtime = Annotated[
    Path | None,
    _any("Copy onnxruntime-web from this folder of its npm package.", metavar="PATH"),
]
PageOverwrite = Annotated[
    bool,
    _out("Write the page among other files; they stay, but for those of its names.", "--overwrite"),
]


def file_name(network: str) -> str:
    """Return a network's name as part of a file's."""
    return re.sub(r"[^\w.-]+", "_", network)


def numbers(option: str, text: str | None, kind: type) -> tuple[Any, ...]:
    """Return numbers written with commas between; none for None."""
    try:
        return () if text is None else tuple(kind(part) for part in text.split(","))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise InvalidArgument(
            f"{option} {text!r}: must be {what} with commas between, as in 1,2,4"
        ) from None


def network_from(
    model: str, input_shape: str | None, pixels: str | None, mean: str | None, std: str | None
) -> Network:
    """Load the model with what it takes; what is none is called by its name."""
    from .network import load

    shape: Any = numbers("--input-shape", input_shape, int) or None
    box: Any = numbers("--pixels", pixels, float) or None
    scaling = {"mean": numbers("--mean", mean, float), "std": numbers("--std", std, float)}
    with _told_apart(model, "model"):
        return load(
            model,
            input_shape=shape,
            pixels=box,
            mean=scaling["mean"] or None,
            std=scaling["std"] or None,
        )


@contextmanager
def _told_apart(path: str | Path, wanted: str, called: str | None = None) -> Iterator[None]:
    """Where reading fails and the file is of another kind, say of which, and what takes it."""
    try:
        yield
    except (ModelError, DataError) as error:
        found = kind_of(path)
        if found is None or found.name == wanted:
            raise
        raise DataError(f"{path}: is no {called or wanted} but {found.told}") from error


def survey_from(path: Path) -> Survey:
    """Load a survey; what is none is called by its name."""
    from .surveys import load_survey

    with _told_apart(path, "survey"):
        return load_survey(path)


def layers_from(text: str | None) -> list[int | str] | None:
    """Return layers written with commas between: numbers where they are; None for None."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    return [int(part) if part.isdecimal() else part for part in parts]


def constraint_from(kind: str, low: float | None, high: float | None) -> Constraint:
    """Return the constraint; a box without ``clip`` is refused, because it would do nothing."""
    box: Any = {n: v for n, v in (("low", low), ("high", high)) if v is not None}
    if box and kind == "standardize":
        raise InvalidArgument(
            f"--{next(iter(box))}: is the box of '--constraint clip', but the constraint is "
            "'standardize'"
        )
    chosen: Any = kind
    return Constraint(chosen, **box)


def fluctuations_from(
    scales: str | None, weights: str | None, smoothing: int
) -> Fluctuations | None:
    """Return the fluctuations asked for; None where nothing was."""
    from .fluctuations import Fluctuations

    if scales is None and weights is None and not smoothing:
        return None
    widths = numbers("--scales", scales, float) or Fluctuations.scales
    shares = numbers("--weights", weights, float)
    if not shares:
        shares = Fluctuations.weights if scales is None else (1.0,) * len(widths)
    return Fluctuations(widths, shares, smoothing)


def start_from(
    path: Path, shape: tuple[int, int, int], layout: str = "NCHW"
) -> npt.NDArray[np.float32] | Result:
    """Read own start images.

    Parameters
    ----------
    path : Path
        ``.npy`` or ``.npz`` (its only array, or ``images``) of shape (H, W), (C, H, W) or
        (n, C, H, W), or with the network's own axes; a picture file of H×W pixels, 0 to 1
        after reading; or the folder of a saved result, whose OIPs are taken up again.
    shape : (C, H, W)
        What the network takes.
    layout : str
        The network's own axes.

    Raises
    ------
    DataError
        Missing, damaged, or of another shape.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    with _told_apart(path, "start", "start image"):
        if not path.is_dir():
            return _images(path, shape, layout)
        from .result import load_result

        return load_result(path)


def _images(path: Path, shape: tuple[int, int, int], layout: str) -> npt.NDArray[np.float32]:
    from .graph.scaling import own_layout

    try:
        if path.suffix.lower() in (".npy", ".npz"):
            image = np.asarray(own_layout(_array(path), layout, shape))
        else:
            image = _picture(path, shape[0])
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError) as error:
        raise DataError(f"{path}: not a readable .npy, .npz or picture file ({error})") from error
    images = image[None] if image.ndim == 2 else image
    if images.ndim not in (3, 4) or images.shape[-3:] != shape:
        takes = " x ".join(map(str, shape))
        has = " x ".join(map(str, image.shape))
        raise DataError(f"{path}: holds {has} numbers; the network takes images of {takes}")
    return images.astype(np.float32)


def _array(path: Path) -> npt.NDArray[Any]:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        array = loaded
    else:
        with loaded:
            names = loaded.files
            if "images" not in names and len(names) != 1:
                raise ValueError(f"no array 'images' among {', '.join(names)}")
            array = loaded["images" if "images" in names else names[0]]
    if array.dtype.kind not in "fiub":
        raise ValueError(f"an array of {array.dtype}, not of numbers")
    return array


def _picture(path: Path, channels: int) -> npt.NDArray[Any]:
    """Read a picture as people see it: turned as its camera says, white behind what is clear."""
    from PIL import Image, ImageOps

    if channels not in (1, 3):
        raise ValueError(f"a picture has 1 or 3 channels, the network {channels}")
    with Image.open(path) as file:
        upright = ImageOps.exif_transpose(file).convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"), np.float32) / 255
    return pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1)
