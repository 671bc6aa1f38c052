"""A survey from its arguments to its file: what is missing is computed, piece by piece."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EngineUnavailable, Interrupted
from ..files import check_place
from ..fluctuations import Fluctuations
from ..network import load
from ..settings import Constraint, Settings, as_constraint, require, whole
from .findings import Survey
from .load import load_survey
from .plan import Plan, Task, as_mixes
from .store import Store, as_file
from .work import Climbed, Found, Worker

if TYPE_CHECKING:
    from .cluster import Machines

IMAGES_PER_ASCENT = 64
"""Start images that are scored in the time of one ascent: 66 to 74 in layers 2 and 3 of the shipped
network. How fast a survey goes is told in ascents, and its scores are counted among them."""


@dataclass(frozen=True)
class Progress:
    """Where a survey stands.

    Attributes
    ----------
    done, total : float
        Ascents stored, and all of them; start images that are scored count `IMAGES_PER_ASCENT`
        for one, and a piece at hand counts by its share.
    rate : float
        Ascents per second of this session; 0 before the first.
    left : float
        Seconds to come at that rate; infinite before the first.
    silent : int
        Maps that nothing has activated yet, neither a start image nor an ascent.
    """

    done: float
    total: float
    rate: float
    left: float
    silent: int


def survey(
    model: Any,
    layer: int | str = 1,
    maps: Any = None,
    *,
    out: str | os.PathLike[str],
    mixes: Fluctuations | Iterable[Fluctuations] | None = None,
    starts: int = 1000,
    ascents: int = 4,
    article: int = 16,
    constraint: str | Constraint = "standardize",
    steps: int = Settings.steps,
    step_size: float = Settings.step_size,
    bold: float = Settings.bold,
    momentum: float = Settings.momentum,
    patience: int = Settings.patience,
    tolerance: float = Settings.tolerance,
    precision: str = Settings.precision,
    seed: int = Settings.seed,
    engine: str = "auto",
    threads: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[Progress], object] | None = None,
    input_shape: tuple[int, int, int] | None = None,
) -> Survey:
    """Find out which fluctuations wake which map of a layer, and what they lead to.

    Every mix of length scales draws the same start images, differently weighted; all are scored
    for all maps, and the best for each map climb to the end. What is found is kept in one file,
    piece by piece: the same call goes on where an earlier one stopped, however it ended.

    Parameters
    ----------
    model : str, path, onnx.ModelProto, torch.nn.Module or Network
        See `pyoip.load`.
    layer, maps
        As in `pyoip.ascend`.
    out : path
        The file, an SQLite database, in a folder that is there.
    mixes : Fluctuations or several, optional
        What `pyoip.grid` and `pyoip.sobol` make; default the grid of 60.
    starts : int
        Start images per mix.
    ascents : int
        Of these, the best for each map that climb to the end, at most `starts`.
    article : int
        Start images that are climbed as the article did, for comparison: fluctuations of one and
        two pixels, constant steps, each for all maps, and a silent map stays silent. 0: none.
    constraint, steps, step_size, bold, momentum, patience, tolerance, precision
        Of the ascents, as in `pyoip.ascend`.
    seed : int
        Of the start images.
    engine : str
        As in `pyoip.ascend`.
    threads : int, optional
        Default: every processor of this process. Changes nothing but the time. With a scheduler
        each worker uses the threads that it was started with instead.
    scheduler : str, optional
        A Dask cluster that computes: its address, or ``"local:N"`` for N processes on this
        machine. This process alone writes the file, and needs no engine. Workers need the same
        version of pyoip, and for an engine on CUDA ``dask worker --resources GPU=1``. A script
        must call this function under ``if __name__ == "__main__":`` for ``"local:N"``, since each
        process imports the script. Needs ``pip install 'pyoip[survey]'``.
    progress : callable(Progress), optional
        Called a few times a second.
    input_shape : (C, H, W), optional
        Of one image, where the model leaves it open.

    Returns
    -------
    Survey

    Raises
    ------
    ModelError, UnsupportedLayer, InvalidArgument, EngineUnavailable
        As `pyoip.ascend` does; also where the cluster does not answer, or is lost: what is
        finished is in the file.
    DataError
        The file is being written by another process, is something else, or was begun with another
        model or other settings.
    Interrupted
        Ctrl-C; what is finished is in the file, and in the exception's `result`.

    Examples
    --------
    >>> import pyoip
    >>> mixes = pyoip.grid(scales=(1, 4), smoothings=(0,))
    >>> found = pyoip.survey("mnist", "conv1:0-3", out="conv1.survey", mixes=mixes, starts=50,
    ...                      ascents=2, article=1)
    >>> found.alive.shape
    (3, 4)
    """
    network = load(model, input_shape=input_shape)
    target, numbers = network.select(layer, maps)
    rule, count = as_constraint(constraint), whole("starts", starts, 1, 2**31 - 1)
    exactness: Any = precision
    check_place(as_file(out))
    require(scheduler is None or isinstance(scheduler, str), "scheduler", scheduler, "an address")
    plan = Plan(
        network=network.name,
        sha256=network.sha256,
        scaling=str(network.scaling),
        layer=target.number,
        layer_name=target.name,
        maps=tuple(numbers.tolist()),
        shape=network.input_shape,
        mixes=as_mixes(mixes, network.input_shape),
        starts=count,
        ascents=whole("ascents", ascents, 1, 2**12),
        article=whole("article", article, 0, 2**20),
        settings=Settings(
            constraint=rule,
            steps=steps,
            step_size=step_size,
            bold=bold,
            momentum=momentum,
            patience=patience,
            tolerance=tolerance,
            precision=exactness,
            candidates=count,
            trials=1,
            starts=1,
            kicks=0,
            seed=seed,
        ),
        engine=engine,
        version=version("pyoip"),
    )
    require(plan.ascents <= count, "ascents", ascents, f"at most starts={count}")
    worker = Worker(network, plan, threads)
    # Who computes comes first: without it no file is begun.
    with _machines(worker, scheduler) as machines, Store(out, plan) as store:
        store.put_maps(worker.real.tolist(), worker.bounds.tolist())
        meter = Meter(store, progress)
        try:
            with closing(_computed(worker, store, meter, machines)) as pieces:
                for task, found, name in pieces:
                    store.put(task, found, name)
                    meter.finished(task, found)
        except EngineUnavailable as error:
            raise EngineUnavailable(f"{error}; {meter} in {out}; the same call goes on") from None
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted: {meter} in {out}; the same call goes on", load_survey(out)
            ) from None
    return load_survey(out)


def _machines(worker: Worker, scheduler: str | None) -> AbstractContextManager[Machines | None]:
    """The cluster asked for; None, and an engine that is made, where this process computes."""
    if scheduler is None:
        _ = worker.engine
        return nullcontext()
    from .connection import connected

    return connected(scheduler, worker.network, worker.plan)


def _computed(
    worker: Worker, store: Store, meter: Meter, machines: Machines | None
) -> Generator[tuple[Task, Found, str], None, None]:
    """What is missing, piece by piece: on a cluster, or here and in order."""
    done = store.done()
    if machines is not None:
        yield from machines.compute(store, done)
        return
    for task in store.plan.tasks():
        if task.key not in done:
            starts = store.starts_of(task) if task.kind == "climb" else None
            yield task, worker.perform(task, starts, meter.within(task)), worker.name


class Meter:
    """What is done and how fast, told to whoever asked for it.

    Attributes
    ----------
    pieces, tasks : int
        Pieces of work stored, and all of them.
    """

    def __init__(self, store: Store, told: Callable[[Progress], object] | None) -> None:
        self._told, self._plan = told, store.plan
        done = store.done()
        self.tasks = sum(1 for _ in self._plan.tasks())
        self.pieces = len(done)
        self._total = sum(self.weight(task) for task in self._plan.tasks())
        self._before = sum(self.weight(t) for t in self._plan.tasks() if t.key in done)
        self._now, self._awake = self._before, store.awake()
        self._began, self._said = time.perf_counter(), 0.0

    def __str__(self) -> str:
        return f"{self.pieces} of {self.tasks} pieces are"

    def weight(self, task: Task) -> float:
        """Ascents of a piece, or what takes as long."""
        if task.kind == "score":
            return task.count * task.mixes / IMAGES_PER_ASCENT
        if task.kind == "article":
            return task.count * len(self._plan.maps)
        return task.count * task.mixes * self._plan.ascents

    def within(self, task: Task) -> Callable[[float], None]:
        """What takes the share of a piece that is done; one that falls back is passed over."""
        most = 0.0

        def tell(share: float) -> None:
            nonlocal most
            most = max(most, share)
            self._tell(most * self.weight(task))

        return tell

    def finished(self, task: Task, found: Found) -> None:
        """Count a piece that is stored."""
        self._now += self.weight(task)
        self.pieces += 1
        self._awake |= awake(self._plan, found)
        self._tell(0.0, last=self.pieces == self.tasks)

    def _silent(self) -> int:
        return len(self._plan.maps) - len(self._awake)

    def _tell(self, more: float, *, last: bool = False) -> None:
        clock = time.perf_counter()
        if self._told is None or (clock - self._said < 0.2 and not last):
            return
        self._said = clock
        done = self._now + more
        rate = (done - self._before) / (clock - self._began)
        left = (self._total - done) / rate if rate else float("inf")
        self._told(Progress(done, self._total, rate, left, self._silent()))


def awake(plan: Plan, found: Found) -> set[int]:
    """Maps that anything in a piece activates."""
    if isinstance(found, Climbed):
        return set(found.maps[found.activations > 0].tolist())
    alive = np.any([one.alive > 0 for one in found], axis=0)
    return set(np.array(plan.maps)[alive].tolist())
