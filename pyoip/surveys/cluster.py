"""The same pieces of work on a Dask cluster: its workers compute, this process writes the file.

The network and the plan reach the workers as a plugin, which the scheduler gives to every worker
that joins, late or anew: nothing that a worker holds is needed to go on without it.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..errors import EngineUnavailable, PyoipError
from ..network import Network
from .plan import Plan, Task
from .work import Found, Numbers, Worker

if TYPE_CHECKING:
    from .store import Store

AHEAD = 2  # pieces per worker that are under way: one computed, one waiting
SECONDS_TO_START = 60.0  # for a scheduler to answer, and for a worker to come
SECONDS_TO_LOOK = 2.0  # between looks at a cluster that sends nothing


class Machines:
    """A cluster at work on one survey; see `connection.connected`.

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
                for mix in task.covered:
                    self._scorings[mix] = self._scorings.get(mix, 0) + 1
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
        if task.kind != "score":
            return
        for mix in reversed(task.covered):
            self._scorings[mix] -= 1
            if not self._scorings[mix]:
                self._ready.extendleft(reversed(self._climbs.pop(mix, [])))


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
