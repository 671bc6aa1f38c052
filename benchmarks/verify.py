"""No answer, no figure: everyone's is checked before anything is timed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from peers.torch_peer import TorchStack
from task import Floats, Task, article

from pyoip import reference

STEPS = 10
CLOSE = 1e-4  # of the objective after so many steps, relative
FEW = 0.05  # share of images that may differ: rounding flips a pooling or ReLU decision
EXACT = 2e-7  # median relative error of our gradients


class WrongAnswer(SystemExit):
    """A contender's answer is not the one asked for; nothing is timed."""


def check_gradient(task: Task, images: int = 16, limit: float = EXACT) -> float:
    """Compare our gradient at the start images with float64's; return the median error."""
    part = task.part(0, images)
    _, found = task.engine.gradient(part.starts, part.targets, "activation")
    exact = reference.evaluate(task.stack, part.starts, part.targets, "activation", wake=False)
    errors = [_distance(f, e) for f, e in zip(found, exact.gradient, strict=True)]
    error = float(np.median(errors))
    if not error <= limit:
        raise WrongAnswer(f"pyoip: median error of the gradient {error:.1e}, above {limit:.0e}")
    return error


def _distance(found: Floats, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / max(np.linalg.norm(exact), 1e-30))


def objectives(task: Task, images: Floats) -> np.ndarray:
    """The objective of each image in float64, by torch."""
    net = TorchStack(task.stack)
    targets = torch.tensor(task.targets.astype(np.int64))
    with torch.inference_mode():
        return net.objective(torch.tensor(images, dtype=torch.float64), targets).numpy()


def check_ascent(task: Task, name: str, run: Callable[[int], Floats]) -> float:
    """Compare objectives after ten steps with ours; return the share that differs.

    After ten steps rounding alone leaves 1e-6; what differs by more took another way at a
    near-tie of a pooling window or a ReLU, which happens to few images.
    """
    return _compare(task, name, objectives(task, run(STEPS)))


def check_own(task: Task, **more: str) -> float:
    """The same for our engine with other settings, such as a lower precision."""
    found = task.engine.ascend(task.starts, task.targets, article(STEPS, **more))
    return _compare(task, f"pyoip with {more}", found.history[:, -1])


def _compare(task: Task, name: str, theirs: np.ndarray) -> float:
    ours = task.engine.ascend(task.starts, task.targets, article(STEPS)).history[:, -1]
    off = ~(np.abs(theirs - ours) <= CLOSE * np.maximum(np.abs(ours), 1e-3))
    if off.mean() > FEW:
        raise WrongAnswer(f"{name}: {off.sum()} of {len(off)} images differ after {STEPS} steps")
    return float(off.mean())


def check_scores(name: str, found: Floats, expected: Floats) -> None:
    """Scores agree to float32's precision, in units of the largest."""
    error = np.abs(found - expected).max() / np.abs(expected).max()
    if not error <= 1e-5:
        raise WrongAnswer(f"{name}: scores differ by {error:.1e} of the largest")
