"""The part of the table of ``test_operators.py`` about resized images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from operator_case import Case, Truth

F = torch.nn.functional


def _sizes(*numbers: int) -> dict[str, Any]:
    return {"s": np.array(numbers, np.int64)}


def _scales(*numbers: float) -> dict[str, Any]:
    return {"s": np.array(numbers, np.float32)}


def _to(size: tuple[int, int], mode: str, **more: Any) -> Truth:
    return lambda x, _: F.interpolate(x, size, mode=mode, **more)


def _picked(rows: list[int], columns: list[int]) -> Truth:
    return lambda x, *_: x[:, :, rows][..., columns]


def _position(mode: str, how: str, more: str = "") -> str:
    given = f'mode = "{mode}", coordinate_transformation_mode = "{how}"'
    return f"y = Resize <{given}{more}> (x, , , s)"


RESIZED = [
    # nearest: whole and broken factors, both rules of rounding a tie, and sizes that scales miss
    Case(
        'y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",'
        ' nearest_mode = "floor"> (x, , s)',
        lambda x, _: F.interpolate(x, scale_factor=(3, 2)),
        constants=_scales(1, 1, 3, 2),
        opset=13,
    ),
    Case(
        _position("nearest", "asymmetric", ', nearest_mode = "floor"'),
        _to((7, 9), "nearest"),
        shape=(2, 5, 4),
        constants=_sizes(1, 2, 7, 9),
        opset=11,
    ),
    Case(
        _position("nearest", "half_pixel"),
        _picked([0, 1, 1, 2, 3, 3, 4], [0, 2, 4]),
        constants=_sizes(1, 2, 7, 3),
    ),
    Case(
        _position("nearest", "half_pixel", ', nearest_mode = "round_prefer_ceil"'),
        _picked([0, 1, 1, 2, 3, 3, 4], [1, 3, 5]),
        constants=_sizes(1, 2, 7, 3),
    ),
    Case(
        _position("nearest", "align_corners", ', nearest_mode = "ceil"'),
        _picked([0, 2, 3, 4], [0]),
        shape=(2, 5, 4),
        constants=_sizes(1, 2, 4, 1),
    ),
    Case(
        _position("nearest", "tf_half_pixel_for_nn", ', nearest_mode = "floor"'),
        _picked([0, 0, 1, 1, 2, 2], [0, 2, 3]),
        shape=(2, 3, 4),
        constants=_sizes(1, 2, 6, 3),
        opset=12,
    ),
    # linear and cubic, larger and smaller
    Case(
        _position("linear", "half_pixel"),
        _to((7, 3), "bilinear", align_corners=False),
        constants=_sizes(1, 2, 7, 3),
    ),
    Case(
        _position("linear", "align_corners"),
        _to((8, 1), "bilinear", align_corners=True),
        constants=_sizes(1, 2, 8, 1),
    ),
    Case(
        _position("linear", "pytorch_half_pixel"),
        _to((10, 9), "bilinear", align_corners=False),
        constants=_sizes(1, 2, 10, 9),
        opset=11,
    ),
    Case(
        _position("cubic", "half_pixel"),
        _to((9, 4), "bicubic", align_corners=False),
        constants=_sizes(1, 2, 9, 4),
    ),
    Case(
        _position("cubic", "align_corners"),
        _to((3, 11), "bicubic", align_corners=True),
        constants=_sizes(1, 2, 3, 11),
        opset=13,
    ),
    Case(
        _position("linear", "half_pixel", ", antialias = 1, exclude_outside = 1"),
        _to((2, 7), "bilinear", align_corners=False, antialias=True),
        constants=_sizes(1, 2, 2, 7),
    ),
    Case(
        'y = Resize <mode = "linear"> (x, , s)',
        lambda x, _: F.interpolate(
            x, scale_factor=(1.7, 0.6), mode="bilinear", recompute_scale_factor=False
        ),
        shape=(2, 6, 8),
        constants=_scales(1, 1, 1.7, 0.6),
    ),
    Case(  # centred where 1.6 times 4 is no whole number
        'y = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel_symmetric">'
        " (x, , s)",
        shape=(2, 4, 5),
        constants=_scales(1, 1, 1.6, 1),
        opset=19,
    ),
    # some axes, in any order; in proportion
    Case(
        'y = Resize <mode = "linear", axes = [3, 2]> (x, , , s)',
        _to((7, 8), "bilinear", align_corners=False),
        constants=_sizes(8, 7),
    ),
    Case(
        'y = Resize <mode = "linear", axes = [2, 3], keep_aspect_ratio_policy = "not_larger">'
        " (x, , , s)",
        lambda x, _: F.interpolate(x, scale_factor=1.5, mode="bilinear"),
        shape=(2, 4, 6),
        constants=_sizes(7, 9),
    ),
    Case(
        "t = Transpose <perm = [0, 2, 3, 1]> (x);"
        'r = Resize <mode = "linear"> (t, , s); y = Transpose <perm = [0, 3, 1, 2]> (r)',
        lambda x, _: F.interpolate(x, scale_factor=2, mode="bilinear"),
        constants=_scales(1, 2, 2, 1),
    ),
    # before operator set 11, positions were divided by the scale
    Case(
        'u = Upsample <mode = "linear"> (x, s); y = Relu(u)',
        lambda x, _: F.pad(
            torch.relu(F.interpolate(x, (9, 11), mode="bilinear", align_corners=True)),
            (0, 1, 0, 1),
            mode="replicate",
        ),
        constants=_scales(1, 1, 2, 2),
        opset=9,
    ),
    Case(
        'y = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 3.0]> (x)',
        lambda x: F.interpolate(x, scale_factor=(2, 3)),
        opset=7,
    ),
    Case(
        'y = Resize <mode = "nearest"> (x, s)',
        lambda x, _: F.interpolate(x, scale_factor=(1.7, 3.4)),
        constants=_scales(1, 1, 1.7, 3.4),
        opset=10,
    ),
]
