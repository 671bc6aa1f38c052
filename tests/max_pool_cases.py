"""Maximum poolings, for the table of operators: values as they are, and full of ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from operator_case import Case, Truth, tied

F = torch.nn.functional


def _max_pool(kernel: Any, pads: tuple[int, int, int, int] = (0, 0, 0, 0), **more: Any) -> Truth:
    """Maximum pooling, `pads` being (left, right, top, bottom)."""

    def truth(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.pad(x, pads, value=-torch.inf), kernel, **more)

    return truth


MAX_POOLS: list[tuple[str, tuple[int, int, int], Truth]] = [
    # windows that do not overlap
    ("kernel_shape = [2, 2], strides = [2, 2]", (2, 4, 6), _max_pool(2)),
    ("kernel_shape = [2, 2], strides = [2, 2]", (3, 5, 7), _max_pool(2)),
    ("kernel_shape = [3, 3], strides = [3, 3]", (2, 9, 10), _max_pool(3)),
    ("kernel_shape = [3, 1], strides = [3, 2]", (2, 7, 6), _max_pool((3, 1), stride=(3, 2))),
    ("kernel_shape = [1, 3], strides = [1, 3]", (2, 5, 6), _max_pool((1, 3))),
    ("kernel_shape = [1, 1], strides = [2, 3]", (2, 5, 6), _max_pool(1, stride=(2, 3))),
    ("kernel_shape = [2, 3], strides = [4, 5]", (2, 8, 12), _max_pool((2, 3), stride=(4, 5))),
    ("kernel_shape = [2, 2], strides = [3, 3]", (2, 5, 8), _max_pool(2, stride=3)),
    (
        "kernel_shape = [2, 3], strides = [2, 3], pads = [1, 0, 0, 2]",
        (2, 5, 7),
        _max_pool((2, 3), (0, 2, 1, 0)),
    ),
    (
        "kernel_shape = [2, 2], strides = [3, 3], pads = [1, 1, 0, 1]",
        (2, 6, 6),
        _max_pool(2, (1, 1, 1, 0), stride=3),
    ),
    (
        'kernel_shape = [2, 4], strides = [2, 4], auto_pad = "SAME_UPPER"',
        (2, 5, 6),
        _max_pool((2, 4), (1, 1, 0, 1)),
    ),
    (
        'kernel_shape = [2, 3], strides = [2, 3], auto_pad = "SAME_LOWER"',
        (2, 5, 7),
        _max_pool((2, 3), (1, 1, 1, 0)),
    ),
    (
        'kernel_shape = [2, 2], strides = [2, 2], auto_pad = "VALID", storage_order = 1',
        (2, 5, 6),
        _max_pool(2),
    ),
    (
        "kernel_shape = [2, 3], strides = [2, 3], ceil_mode = 1",
        (2, 5, 7),
        _max_pool((2, 3), ceil_mode=True),
    ),
    # windows that overlap, have holes, or are large
    ("kernel_shape = [3, 2], strides = [2, 1]", (2, 5, 6), _max_pool((3, 2), stride=(2, 1))),
    ("kernel_shape = [2, 2]", (2, 5, 6), _max_pool(2, stride=1)),
    (
        "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], storage_order = 1",
        (2, 6, 7),
        _max_pool(3, (1, 1, 1, 1), stride=2),
    ),
    (
        "kernel_shape = [3, 3], strides = [2, 2], pads = [0, 1, 0, 0], ceil_mode = 1",
        (2, 6, 7),
        _max_pool(3, (1, 0, 0, 0), stride=2, ceil_mode=True),
    ),
    (
        'kernel_shape = [3, 4], strides = [2, 2], auto_pad = "SAME_UPPER"',
        (2, 6, 7),
        _max_pool((3, 4), (1, 2, 0, 1), stride=2),
    ),
    (
        'kernel_shape = [3, 4], strides = [2, 2], auto_pad = "SAME_LOWER"',
        (2, 6, 7),
        _max_pool((3, 4), (2, 1, 1, 0), stride=2),
    ),
    (
        "kernel_shape = [2, 2], strides = [3, 3], dilations = [2, 2]",
        (2, 7, 6),
        _max_pool(2, stride=3, dilation=2),
    ),
    (
        "kernel_shape = [2, 3], strides = [1, 2], dilations = [3, 2], pads = [1, 2, 1, 1]",
        (2, 6, 7),
        _max_pool((2, 3), (2, 1, 1, 1), stride=(1, 2), dilation=(3, 2)),
    ),
    ("kernel_shape = [9, 2], strides = [9, 2]", (1, 19, 4), _max_pool((9, 2))),
]

MAXIMA = [
    Case(f"y = MaxPool <{attributes}> (x)", truth, shape, change=change)
    for attributes, shape, truth in MAX_POOLS
    for change in (np.asarray, tied)
]
