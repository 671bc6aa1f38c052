"""The same pieces of work on a Dask cluster: its workers compute, this process writes the file.

The network and the plan reach the workers as a plugin, which the scheduler gives to every worker
that joins, late or anew: nothing that a worker holds is needed to go on without it.
"""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..errors import EngineUnavailable, InvalidArgument, PyoipError
from ..network import Network
from .plan import Plan, Task
from .work import Found, Numbers, Worker

if TYPE_CHECKING:
    from .store import Store

AHEAD = 2  # pieces per worker that are under way: one computed, one waiting
SECONDS_TO_START = 60.0  # for a scheduler to answer, and for a worker to come
SECONDS_TO_LOOK = 2.0  # between looks at a cluster that sends nothing


class Machines:
    """A cluster at work on one survey; see `connected`.

    Parameters
    ----------
    client : distributed.Client
    scheduler : str
        As it was asked for.
    network : Network
    plan : Plan

    Raises
    ------
    EngineUnavailable
        No worker has what the plan's engine takes.
    """

    def __init__(self, client: Any, scheduler: str, network: Network, plan: Plan) -> None:
        from distributed import WorkerPlugin

        self._client, self._scheduler, self._plan = client, scheduler, plan
        self._resources = resources(plan)
        self._require_a_worker()
        plugin: Any = WorkerPlugin()
        plugin.work = pickle.dumps((network, plan))
        self._name = f"pyoip-{uuid4().hex}"
        client.register_plugin(plugin, name=self._name)

    def compute(
        self, store: Store, done: set[tuple[str, int, int]]
    ) -> Iterator[tuple[Task, Found, str]]:
        """Compute what is missing, and yield it as it comes.

        A piece whose worker is lost runs elsewhere: it depends on the plan alone, and so do its
        bits.

        Parameters
        ----------
        store : Store
            Holds by the time that maps climb the scores that they climb from.
        done : set
            Keys of the pieces that are there already.

        Yields
        ------
        (task, found, engine)
            A piece of work, what came of it, and the engine that computed it. It must be in the
            store before the next one is asked for.

        Raises
        ------
        EngineUnavailable
            The scheduler or all workers are lost, or no worker survives a piece.
        PyoipError
            What a worker raised.
        """
        under_way: dict[Any, Task] = {}
        queue = Queue(self._plan, done)
        while True:
            self._hand_out(queue, under_way, store)
            if not under_way:
                return
            for future in self._ended(under_way):
                task = under_way.pop(future)
                found = self._result(future, task)
                if found is None:
                    queue.again(task)
                    continue
                yield (task, *found)
                queue.finished(task)

    def forget(self) -> None:
        """Take network and plan from the cluster, which may live on."""
        try:
            self._client.unregister_worker_plugin(self._name)
        except Exception:  # whatever is lost has forgotten them
            return

    def _hand_out(self, queue: Queue, under_way: dict[Any, Task], store: Store) -> None:
        room = AHEAD * max(1, len(self._workers()))
        for task in queue.take(room - len(under_way)):
            starts = store.starts_of(task) if task.kind == "climb" else None
            arguments = (self._name, self._plan.version, task, starts)
            future = self._client.submit(
                piece, *arguments, pure=False, resources=self._resources or None
            )
            under_way[future] = task

    def _ended(self, under_way: dict[Any, Task]) -> list[Any]:
        """Pieces that are no longer under way, one at least."""
        last = time.monotonic()
        while True:
            self._wait(list(under_way))
            ended = [future for future in under_way if future.status != "pending"]
            if ended:
                return ended
            if self._workers():
                last = time.monotonic()
            elif time.monotonic() - last > SECONDS_TO_START:
                raise EngineUnavailable(
                    f"scheduler={self._scheduler!r}: all its workers are gone, and none came "
                    f"within {SECONDS_TO_START:g} s"
                )

    def _wait(self, futures: list[Any]) -> None:
        from distributed import CancelledError, wait

        try:
            wait(futures, timeout=SECONDS_TO_LOOK, return_when="FIRST_COMPLETED")
        except (TimeoutError, CancelledError, OSError):
            return  # their own states tell more

    def _result(self, future: Any, task: Task) -> tuple[Found, str] | None:
        """What a piece has come to; None where it must be done again."""
        from distributed import KilledWorker

        try:
            found: tuple[Found, str] | PyoipError = future.result()
        except KilledWorker:
            raise EngineUnavailable(
                f"a piece of work ({task.kind}, mix {task.mix}) ended every worker that took it; "
                "look at the workers' logs, memory first"
            ) from None
        except Exception as error:
            if self._client.status != "running" or _by_scheduler(error):
                raise self._lost() from None
            if future.status == "error":
                raise _told(error) from error
            return None
        if isinstance(found, PyoipError):
            raise found
        return found

    def _workers(self) -> list[Any]:
        """Workers that have what the plan's engine takes."""
        return [worker for worker in self._all_workers() if self._fits(worker)]

    def _all_workers(self) -> list[Any]:
        try:
            if self._client.status == "running":
                return list(self._client.scheduler_info(n_workers=-1)["workers"].values())
        except (OSError, TimeoutError):
            pass
        raise self._lost()

    def _fits(self, worker: Any) -> bool:
        has = worker.get("resources") or {}
        return all(has.get(name, 0) >= count for name, count in self._resources.items())

    def _lost(self) -> EngineUnavailable:
        return EngineUnavailable(f"scheduler={self._scheduler!r}: the connection to it is lost")

    def _require_a_worker(self) -> None:
        if not self._workers():
            raise EngineUnavailable(
                f"scheduler={self._scheduler!r}: engine={self._plan.engine!r} takes a GPU, and "
                f"none of its {len(self._all_workers())} workers has one to give; start one with "
                "'dask worker ADDRESS --resources GPU=1'"
            )


def resources(plan: Plan) -> dict[str, int]:
    """What a worker must have been started with to compute a plan."""
    return {"GPU": 1} if "cuda" in plan.engine else {}


def _by_scheduler(error: Exception) -> bool:
    return getattr(error, "reason", None) == "scheduler-connection-lost"


def _told(error: Exception) -> Exception:
    """What a worker raised, in one line where the reason is a lack of pyoip."""
    if "No module named 'pyoip" in str(error) or "deserialization" in str(error):
        return EngineUnavailable(
            "the scheduler or a worker lacks this pyoip; install the same version on all machines"
        )
    return error


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

    def again(self, task: Task) -> None:
        """Put back, in front, a piece that was taken and is lost."""
        self._ready.appendleft(task)

    def finished(self, task: Task) -> None:
        """Let begin what has waited for a piece; it goes first, so that mixes end early."""
        if task.kind == "score":
            self._scorings[task.mix] -= 1
            if not self._scorings[task.mix]:
                self._ready.extendleft(reversed(self._climbs.pop(task.mix, [])))


# --- on a worker -------------------------------------------------------------------------------

_workers: dict[tuple[str, int], Worker] = {}
_turn = threading.Lock()  # a piece takes all threads of its worker


def piece(
    name: str, wanted: str, task: Task, starts: Numbers | None
) -> tuple[Found, str] | PyoipError:
    """One piece of work, in a worker's process, by whichever engine it has.

    An error that is raised on purpose is returned: Dask would print it where it is raised.
    """
    try:
        _require_version(wanted)
        with _turn:
            worker = _worker(name)
            return worker.perform(task, starts), worker.name
    except PyoipError as error:
        return error


def _require_version(wanted: str) -> None:
    from distributed import get_worker

    if version("pyoip") != wanted:
        raise EngineUnavailable(
            f"worker {get_worker().address}: has pyoip {version('pyoip')}, not {wanted} as here; "
            "install the same version on all machines"
        )


def _worker(name: str) -> Worker:
    """Whoever does the work of plugin `name`; kept for the next piece."""
    from distributed import get_worker

    dask_worker = get_worker()
    key = (name, dask_worker.state.nthreads)
    if key not in _workers:
        if name not in dask_worker.plugins:
            raise EngineUnavailable("the scheduler was started anew and no longer knows the survey")
        _workers.clear()  # those of an earlier survey
        network, plan = pickle.loads(dask_worker.plugins[name].work)
        _workers[key] = Worker(network, plan, key[1])
    return _workers[key]


# --- the cluster -------------------------------------------------------------------------------


@contextmanager
def connected(scheduler: str, network: Network, plan: Plan) -> Iterator[Machines]:
    """A cluster that is to do the work of a plan.

    Parameters
    ----------
    scheduler : str
        Address of a Dask scheduler, or ``"local:N"`` for N processes on this machine, which end
        with the context.
    network : Network
    plan : Plan

    Raises
    ------
    InvalidArgument
        No scheduler with a worker answers there.
    EngineUnavailable
        Dask is not installed; its processes do not start; no worker has what the engine takes.
    """
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise EngineUnavailable(
            f"scheduler={scheduler!r}: Dask is not installed; pip install 'pyoip[survey]'"
        ) from None
    count = _processes(scheduler)
    made = _found(scheduler) if count is None else _made(scheduler, count, resources(plan))
    with _without_logs(), made as client:
        machines = Machines(client, scheduler, network, plan)
        try:
            yield machines
        finally:
            with _deaf():
                machines.forget()


@contextmanager
def _found(scheduler: str) -> Iterator[Any]:
    """A client of a cluster that is there."""
    from distributed import Client

    rule = "must be the address of a Dask scheduler, as in tcp://host:8786, or local:N"
    try:
        client = Client(scheduler, timeout=SECONDS_TO_START)
    except (OSError, TimeoutError):
        raise InvalidArgument(
            f"scheduler={scheduler!r}: no Dask scheduler answers there within "
            f"{SECONDS_TO_START:g} s; {rule}"
        ) from None
    except ValueError:
        raise InvalidArgument(f"scheduler={scheduler!r}: {rule}") from None
    with _closing(client):
        try:
            client.wait_for_workers(1, timeout=SECONDS_TO_START)
        except (OSError, TimeoutError):
            raise InvalidArgument(
                f"scheduler={scheduler!r}: has no worker, and none came within "
                f"{SECONDS_TO_START:g} s; start one with 'dask worker {scheduler}'"
            ) from None
        yield client


@contextmanager
def _made(scheduler: str, count: int, has: dict[str, int]) -> Iterator[Any]:
    """A client of a cluster of this machine's own processes."""
    from distributed import Client, LocalCluster

    _end_where_a_script_starts_itself()
    try:
        with _unheard():
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                resources=has,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
    except (RuntimeError, OSError, TimeoutError):
        raise EngineUnavailable(
            f"scheduler={scheduler!r}: its processes ended as they started; a script must call "
            "pyoip.survey under 'if __name__ == \"__main__\":', for each of them imports the script"
        ) from None
    with _closing(cluster), _closing(Client(cluster)) as client:
        yield client


@contextmanager
def _closing(thing: Any) -> Iterator[Any]:
    """Close a client or cluster at the end, whatever is pressed meanwhile."""
    try:
        yield thing
    finally:
        with _deaf():
            thing.close()


@contextmanager
def _without_logs() -> Iterator[None]:
    """What Dask says of lost workers and connections is told by this module, in one line."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def _unheard() -> Iterator[None]:
    """Put Ctrl-C off to the end; threads and processes that start meanwhile never hear it.

    A terminal sends it to workers as well, which are to be ended by this process instead.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starting it meanwhile would let Ctrl-C through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _deaf() -> Iterator[None]:
    """Do not hear Ctrl-C: what is closing is not to be torn apart by a second one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_where_a_script_starts_itself() -> None:
    """End a process that is still importing the script that started it.

    It could start no processes of its own; the one that started it tells why.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)


def _processes(scheduler: str) -> int | None:
    """N of ``"local:N"``; None for an address."""
    kind, _, count = scheduler.partition(":")
    if kind != "local":
        return None
    if not count.isdecimal() or not 1 <= int(count) <= 1024:
        raise InvalidArgument(f"scheduler={scheduler!r}: N of local:N must be in 1 … 1024")
    return int(count)
