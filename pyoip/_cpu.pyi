from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.float32]
_Progress = Callable[[int, int], object] | None

def info() -> dict[str, Any]: ...
def peak_flops(threads: int, seconds: float) -> float: ...
def start_images(
    out: _Floats,
    indices: ArrayLike,
    fluctuations: Mapping[str, Any],
    threads: int,
    progress: _Progress,
) -> None: ...
def normal_values(seed: int, stream: int, slot: int, index: int, count: int) -> _Floats: ...

class Engine:
    def __init__(
        self,
        shape: tuple[int, int, int],
        layers: Sequence[Mapping[str, Any]],
        precision: str,
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def bytes_per_thread(self) -> int: ...
    def score(
        self, images: ArrayLike, objective: str, threads: int, progress: _Progress
    ) -> _Floats: ...
    def activations(self, images: ArrayLike, threads: int, progress: _Progress) -> _Floats: ...
    def gradient(
        self,
        images: ArrayLike,
        targets: ArrayLike,
        objective: str,
        threads: int,
        progress: _Progress,
    ) -> tuple[_Floats, _Floats]: ...
    def ascend(
        self,
        starts: ArrayLike,
        targets: ArrayLike,
        step_sizes: ArrayLike,
        settings: Mapping[str, Any],
        threads: int,
        progress: _Progress,
    ) -> dict[str, Any]: ...
