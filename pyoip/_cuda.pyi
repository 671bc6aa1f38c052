from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Progress = Callable[[int, int], object] | None

# Images: arrays, or what lends float32 on the engine's device by DLPack; results lie beside them.
_Images = Any

class CudaError(RuntimeError): ...
class NotFitting(ValueError): ...

def info() -> dict[str, Any]: ...

class DeviceArray:
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    def __len__(self) -> int: ...
    def __dlpack__(self, **kwargs: Any) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

class Engine:
    def __init__(
        self, shape: tuple[int, int, int], layers: Sequence[Mapping[str, Any]], device: int
    ) -> None: ...
    @property
    def device(self) -> int: ...
    @property
    def shared_bytes(self) -> int: ...
    @property
    def smallest_batch(self) -> int: ...
    def score(
        self, images: _Images, objective: str, precision: str, progress: _Progress
    ) -> Any: ...
    def start_images(
        self, indices: ArrayLike, fluctuations: Mapping[str, Any], progress: _Progress
    ) -> NDArray[np.float32]: ...
    def score_starts(
        self,
        indices: ArrayLike,
        fluctuations: Mapping[str, Any],
        objective: str,
        precision: str,
        progress: _Progress,
    ) -> NDArray[np.float32]: ...
    def activations(self, images: _Images, precision: str, progress: _Progress) -> Any: ...
    def gradient(
        self,
        images: _Images,
        targets: ArrayLike,
        objective: str,
        precision: str,
        progress: _Progress,
    ) -> tuple[Any, Any]: ...
    def ascend(
        self,
        starts: _Images,
        targets: ArrayLike,
        step_sizes: ArrayLike,
        settings: Mapping[str, Any],
        precision: str,
        progress: _Progress,
    ) -> dict[str, Any]: ...
