"""The article's CNN and the loop that trains it: one epoch at a time, resumable bit for bit.

Network, RMSprop and L2 regulariser are the article's, with Keras's initial weights (torch's leave
maps of layers 1 and 2 dead); new are shifts of a pixel, for a margin of accuracy over the seeds.
The learning rate goes through one cycle and ends 10,000 times below its peak. That end matters: it
is the pace at which the regulariser moves the kernels of a map that died in training, so they end
near zero, the map's bias alone decides, and its death can be proven. Biases are not regularised
for the same reason: pulled to zero, they would prove nothing.

Importing this module does not import torch.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import CLASSES, DATASETS, Bytes
from .errors import DataError, InvalidArgument
from .export import accuracy, unit_pixels
from .files import replacing

if TYPE_CHECKING:
    import torch

WARM_UP = 0.3  # share of the steps in which the learning rate rises
START, END = 0.1, 1e-4  # first and last learning rate, relative to the peak
# RMSprop's memory, torch's own. With Keras's 0.9 (and batches of 64) 20 maps died, not 6.
ALPHA = 0.99
# A weight below this is lost in any float32 sum that holds a bias.
NEGLIGIBLE = 1e-20
RANGES: tuple[tuple[str, float, float], ...] = (
    ("epochs", 1, 1000),
    ("batch_size", 1, 60_000),
    ("weight_decay", 0, 1),
    ("shift", 0, 8),
    ("seed", 0, 2**63 - 1),
    ("threads", 1, 1024),
)


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides the outcome of a training on one machine.

    Attributes
    ----------
    dataset : {"mnist", "fashion-mnist"}
        What to learn.
    epochs : int
        Passes over the training images, at least 1. The learning rate's cycle spans them all.
    batch_size : int
        Images per step, at least 1.
    learning_rate : float
        Peak of RMSprop's learning rate, above 0, at most 1.
    weight_decay : float
        λ of the L2 regulariser λ/2 Σ w² over the kernels (not the biases), 0 to 1; what Keras
        calls ``l2(λ/2)``.
    shift : int
        Each time a training image is shown it is moved by up to this many pixels, 0 to 8, in both
        directions; what enters is background.
    seed : int
        Of the initial weights, the order of the images and their shifts, at least 0.
    threads : int
        Threads of torch, at least 1: another number may change the last bits.

    Raises
    ------
    InvalidArgument
        When one is outside its range.
    """

    dataset: str = "mnist"
    epochs: int = 12
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    shift: int = 1
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            known = ", ".join(DATASETS)
            raise InvalidArgument(f"dataset {self.dataset!r} is unknown: use one of {known}")
        for name, low, high in RANGES:
            if not low <= getattr(self, name) <= high:
                raise InvalidArgument(f"{name} {getattr(self, name)}: must be {low} to {high}")
        if not 0 < self.learning_rate <= 1:
            raise InvalidArgument(f"learning_rate {self.learning_rate}: must be above 0, at most 1")


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images.

    Attributes
    ----------
    loss : float
        Mean cross-entropy of the training images as they came by, without the regulariser.
    train_accuracy, accuracy : float
        Share classified rightly, 0 to 1: of the training images as they came by, and of the
        test images after the pass.
    seconds : float
        Duration, the test included.
    """

    loss: float
    train_accuracy: float
    accuracy: float
    seconds: float


def build_network(seed: int) -> torch.nn.Sequential:
    """Build the article's CNN; Glorot-uniform kernels drawn from `seed` alone, zero biases."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 32, 3),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(32, 64, 3),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                conv3=nn.Conv2d(64, 128, 3),
                relu3=nn.ReLU(),
                flatten=nn.Flatten(),
                dense1=nn.Linear(3 * 3 * 128, 100),
                relu4=nn.ReLU(),
                dense2=nn.Linear(100, CLASSES),
            )
        )
        for name, value in network.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(value)
            else:
                nn.init.xavier_uniform_(value)
    return network


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of a step: half a cosine up to `peak`, another one down to peak / 10,000."""
    top = max(1.0, WARM_UP * steps)
    if step < top:
        return peak * _half_cosine(START, 1.0, step / top)
    return peak * _half_cosine(1.0, END, (step - top) / max(1.0, steps - 1 - top))


def _half_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


class Training:
    """A training between two epochs: all that a checkpoint holds.

    Parameters
    ----------
    settings : TrainSettings
        What decides the outcome.
    images : ndarray of uint8, shape (N, 28, 28)
    labels : ndarray of uint8, shape (N,)

    Attributes
    ----------
    network : torch.nn.Sequential
        With the weights so far.
    epochs : list of Epoch
        Those that are done.
    steps : int
        Steps of one epoch.
    """

    def __init__(self, settings: TrainSettings, images: Bytes, labels: Bytes) -> None:
        import torch

        self.settings = settings
        self.epochs: list[Epoch] = []
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.network = build_network(settings.seed)
        # Channels last: the same network, a fifth faster on a CPU.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = _optimiser(self.network, settings)
        self.windows = _windows(torch.tensor(images), settings.shift)
        self.labels = torch.tensor(labels.astype(np.int64))
        self.steps = math.ceil(len(labels) / settings.batch_size)

    def epoch(self, test: tuple[Bytes, Bytes], advance: Callable[[float], object]) -> Epoch:
        """Train one epoch, test it, and add it to `epochs`; `advance` gets each step's loss."""
        import torch

        start = time.perf_counter()
        loss = hits = 0.0
        order = torch.randperm(len(self.labels), generator=self.generator)
        for index, batch in enumerate(torch.split(order, self.settings.batch_size)):
            mean, right = self._step(len(self.epochs) * self.steps + index, batch)
            loss += mean * len(batch) / len(order)
            hits += right / len(order)
            advance(mean)
        self._check(loss)
        _flush(self.network)
        score = accuracy(self.network, *test)
        self.epochs.append(Epoch(loss, hits, score, time.perf_counter() - start))
        return self.epochs[-1]

    def _step(self, step: int, batch: torch.Tensor) -> tuple[float, int]:
        from torch.nn.functional import cross_entropy

        rate = one_cycle(step, self.settings.epochs * self.steps, self.settings.learning_rate)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        labels = self.labels[batch]
        logits = self.network(unit_pixels(self._shifted(batch)))
        loss = cross_entropy(logits, labels)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach()), int((logits.detach().argmax(1) == labels).sum())

    def _shifted(self, batch: torch.Tensor) -> torch.Tensor:
        import torch

        places, size = self.windows.shape[1], (2, len(batch))
        rows, columns = torch.randint(places, size, generator=self.generator)
        return self.windows[batch, rows, columns]

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise InvalidArgument(
                f"learning_rate {self.settings.learning_rate}: the loss is {loss} in epoch"
                f" {len(self.epochs) + 1}: use a smaller one"
            )

    def save(self, path: Path) -> None:
        """Replace the checkpoint in one go."""
        import torch

        state = {
            "settings": asdict(self.settings),
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint; its settings must be these.

        Raises
        ------
        DataError
            When it is missing, damaged, or of a training with other settings.
        """
        state = _read_checkpoint(path)
        for field in fields(self.settings):
            saved, asked = state["settings"].get(field.name), getattr(self.settings, field.name)
            if saved != asked:
                raise DataError(
                    f"{path}: was made with {field.name}={saved!r}, not {asked!r}: a resumed"
                    " training needs the same settings"
                )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]


def _optimiser(network: torch.nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    import torch

    named = list(network.named_parameters())
    kernels = [value for name, value in named if name.endswith("weight")]
    biases = [value for name, value in named if name.endswith("bias")]
    groups: list[dict[str, Any]] = [
        {"params": kernels, "weight_decay": settings.weight_decay},
        {"params": biases},
    ]
    return torch.optim.RMSprop(groups, lr=settings.learning_rate, alpha=ALPHA)


def _windows(images: torch.Tensor, shift: int) -> torch.Tensor:
    """View images (N, h, w) as (N, 2 shift + 1, 2 shift + 1, h, w): every image at every shift."""
    import torch

    _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (shift,) * 4)
    return padded.unfold(1, height, 1).unfold(2, width, 1)


def _flush(network: torch.nn.Module) -> None:
    """Set to zero what is too small to reach any result, before it turns subnormal.

    The regulariser shrinks the kernels of a dead map geometrically, and arithmetic with
    subnormal numbers is slow on many processors, here and in whoever uses the file.
    """
    import torch

    with torch.no_grad():
        for value in network.parameters():
            value[value.abs() < NEGLIGIBLE] = 0


def _read_checkpoint(path: Path) -> dict[str, Any]:
    import torch

    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint: start without resume=True")
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        if not state.keys() >= {"settings", "epochs", "network", "optimiser", "generator"}:
            raise KeyError("entry")
    except Exception as error:  # torch raises whatever its reader stumbled over
        kind = type(error).__name__
        raise DataError(f"{path}: not an intact checkpoint ({kind}): start anew") from None
    return state
