"""The same pieces of work on a Dask cluster: its workers compute, this process writes the file."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import EngineUnavailable, InvalidArgument
from ..network import Network
from .plan import Plan, Task
from .work import Found, Numbers, Worker

if TYPE_CHECKING:
    from .store import Store

AHEAD = 2  # pieces per worker that are under way: one computed, one waiting
SECONDS_TO_START = 60
LOST = "distributed.scheduler.KilledWorker"


def compute(
    network: Network, store: Store, scheduler: str, done: set[tuple[str, int, int]]
) -> Iterator[tuple[Task, Found, str]]:
    """Compute what is missing on a cluster, and yield it as it comes.

    A piece whose worker is lost runs elsewhere: it depends on the plan alone, and so do its bits.

    Parameters
    ----------
    network : Network
    store : Store
        Holds the plan, and by the time that maps climb the scores that they climb from.
    scheduler : str
        Address of a Dask scheduler, or ``"local:N"`` for N processes on this machine.
    done : set
        Keys of the pieces that are there already.

    Yields
    ------
    (task, found, engine)
        A piece of work, what came of it, and the engine that computed it. It must be in the store
        before the next one is asked for.
    """
    from distributed import as_completed

    plan = store.plan
    with _client(scheduler) as client:
        shared = client.scatter((network, plan), broadcast=True)
        resources = {"GPU": 1} if "cuda" in plan.engine else None
        under_way: dict[Any, Task] = {}
        completed = as_completed()
        queue = Queue(plan, done)
        while True:
            room = AHEAD * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
            for task in queue.take(room - len(under_way)):
                starts = store.starts_of(task) if task.kind == "climb" else None
                future = client.submit(piece, shared, task, starts, pure=False, resources=resources)
                under_way[future] = task
                completed.add(future)
            if not under_way:
                return
            future = next(completed)
            task = under_way.pop(future)
            found, engine = _result(future, task)
            yield task, found, engine
            queue.finished(task)


class Queue:
    """Pieces of work that can begin, and those that wait for scores.

    Parameters
    ----------
    plan : Plan
    done : set
        Keys of the pieces that are there already.
    """

    def __init__(self, plan: Plan, done: set[tuple[str, int, int]]) -> None:
        self._scorings: dict[int, int] = {}
        self._climbs: dict[int, list[Task]] = {}
        self._ready: deque[Task] = deque()
        for task in plan.tasks():
            if task.key in done:
                continue
            if task.kind == "score":
                self._scorings[task.mix] = self._scorings.get(task.mix, 0) + 1
            if task.kind == "climb" and self._scorings.get(task.mix):
                self._climbs.setdefault(task.mix, []).append(task)
            else:
                self._ready.append(task)

    def take(self, count: int) -> Iterator[Task]:
        """Up to `count` pieces that can begin."""
        for _ in range(min(count, len(self._ready))):
            yield self._ready.popleft()

    def finished(self, task: Task) -> None:
        """Let begin what has waited for a piece; it goes first, so that mixes end early."""
        if task.kind == "score":
            self._scorings[task.mix] -= 1
            if not self._scorings[task.mix]:
                self._ready.extendleft(reversed(self._climbs.pop(task.mix, [])))


def _result(future: Any, task: Task) -> tuple[Found, str]:
    from distributed import KilledWorker

    try:
        found: tuple[Found, str] = future.result()
    except KilledWorker:
        raise EngineUnavailable(
            f"a piece of work ({task.kind}, mix {task.mix}) ended every worker that took it; look "
            "at the workers' logs, memory first"
        ) from None
    return found


# --- on a worker -------------------------------------------------------------------------------

_workers: dict[tuple[Plan, int], Worker] = {}


def piece(shared: tuple[Network, Plan], task: Task, starts: Numbers | None) -> tuple[Found, str]:
    """One piece of work, in a worker's process, by whichever engine it has."""
    from distributed import get_worker

    network, plan = shared
    key = (plan, get_worker().state.nthreads)
    if key not in _workers:
        _workers.clear()  # those of an earlier survey
        _workers[key] = Worker(network, *key)
    worker = _workers[key]
    return worker.perform(task, starts), worker.name


# --- the cluster -------------------------------------------------------------------------------


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    """A client of the cluster; of one made here, which ends with it, for ``"local:N"``."""
    try:
        import distributed
    except ImportError:
        raise EngineUnavailable(
            f"scheduler={scheduler!r}: Dask is not installed; pip install 'pyoip[survey]'"
        ) from None
    local = _processes(scheduler)
    if local is not None:
        with (
            distributed.LocalCluster(
                n_workers=local,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                silence_logs=logging.ERROR,
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = distributed.Client(scheduler, timeout=SECONDS_TO_START)
        client.wait_for_workers(1, timeout=SECONDS_TO_START)
    except (OSError, TimeoutError, ValueError) as error:
        raise InvalidArgument(
            f"scheduler={scheduler!r}: no Dask scheduler with a worker answers there within "
            f"{SECONDS_TO_START} s ({type(error).__name__}); must be its address, as in "
            "tcp://host:8786, or local:N"
        ) from None
    with client:
        yield client


def _processes(scheduler: str) -> int | None:
    """N of ``"local:N"``; None for an address."""
    kind, _, count = scheduler.partition(":")
    if kind != "local":
        return None
    if not count.isdecimal() or not 1 <= int(count) <= 1024:
        raise InvalidArgument(f"scheduler={scheduler!r}: N of local:N must be in 1 … 1024")
    return int(count)
