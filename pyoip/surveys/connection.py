"""A Dask cluster: found at an address or made on this machine, and left without a trace."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import EngineUnavailable, InvalidArgument
from ..network import Network
from .cluster import SECONDS_TO_START, Machines, resources
from .plan import Plan


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
