"""The command line: ``layers``, ``ascend``, ``check``, ``train``, ``info``, and who has the others.

What a command computes is imported when it runs, so that ``pyoip --help`` is quick.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options as o
from .console import DISAGREEMENT, INTERRUPTED, Command, Program
from .errors import Interrupted, InvalidArgument
from .export_cli import EXPORT_STEP, EXPORT_WEB, export_step, export_web
from .progress import ProgressLine, say
from .settings import Settings
from .survey_cli import survey

if TYPE_CHECKING:
    from .network import Layer
    from .result import Result

app = typer.Typer(
    cls=Program,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="Which input makes this map respond most? Found for every map of a layer in one call.",
    epilog="Start with:  pyoip ascend mnist --layer 2 --out oips",
)

# Options of `ascend` that go to `pyoip.ascend` as they are.
_AS_THEY_ARE = (
    *("candidates", "trials", "starts", "kicks", "steps", "step_size", "bold", "objective"),
    *(
        "smooth",
        "momentum",
        "patience",
        "tolerance",
        "method",
        "precision",
        "seed",
        "engine",
        "threads",
    ),
)
_PACKAGES = ("numpy", "onnx", "matplotlib", "torch", "onnxruntime")


def main() -> None:
    """Run the command line given to this process."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"pyoip {_own_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without UTF-8 still shows the text
            stream.reconfigure(errors="replace")
    # "Building the font cache" and the like: nothing that a reader of stderr could act on.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def _print_json(document: dict[str, Any]) -> None:
    print(dumps(document, indent=1, allow_nan=False, default=str))


@app.command(cls=Command, epilog="Example:  pyoip layers mnist")
def layers(
    model: o.Model,
    json: o.Json = False,
    input_shape: o.InputShape = None,
    pixels: o.Pixels = None,
    mean: o.Mean = None,
    std: o.Std = None,
) -> None:
    """List a network's conv layers: what can be asked for."""
    network = o.network_from(model, input_shape, pixels, mean, std)
    if not json:
        print(network)
        return
    head = {"network": network.name, "sha256": network.sha256, "input_shape": network.input_shape}
    _print_json({**head, "layers": [_layer_as_dict(layer) for layer in network.layers]})


def _layer_as_dict(layer: Layer) -> dict[str, Any]:
    names = ("number", "name", "maps", "output_shape", "receptive_field", "stride", "follows")
    return {name: getattr(layer, name) for name in names} | {"aliases": sorted(layer.aliases)}


@app.command(
    cls=Command,
    epilog="Examples:\n\n"
    "pyoip ascend mnist --layer 2 --out oips\n\n"
    "pyoip ascend mnist -l conv3 -m 0-7,9 --snapshots 1,2,4,8,16,32\n\n"
    "pyoip ascend mnist -l 2 --start oips --steps 500 --out oips",
)
def ascend(
    ctx: typer.Context,
    model: o.Model,
    layer: o.LayerSpec = "1",
    maps: o.Maps = None,
    seed: o.Seed = Settings.seed,
    engine: o.Engine = "auto",
    threads: o.Threads = None,
    out: o.Out = None,
    overwrite: o.Overwrite = False,
    show_starts: o.ShowStarts = False,
    snapshots: o.Snapshots = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
    candidates: o.Candidates = Settings.candidates,
    trials: o.Trials = Settings.trials,
    starts: o.Starts = Settings.starts,
    kicks: o.Kicks = Settings.kicks,
    scales: o.Scales = None,
    weights: o.Weights = None,
    smoothing: o.Smoothing = 0,
    start: o.Start = None,
    objective: o.Objective = Settings.objective,
    constraint: o.ConstraintKind = Settings.constraint.kind,
    low: o.Low = None,
    high: o.High = None,
    steps: o.Steps = Settings.steps,
    step_size: o.StepSize = Settings.step_size,
    bold: o.Bold = Settings.bold,
    momentum: o.Momentum = Settings.momentum,
    patience: o.Patience = Settings.patience,
    tolerance: o.Tolerance = Settings.tolerance,
    smooth: o.Smooth = Settings.smooth,
    method: o.Method = Settings.method,
    precision: o.Precision = Settings.precision,
    input_shape: o.InputShape = None,
    pixels: o.Pixels = None,
    mean: o.Mean = None,
    std: o.Std = None,
) -> None:
    """Find the OIP of every map of a layer; save pictures, arrays and settings in a folder."""
    from .canvas import prepare
    from .folder import check_folder

    network = o.network_from(model, input_shape, pixels, mean, std)
    target, numbers = network.select(layer, maps)
    asked = {name: ctx.params[name] for name in _AS_THEY_ARE}
    asked["constraint"] = o.constraint_from(constraint, low, high)
    asked["snapshots"] = o.numbers("--snapshots", snapshots, int)
    asked["fluctuations"] = o.fluctuations_from(scales, weights, smoothing)
    if start is not None and asked["fluctuations"] is not None:
        raise InvalidArgument(
            "--start: stands in for drawn images; leave out --scales, --weights and --smoothing"
        )
    takes = (network.input_shape, network.layout)
    asked["start"] = None if start is None else o.start_from(start, *takes)
    folder = out or _default_folder(network.name, target.number)
    check_folder(folder, network.sha256, target.number, numbers.tolist(), overwrite=overwrite)
    prepare()
    with ProgressLine(f"{network.name}, layer {target.number}", silent=quiet) as progress:
        result, stopped = _ascended(
            network, target.number, numbers.tolist(), progress=progress, **asked
        )
    if stopped and not overwrite and (folder / "result.json").exists():  # it may hold more
        folder = folder.with_name(f"{folder.resolve().name}_interrupted")
    if len(result):
        result.save(folder, starts=show_starts, overwrite=overwrite or stopped)
        _report(result, folder, quiet=quiet, as_json=json)
    if stopped:
        kept = (
            f"the {len(result)} finished maps are in {folder}" if len(result) else "none finished"
        )
        say(f"interrupted: {kept}")
        raise typer.Exit(INTERRUPTED)


def _default_folder(network: str, layer: int) -> Path:
    return Path(f"oips_{o.file_name(network)}_layer{layer}")


def _ascended(*args: Any, progress: Callable[[int, int, int], None], **asked: Any) -> Any:
    """The result, and whether Ctrl-C cut it short."""
    from .ascent import ascend as run

    try:
        return run(*args, progress=progress, **asked), False
    except Interrupted as stop:
        return stop.result, True


def _report(result: Result, folder: Path, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        _print_json({**result.as_dict(), "folder": str(folder)})
    elif not quiet:
        print(f"{result}\npictures: {folder / 'contact_sheet.png'}, and one PNG per map beside it")


@app.command(
    cls=Command,
    epilog="Examples:\n\n"
    "pyoip check mnist\n\n"
    "pyoip check my.onnx --layers 1,conv5 --engines cpu,onnx",
)
def check(
    model: o.Model,
    layers: o.Layers = None,
    engines: o.Engines = None,
    images: o.ImageCount = 8,
    steps: o.ShortSteps = 64,
    seed: o.Seed = Settings.seed,
    threads: o.Threads = None,
    input_shape: o.InputShape = None,
    pixels: o.Pixels = None,
    mean: o.Mean = None,
    std: o.Std = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> None:
    """Compare every engine with the model's own forward pass; exit 1 where one differs."""
    from .parity import check as run

    network = o.network_from(model, input_shape, pixels, mean, std)
    with ProgressLine(f"{network.name}, check", silent=quiet) as progress:
        found = run(
            network,
            o.layers_from(layers),
            engines=None if engines is None else [name.strip() for name in engines.split(",")],
            images=images,
            steps=steps,
            seed=seed,
            threads=threads,
            progress=progress,
        )
    if json:
        _print_json(found.as_dict())
    elif not quiet:
        print(found)
    if not found.agrees:
        raise typer.Exit(DISAGREEMENT)


app.command(cls=Command, epilog=EXPORT_STEP)(export_step)
app.command(cls=Command, epilog=EXPORT_WEB)(export_web)


@app.command(cls=Command, epilog="Example:  pyoip train --dataset fashion-mnist --out fashion.onnx")
def train(
    dataset: o.Dataset = "mnist",
    out: o.TrainOut = None,
    epochs: o.Epochs = 12,
    batch_size: o.BatchSize = 128,
    learning_rate: o.LearningRate = 1e-3,
    weight_decay: o.WeightDecay = 1e-4,
    shift: o.Shift = 1,
    seed: o.Seed = 0,
    threads: o.Threads = None,
    resume: o.Resume = False,
    checkpoint: o.Checkpoint = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> None:
    """Train the article's CNN and write it as ONNX (needs the extra 'train')."""
    from .train import train as run

    report = run(
        dataset,
        out,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        shift=shift,
        seed=seed,
        threads=threads,
        resume=resume,
        checkpoint=checkpoint,
        progress=not quiet,
    )
    if json:
        document = {"accuracy": report.accuracy, "seconds": report.seconds, **asdict(report)}
        del document["maxima"]  # hundreds of numbers, and in the file itself
        _print_json(document)
    elif not quiet:
        print(report)


app.add_typer(survey, name="survey")


@app.command(cls=Command, epilog="Example:  pyoip info --json")
def info(json: o.Json = False) -> None:
    """Show which engines work here, why the others do not, and how this pyoip was built."""
    from . import engines

    working, build = engines.available(), engines.describe()
    packages = {name: _installed(name) for name in _PACKAGES}
    version = _own_version()
    if json:
        head = {"pyoip": version, "engines": working}
        _print_json({**head, "build": build, "packages": packages})
        return
    print(f"pyoip {version}")
    _print_table("engines", {name: f"no: {why}" if why else "yes" for name, why in working.items()})
    _print_table("build", build)
    _print_table("packages", {name: text or "not installed" for name, text in packages.items()})


def _print_table(title: str, rows: dict[str, str]) -> None:
    print(f"\n{title}")
    for name, text in rows.items():
        print(f"  {name:<16}{text}")


def _own_version() -> str:
    return _installed("pyoip") or "(run from its source folder, not installed)"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
