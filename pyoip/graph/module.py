"""From a `torch.nn.Module` to an ONNX model in memory; torch is never imported by this package."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from onnx import ModelProto

from ..errors import ModelError
from .node import Shape, fail, plain

SOURCE = "<torch module>"
_NOISY = ("torch.onnx", "torch.export", "torch.fx", "torch._dynamo", "onnxscript", "onnx_ir")


def is_module(model: object) -> bool:
    """Tell whether `model` is a torch module, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def export_module(module: Any, input_shape: Shape | None) -> ModelProto:
    """Return `module`, in evaluation mode, as an ONNX model; the module is left as it was."""
    torch = sys.modules["torch"]
    shape = input_shape or _own_shape(module)
    if shape is not None and len(shape) == 3 and shape[1] == 1 and _along(module, torch) == 1:
        shape = (shape[0], shape[2])
    if shape is None:
        raise _shape_needed(module, torch)
    tensors = [*module.parameters(), *module.buffers()]
    floats = [t for t in tensors if t.is_floating_point()]
    like = floats[0] if floats else torch.zeros(())
    if like.device.type == "meta":
        raise fail(SOURCE, "its weights are on the meta device", "load its weights first")
    image = torch.zeros((2, *shape), dtype=like.dtype, device=like.device)
    training = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with _quiet(), torch.no_grad():
            return _export(torch, module, image)
    finally:
        for part, flag in training:
            part.training = flag


def _export(torch: Any, module: Any, image: Any) -> ModelProto:
    """Export with a dynamic batch, or with a batch of one if the module fixes it."""
    problem: Exception | None = None
    for args, dynamic in ((image, ({0: torch.export.Dim.AUTO},)), (image[:1].clone(), None)):
        try:
            program = torch.onnx.export(
                module, (args,), dynamo=True, verbose=False, dynamic_shapes=dynamic
            )
            return program.model_proto  # type: ignore[no-any-return]
        except ImportError as error:
            raise fail(
                SOURCE, f"torch cannot export it ({plain(error)})", "pip install onnx onnxscript"
            ) from None
        except Exception as error:  # torch reports everything by its own exceptions
            problem = problem or error
    shape = list(image.shape[1:])
    raise fail(
        SOURCE,
        f"torch cannot export it for an image of shape {shape} ({plain(_cause(problem))})",
        "pass its input_shape=(C, H, W), or an ONNX file",
    ) from None


def _cause(error: BaseException | None) -> BaseException | None:
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
    return error


def _along(module: Any, torch: Any) -> int:
    """Return along how many axes the first convolution of a module goes."""
    kinds = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    convs = (part for part in module.modules() if isinstance(part, kinds))
    return next(
        (kinds.index(kind) + 1 for part in convs for kind in kinds if isinstance(part, kind)), 2
    )


def _own_shape(module: Any) -> Shape | None:
    """Return the (C, H, W) or (C, L) that a module declares, as those of Lightning and timm do."""
    example = getattr(module, "example_input_array", None)
    config = getattr(module, "default_cfg", None) or {}
    for value in (
        getattr(module, "input_shape", None),
        getattr(example, "shape", (0,))[1:],
        config.get("input_size") if isinstance(config, dict) else None,
    ):
        sizes = value if isinstance(value, tuple | list) else ()
        if len(sizes) in (2, 3) and all(isinstance(n, int) and n > 0 for n in sizes):
            return tuple(sizes)
    return None


def _shape_needed(module: Any, torch: Any) -> ModelError:
    convs = [p for p in module.modules() if isinstance(p, torch.nn.Conv1d | torch.nn.Conv2d)]
    channels = str(convs[0].in_channels) if convs else "C"
    signals = _along(module, torch) == 1
    what = "length of its signals" if signals else "height and width of its images"
    sizes = "L" if signals else "H, W"
    return fail(
        SOURCE,
        f"{type(module).__name__} does not tell the {what}",
        f"pass input_shape=({channels}, {sizes})",
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's prints, warnings and log lines away from the user."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
