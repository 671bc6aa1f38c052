"""The CUDA engine: whole ascents in one block's shared memory each (``csrc/cuda``)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineUnavailable, InvalidArgument, UnsupportedLayer
from ..settings import Objective, Settings
from ..stack import PLAIN_ENGINE, Stack, check_limits
from .base import Ascents, Floats, Progress, Targets, all_step_sizes, as_images
from .core import described, numbers_of

_T = TypeVar("_T")
_CUDA = 2  # DLPack's number for devices of this kind
_BUILD = "this pyoip was built without CUDA; with CUDA 13's nvcc on PATH, pip install . builds it"


def _module() -> ModuleType:
    try:
        from .. import _cuda
    except ImportError:
        raise EngineUnavailable(_BUILD) from None
    return _cuda


def describe() -> dict[str, str]:
    """Devices that the CUDA core can use, and what it was built for; or why there are none."""
    try:
        info = _module().info()
    except EngineUnavailable as error:
        return {"CUDA": str(error)}
    built = f"{info['toolkit']}, for {info['architectures']}"
    devices = {f"cuda:{d['index']}": _device_line(d) for d in info["devices"]}
    return {"CUDA": f"{built}: {info['reason']}" if info["reason"] else built, **devices}


def _device_line(device: dict[str, Any]) -> str:
    size = f"{device['memory'] / 2**30:.0f} GiB, {device['multiprocessors']} multiprocessors"
    line = f"{device['name']}, compute capability {device['capability']}, {size}"
    return f"{line}: {device['reason']}" if device["reason"] else line


def reason_why_not() -> str | None:
    """Why this engine cannot be used here; None where it can."""
    try:
        reason: str | None = _module().info()["reason"]
    except EngineUnavailable as error:
        return str(error)
    return reason


def _device_number(name: str | None) -> int:
    """The device that an engine's name asks for; without one the first that can be used."""
    info = _module().info()
    if info["reason"]:
        raise EngineUnavailable(info["reason"])
    devices = info["devices"]
    if name is None:
        return next(int(d["index"]) for d in devices if not d["reason"])
    if not (name.isascii() and name.isdigit()):
        raise InvalidArgument(f"engine='cuda:{name}': must name a device by number, as 'cuda:0'")
    if int(name) >= len(devices):
        raise EngineUnavailable(f"device {name}: must be one of 0 … {len(devices) - 1}")
    if devices[int(name)]["reason"]:
        raise EngineUnavailable(devices[int(name)]["reason"])
    return int(name)


class CudaEngine:
    """`Engine` on a CUDA device, for stacks within `pyoip.stack.check_limits` that fit its blocks.

    Images may also be float32 arrays on the device, of any library that offers them by DLPack (a
    CUDA tensor of torch, say): they are read in place, and results are arrays of the same library
    on the same device. Targets and step sizes lie in host memory always. Pixels on the device are
    not looked at before the call: where an image holds NaN or infinity its own results mean
    nothing, and no other image's change (in host memory such images are refused).
    """

    def __init__(self, stack: Stack, threads: int | None = None, device: str | None = None) -> None:
        check_limits(stack)
        self.stack = stack
        self.saturates = stack.saturates
        number = _device_number(device)
        self.name = "cuda" if device is None else f"cuda:{number}"
        self._errors = _module()
        self._core = self._make_core(number)
        self._told = False

    def _make_core(self, device: int) -> Any:
        layers = [described(layer) for layer in self.stack.layers]
        try:
            return self._errors.Engine(self.stack.input_shape, layers, device)
        except ValueError as error:
            name = self.stack.layers[-1].name
            raise UnsupportedLayer(f"layer {name}: {error}; {PLAIN_ENGINE}") from None
        except self._errors.CudaError as error:
            raise EngineUnavailable(str(error)) from None

    def score(
        self, images: Floats, objective: Objective, progress: Progress | None = None
    ) -> Floats:
        """See `Engine.score`."""
        given = self._images(images)
        found: Any = self._call(lambda: self._core.score(given, objective, "exact", progress))
        result: Floats = _like(images, found)
        return result

    def start_images(
        self, numbers: NDArray[np.integer[Any]], fluctuations: Mapping[str, Any]
    ) -> Floats:
        """See `DrawingEngine.start_images`."""
        images: Floats = self._call(lambda: self._core.start_images(numbers, fluctuations, None))
        return images

    def score_starts(
        self,
        numbers: NDArray[np.integer[Any]],
        fluctuations: Mapping[str, Any],
        objective: Objective,
    ) -> Floats:
        """See `DrawingEngine.score_starts`."""
        scores: Floats = self._call(
            lambda: self._core.score_starts(numbers, fluctuations, objective, "exact", None)
        )
        return scores

    def activations(self, images: Floats, progress: Progress | None = None) -> Floats:
        """See `Engine.activations`."""
        given = self._images(images)
        found: Any = self._call(lambda: self._core.activations(given, "exact", progress))
        result: Floats = _like(images, found)
        return result

    def gradient(
        self, images: Floats, targets: Targets, objective: Objective
    ) -> tuple[Floats, Floats]:
        """See `Engine.gradient`."""
        given = self._images(images)
        values, gradients = self._call(
            lambda: self._core.gradient(given, targets, objective, "exact", None)
        )
        return _like(images, values), _like(images, gradients)

    def ascend(
        self,
        starts: Floats,
        targets: Targets,
        settings: Settings,
        progress: Progress | None = None,
        step_sizes: Floats | None = None,
    ) -> Ascents:
        """See `Engine.ascend`."""
        given = self._images(starts)
        targets = np.ascontiguousarray(targets, np.int32)
        one_for_each: Any = targets  # what lends images need not know its length
        sizes = all_step_sizes(one_for_each, settings, step_sizes)
        numbers, precision = numbers_of(settings), settings.precision
        found = self._call(
            lambda: self._core.ascend(given, targets, sizes, numbers, precision, progress)
        )
        return Ascents(**{name: _like(starts, value) for name, value in found.items()})

    def _images(self, images: Any) -> Any:
        """Images of the device as they are, others as `as_images` makes them."""
        return images if _on_device(images) else as_images(self.stack.input_shape, images)

    def _call(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except self._errors.CudaError as error:
            raise EngineUnavailable(f"engine={self.name!r}: {error}") from None
        finally:
            self._tell()

    def _tell(self) -> None:
        """Say once that memory was short."""
        size = self._core.smallest_batch
        if size and not self._told:
            self._told = True
            message = "engine %r: the device's free memory asks for batches of %d images"
            logging.getLogger("pyoip").info(message, self.name, size)


def _on_device(images: Any) -> bool:
    device = getattr(images, "__dlpack_device__", None)
    return device is not None and int(device()[0]) == _CUDA


def _like(images: Any, found: Any) -> Any:
    """A result on the device as an array of the library that the images came from."""
    if not hasattr(found, "__dlpack_device__") or isinstance(found, np.ndarray):
        return found
    if hasattr(images, "__array_namespace__"):
        space = images.__array_namespace__()
    else:
        space = sys.modules.get(type(images).__module__.partition(".")[0])
    convert = getattr(space, "from_dlpack", None)
    return found if convert is None else convert(found)
