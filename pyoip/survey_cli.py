"""``pyoip survey``: the systematic search, and what its file tells.

``pyoip survey MODEL`` runs one; ``status``, ``report``, ``show`` and ``export`` read its file.
"""

from __future__ import annotations

import difflib
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from . import options as o
from .console import INTERRUPTED, Command, fail
from .errors import Interrupted, InvalidArgument
from .files import check_place
from .progress import ProgressLine, say
from .settings import Settings, require, whole

if TYPE_CHECKING:
    from .surveys.run import Progress


class _RunByDefault(TyperGroup):
    """``pyoip survey mnist`` is ``pyoip survey run mnist``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``run`` in front of what names no command."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            _check_meant(args, list(self.commands))
            args = ["run", *args]
        return super().parse_args(ctx, args or ["--help"])


def _check_meant(args: list[str], commands: list[str]) -> None:
    """Refuse what is nearly a command."""
    near = difflib.get_close_matches(args[0], commands, n=1, cutoff=0.7)
    if near and not Path(args[0]).exists():
        fail(f"no command {args[0]!r}: did you mean 'pyoip survey {' '.join([*near, *args[1:]])}'?")


survey = typer.Typer(
    cls=_RunByDefault,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
    help="Find out which fluctuations wake which map: 'pyoip survey MODEL --layer N'.",
    epilog="Start with:  pyoip survey mnist --layer 2 --out layer2.db",
)


@survey.command(
    cls=Command,
    epilog="Examples:\n\n"
    "pyoip survey mnist --layer 2 --out layer2.db\n\n"
    "pyoip survey my.onnx -l conv5 --levels 0,0.5,1 --starts 10000 --out conv5.db\n\n"
    "pyoip survey mnist -l 3 --sobol 256 --scheduler local:2 --out layer3.db",
)
def run(
    model: o.Model,
    layer: o.LayerSpec = "1",
    maps: o.Maps = None,
    out: o.SurveyOut = None,
    starts: o.StartsPerMix = 1000,
    scales: o.Scales = None,
    levels: o.Levels = None,
    smoothings: o.Smoothings = "0,1,2,4",
    sobol: o.Sobol = None,
    article: o.Article = 16,
    ascents: o.AscentsPerPair = 4,
    constraint: o.ConstraintKind = Settings.constraint.kind,
    low: o.Low = None,
    high: o.High = None,
    steps: o.Steps = Settings.steps,
    step_size: o.StepSize = Settings.step_size,
    bold: o.Bold = Settings.bold,
    momentum: o.Momentum = Settings.momentum,
    patience: o.Patience = Settings.patience,
    tolerance: o.Tolerance = Settings.tolerance,
    precision: o.Precision = Settings.precision,
    seed: o.Seed = Settings.seed,
    engine: o.Engine = "auto",
    threads: o.Threads = None,
    scheduler: o.Scheduler = None,
    input_shape: o.InputShape = None,
    pixels: o.Pixels = None,
    mean: o.Mean = None,
    std: o.Std = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> None:
    """Search a layer; the same command goes on where an earlier one stopped."""
    from .surveys import grid
    from .surveys import sobol as sample
    from .surveys import survey as search
    from .surveys.plan import LEVELS, MOST_MIXES, default_scales

    network = o.network_from(model, input_shape, pixels, mean, std)
    target, numbers = network.select(layer, maps)
    widths = o.numbers("--scales", scales, float) or default_scales(network.input_shape)
    passes = o.numbers("--smoothings", smoothings, int)
    twice = sorted({n for n in passes if passes.count(n) > 1})
    require(not twice, "smoothings", smoothings, "numbers of which each is there once")
    weights = o.numbers("--levels", levels, float) or LEVELS
    if sobol is not None and levels is not None:
        raise InvalidArgument("--levels: belongs to the grid, but --sobol asks for a sequence")
    if sobol is not None:
        whole("sobol", sobol, 1, MOST_MIXES)
    whole("starts", starts, 1)
    path = out or Path(f"survey_{o.file_name(network.name)}_layer{target.number}.db")
    check_place(path)
    mixes = grid(widths, weights, passes) if sobol is None else sample(sobol, widths, passes)
    with ProgressLine(f"{network.name}, layer {target.number}", silent=quiet) as line:
        try:
            found = search(
                network,
                target.number,
                numbers.tolist(),
                out=path,
                mixes=mixes,
                starts=starts,
                ascents=ascents,
                article=article,
                constraint=o.constraint_from(constraint, low, high),
                steps=steps,
                step_size=step_size,
                bold=bold,
                momentum=momentum,
                patience=patience,
                tolerance=tolerance,
                precision=precision,
                seed=seed,
                engine=engine,
                threads=threads,
                scheduler=scheduler,
                progress=lambda at: line.show(at.done, at.total, _note(at), at.left),
            )
        except Interrupted as stop:
            say(str(stop))
            raise typer.Exit(INTERRUPTED) from None
    if json:
        print(dumps(found.as_dict(), indent=1))
    elif not quiet:
        print(f"{found}\nfile: {path}; 'pyoip survey report {path}' draws it")


def _note(at: Progress) -> str:
    rate = f"{at.rate:,.0f} ascents/s, " if at.rate else ""
    return f"{rate}{at.silent} maps silent"


@survey.command(cls=Command, epilog="Example:  pyoip survey status layer2.db")
def status(file: o.SurveyFile, json: o.Json = False) -> None:
    """Tell where a survey stands, also while it runs."""
    from .surveys.report import status as lines

    found = o.survey_from(file)
    print(dumps(found.as_dict(), indent=1) if json else "\n".join(lines(found)))


@survey.command(cls=Command, epilog="Example:  pyoip survey report layer2.db --out report")
def report(file: o.SurveyFile, out: o.ReportFolder = None, quiet: o.Quiet = False) -> None:
    """Write what a survey found: its figures, a table and a text in a folder."""
    from .surveys.report import write_report

    found = o.survey_from(file)
    folder = out or file.with_name(f"{file.stem}_report")
    paths = write_report(found, folder)
    if not quiet:
        print(f"{found}\nreport: {', '.join(path.name for path in paths)} in {folder}")


@survey.command(cls=Command, epilog="Example:  pyoip survey show layer2.db 17")
def show(file: o.SurveyFile, map: o.MapNumber, out: o.Picture = None, json: o.Json = False) -> None:
    """Tell what was found of one map, and draw its several OIPs (with --out)."""
    from .surveys.report import about_map, as_picture, write_map

    found = o.survey_from(file)
    found.column(map)
    if out is not None:
        check_place(as_picture(out))
    if json:
        print(dumps(found.map_as_dict(map), indent=1))
    else:
        print("\n".join(about_map(found, map)))
    picture = None if out is None else write_map(found, map, out)
    if picture is not None and not json:
        print(f"picture: {picture}")


@survey.command(cls=Command, epilog="Example:  pyoip survey export layer2.db --out layer2.parquet")
def export(
    file: o.SurveyFile,
    table: o.ExportFile = None,
    out: o.ExportOut = None,
    quiet: o.Quiet = False,
) -> None:
    """Write a row per map and mix as CSV or Parquet (with images), or arrays for NumPy."""
    from .surveys.export import write_table

    if table is not None and out is not None:
        raise InvalidArgument(f"--out {out}: names a second file beside {table}; leave out one")
    path = table or out or file.with_suffix(".csv")
    rows = write_table(o.survey_from(file), path)
    if not quiet:
        print(f"{path}: {rows} rows")
