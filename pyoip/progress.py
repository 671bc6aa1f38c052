"""How long work reports itself: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

NAME = "pyoip"
SECONDS_BETWEEN_LINES = 10.0


def say(message: str) -> None:
    """Write one line to stderr."""
    print(f"{NAME}: {one_line(message)}", file=sys.stderr)


def one_line(text: str) -> str:
    """Return text without line breaks and without characters that would move the cursor."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


class ProgressLine:
    """Progress of an ascent on stderr: a bar on a terminal, a line every ten seconds elsewhere.

    Called with the work done, all of it, and the count of ascents still to come.
    """

    def __init__(
        self, what: str, *, silent: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what = what
        self._silent = silent
        self._clock = clock
        self._began = self._said = clock()
        self._bar: Progress | None = _bar() if sys.stderr.isatty() and not silent else None
        self._task: Any = None

    def __enter__(self) -> ProgressLine:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=None, note="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: float, total: float, left: int) -> None:
        """Show where the ascents stand."""
        self.show(done, total, f"{left} ascents to come")

    def show(self, done: float, total: float, note: str, left: float | None = None) -> None:
        """Show work done, all of it, a few words, and the seconds left; None: as until now."""
        now = self._clock()
        share = done / total if total else 0.0
        if left is None:
            left = (now - self._began) * (1 / share - 1) if share else math.inf
        rest = f", about {left:.0f} s left" if math.isfinite(left) else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, note=f"{note}{rest}")
        elif not self._silent and now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            say(f"{self._what}: {share:.0%}, {note}{rest}")


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    notes = TextColumn("{task.fields[note]}", style="dim")
    return Progress(*columns, notes, console=Console(stderr=True), transient=True)
