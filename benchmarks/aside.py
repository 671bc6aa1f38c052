"""Work in a process of its own: what hangs or crashes there is a reason here, and nothing more."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_SPAWN = multiprocessing.get_context("spawn")  # a fork would share the state of a device


class Gone(Exception):
    """No answer; the text says why."""


class Aside:
    """The methods of what `make(*arguments)` returns in a process of its own.

    After any failure the process is ended, as it may not be able to use its device any longer, and
    the next question starts another. Who has let `seconds` pass without an answer is asked no more.
    """

    def __init__(
        self, name: str, seconds: float, make: Callable[..., object], *arguments: object
    ) -> None:
        self.name, self.seconds, self.made_by = name, seconds, (make, arguments)
        self.hung: str | None = None
        self._process: Any = None

    def ask(self, method: str, *arguments: object) -> Any:
        """What the method returns. Raises Gone."""
        if self.hung:
            raise Gone(self.hung)
        try:
            if self._process is None:
                self._start()
            self._line.send((method, arguments))
            return self._answer(method)
        except Gone:
            self.end()
            raise
        except (EOFError, OSError):
            how = _how(self.end(patience=5))
            raise Gone(f"{self.name}: its process ended, {how} ({method})") from None

    def end(self, patience: float = 0) -> int | None:
        """End the process, and all that it has started; return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.join(patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # also where it has no group of its own yet
        process.join()
        return process.exitcode

    def _start(self) -> None:
        self._line, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, *self.made_by), daemon=True)
        self._process.start()
        theirs.close()
        self._answer("start")

    def _answer(self, method: str) -> Any:
        if not self._line.poll(self.seconds):
            self.hung = f"{self.name}: no answer within {self.seconds:.0f} s ({method})"
            raise Gone(self.hung)
        good, answer = self._line.recv()
        if not good:
            raise Gone(f"{self.name}: {answer}")
        return answer


def _how(code: int | None) -> str:
    return f"by {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"


def _serve(line: Connection, make: Callable[..., object], arguments: tuple[object, ...]) -> None:
    """Answer until nobody asks any more."""
    os.setsid()
    made = None

    def start() -> None:
        nonlocal made
        made = make(*arguments)

    _reply(line, start)
    with contextlib.suppress(EOFError):
        while True:
            method, given = line.recv()
            _reply(line, lambda: getattr(made, method)(*given))  # noqa: B023 - called at once


def _reply(line: Connection, call: Callable[[], object]) -> None:
    try:
        line.send((True, call()))
    except (Exception, SystemExit) as error:
        first = str(error).strip().partition("\n")[0]
        line.send((False, f"{type(error).__name__}: {first}"[:200]))
