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
from .node import fail, plain

SOURCE = "<torch module>"
_NOISY = ("torch.onnx", "torch.export", "torch.fx", "torch._dynamo", "onnxscript", "onnx_ir")


def is_module(model: object) -> bool:
    """Tell whether `model` is a torch module, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def export_module(module: Any, input_shape: tuple[int, int, int] | None) -> ModelProto:
    """Return `module`, in evaluation mode, as an ONNX model; the module is left as it was."""
    torch = sys.modules["torch"]
    shape = input_shape or _own_shape(module)
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


def _own_shape(module: Any) -> tuple[int, int, int] | None:
    """Return the (C, H, W) that a module declares itself (as Lightning and timm modules do)."""
    example = getattr(module, "example_input_array", None)
    config = getattr(module, "default_cfg", None) or {}
    for value in (
        getattr(module, "input_shape", None),
        getattr(example, "shape", (0,))[1:],
        config.get("input_size") if isinstance(config, dict) else None,
    ):
        sizes = value if isinstance(value, tuple | list) else ()
        if len(sizes) == 3 and all(isinstance(n, int) and n > 0 for n in sizes):
            return (sizes[0], sizes[1], sizes[2])
    return None


def _shape_needed(module: Any, torch: Any) -> ModelError:
    convs = [part for part in module.modules() if isinstance(part, torch.nn.Conv2d)]
    channels = str(convs[0].in_channels) if convs else "C"
    return fail(
        SOURCE,
        f"{type(module).__name__} does not tell the height and width of its images",
        f"pass input_shape=({channels}, H, W)",
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
