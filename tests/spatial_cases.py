"""Cases of operators that know about positions: convolutions, poolings, moves, resizing."""

from __future__ import annotations

import numpy as np
import torch
from operator_case import Array, Case

F = torch.nn.functional


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def _line(x: torch.Tensor) -> torch.Tensor:
    """The image (1, 2, 5, 6) as 4 channels of a line of 15."""
    return x.reshape(1, 4, 15)


def _volume(x: torch.Tensor) -> torch.Tensor:
    """The image (1, 2, 5, 6) as a volume of 5 x 3 x 2."""
    return x.reshape(1, 2, 5, 3, 2)


LINE = {"s": np.array([0, 4, -1])}
VOLUME = {"s": np.array([0, 2, 5, 3, 2])}


def _first_of_ties(x: torch.Tensor) -> torch.Tensor:
    """The maximum over all positions, that of torch.argmax, which says first."""
    flat = x.flatten(2)
    return flat.gather(2, flat.argmax(2)[..., None])[..., None]


CONVOLUTIONS: list[Case] = [
    Case(
        "y = Conv <strides = [1, 1], pads = [1, 0, 0, 2]> (x, w)",
        lambda x, w: F.conv2d(F.pad(x, (0, 2, 1, 0)), w),
        constants={"w": (3, 2, 2, 3)},
    ),
    Case(
        "y = Conv <group = 2, pads = [1, 1, 1, 1]> (x, w, b)",
        lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=2),
        shape=(4, 5, 6),
        constants={"w": (6, 2, 3, 3), "b": (6,)},
    ),
    Case(  # depthwise, two maps for each channel
        "y = Conv <group = 3, pads = [0, 2, 1, 0], dilations = [2, 1]> (x, w)",
        lambda x, w: F.conv2d(F.pad(x, (2, 0, 0, 1)), w, groups=3, dilation=(2, 1)),
        shape=(3, 6, 5),
        constants={"w": (6, 1, 2, 3)},
    ),
    Case(  # two rows and a column are left over
        "y = Conv <strides = [3, 2]> (x, w)",
        lambda x, w: F.conv2d(x, w, stride=(3, 2)),
        shape=(2, 8, 6),
        constants={"w": (3, 2, 3, 3)},
    ),
    Case(
        "y = Conv <strides = [2, 2], pads = [0, 1, 3, 0], dilations = [1, 2], group = 2> (x, w)",
        lambda x, w: F.conv2d(F.pad(x, (1, 0, 0, 3)), w, stride=2, dilation=(1, 2), groups=2),
        constants={"w": (2, 1, 3, 2)},
    ),
    Case(  # stride beyond the kernel: pixels that nothing sees
        "y = Conv <strides = [3, 3], pads = [1, 0, 1, 1]> (x, w)",
        lambda x, w: F.conv2d(F.pad(x, (0, 1, 1, 1)), w, stride=3),
        shape=(2, 7, 8),
        constants={"w": (2, 2, 1, 2)},
    ),
    Case(  # pads larger than the kernel
        "y = Conv <pads = [3, 0, 4, 5]> (x, w)",
        lambda x, w: F.conv2d(F.pad(x, (0, 5, 3, 4)), w),
        constants={"w": (3, 2, 2, 3)},
    ),
    Case(
        "y = Conv <strides = [2, 3], pads = [4, 3, 0, 4]> (x, w)",
        lambda x, w: F.conv2d(F.pad(x, (3, 4, 4, 0)), w, stride=(2, 3)),
        constants={"w": (3, 2, 3, 2)},
    ),
    Case(
        """y = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w)""",
        lambda x, w: F.conv2d(F.pad(x, (0, 1, 1, 1)), w, stride=2),
        constants={"w": (3, 2, 3, 3)},
    ),
    Case(
        """y = Conv <auto_pad = "SAME_LOWER", kernel_shape = [2, 2]> (x, w)""",
        lambda x, w: F.conv2d(F.pad(x, (1, 0, 1, 0)), w),
        constants={"w": (3, 2, 2, 2)},
    ),
    Case(
        """y = Conv <auto_pad = "VALID", dilations = [2, 2]> (x, w)""",
        lambda x, w: F.conv2d(x, w, dilation=2),
        constants={"w": (3, 2, 2, 3)},
    ),
    Case(
        "a = Reshape(x, s); y = Conv <group = 2, pads = [2, 1], strides = [2]> (a, w, b)",
        lambda x, _, w, b: F.conv1d(F.pad(_line(x), (2, 1)), w, b, stride=2, groups=2),
        constants={**LINE, "w": (6, 2, 3), "b": (6,)},
    ),
    Case(
        """a = Reshape(x, s); y = Conv <auto_pad = "SAME_LOWER", dilations = [3]> (a, w)""",
        lambda x, _, w: F.conv1d(F.pad(_line(x), (5, 4)), w, dilation=3),
        constants={**LINE, "w": (3, 4, 4)},
    ),
    Case(  # attention to channels: a convolution along them
        "a = GlobalAveragePool(x); b = Squeeze(a, last); c = Transpose <perm = [0, 2, 1]> (b);"
        "d = Conv <pads = [1, 1]> (c, w); e = Transpose <perm = [0, 2, 1]> (d);"
        "f = Unsqueeze(e, last); g = Sigmoid(f); y = Mul(x, g)",
        lambda x, _, w: (
            x * torch.sigmoid(F.conv1d(x.mean((2, 3))[:, None], w, padding=1))[:, 0, :, None, None]
        ),
        shape=(4, 3, 2),
        constants={"last": ints(-1), "w": (1, 1, 3)},
    ),
    Case(
        "a = Reshape(x, s); y = Conv <pads = [1, 0, 2, 0, 3, 0], strides = [2, 1, 2]> (a, w)",
        lambda x, _, w: F.conv3d(F.pad(_volume(x), (2, 0, 0, 3, 1, 0)), w, stride=(2, 1, 2)),
        constants={**VOLUME, "w": (3, 2, 2, 3, 2)},
    ),
    Case(
        "y = ConvTranspose <strides = [2, 3], pads = [1, 0, 0, 2]> (x, w, b)",
        lambda x, w, b: F.conv_transpose2d(x, w, b, (2, 3))[:, :, 1:, :-2],
        constants={"w": (2, 3, 3, 2), "b": (3,)},
    ),
    Case(
        "y = ConvTranspose <strides = [3, 2], group = 2, dilations = [2, 1],"
        " output_padding = [2, 1], pads = [1, 0, 1, 0]> (x, w)",
        lambda x, w: F.conv_transpose2d(x, w, None, (3, 2), (1, 0), (2, 1), 2, (2, 1)),
        shape=(4, 3, 4),
        constants={"w": (4, 3, 2, 3)},
    ),
    Case(  # pads beyond the kernel
        "y = ConvTranspose <dilations = [3, 1], strides = [3, 1], output_padding = [2, 0],"
        " pads = [0, 3, 0, 0]> (x, w)",
        lambda x, w: F.conv_transpose2d(x, w, None, (3, 1), 0, (2, 0), 1, (3, 1))[..., 3:],
        shape=(1, 3, 6),
        constants={"w": (1, 2, 2, 3)},
    ),
    Case(  # one row too many on each side, and a column more than the kernels reach
        "y = ConvTranspose <strides = [2, 2], output_shape = [9, 14]> (x, w)",
        lambda x, w: F.pad(F.conv_transpose2d(x, w, stride=2), (0, 1))[:, :, 1:-1],
        shape=(2, 5, 6),
        constants={"w": (2, 2, 3, 3)},
    ),
    Case(
        """y = ConvTranspose <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w)""",
        lambda x, w: F.conv_transpose2d(x, w, stride=2)[:, :, :-1, 1:-1],
        constants={"w": (2, 3, 3, 4)},
    ),
    Case(
        """y = ConvTranspose <auto_pad = "SAME_LOWER", strides = [2, 1]> (x, w)""",
        lambda x, w: F.conv_transpose2d(x, w, stride=(2, 1))[:, :, 1:, 1:-1],
        constants={"w": (2, 3, 3, 3)},
    ),
    Case(
        "a = Reshape(x, s); y = ConvTranspose <strides = [2], group = 4, pads = [0, 1]> (a, w)",
        lambda x, _, w: F.conv_transpose1d(_line(x), w, stride=2, groups=4)[..., :-1],
        constants={**LINE, "w": (4, 2, 4)},
    ),
    Case(
        "a = Reshape(x, s);"
        "y = ConvTranspose <strides = [1, 2, 3], output_padding = [0, 1, 2]> (a, w)",
        lambda x, _, w: F.conv_transpose3d(_volume(x), w, None, (1, 2, 3), 0, (0, 1, 2)),
        constants={**VOLUME, "w": (2, 1, 2, 2, 2)},
    ),
]


RAMPS = np.random.default_rng(5).standard_normal((1, 2, 5, 6)).astype(np.float32)
"""What CoordConv joins to its images: shaped with the network's own batch."""

POOLS: list[Case] = [
    Case("y = AveragePool <kernel_shape = [2, 3]> (x)", lambda x: F.avg_pool2d(x, (2, 3), 1)),
    Case(  # windows apart, a row and a column left over
        "y = AveragePool <kernel_shape = [2, 3], strides = [2, 3]> (x)",
        lambda x: F.avg_pool2d(x, (2, 3)),
        shape=(2, 5, 7),
    ),
    Case(  # windows beyond each other
        "y = AveragePool <kernel_shape = [1, 2], strides = [3, 2]> (x)",
        lambda x: F.avg_pool2d(x, (1, 2), (3, 2)),
    ),
    *(
        Case(
            "y = AveragePool <kernel_shape = [3, 2], strides = [2, 3], pads = [1, 1, 1, 1],"
            f" count_include_pad = {int(count)}, ceil_mode = {int(ceil)}> (x)",
            lambda x, count=count, ceil=ceil: F.avg_pool2d(x, (3, 2), (2, 3), 1, ceil, count),
            shape=(2, 6, 8),
            opset=19 if ceil else 11,
        )
        for count in (False, True)
        for ceil in (False, True)
    ),
    Case(  # torch pads alike on both sides
        "y = AveragePool <kernel_shape = [3, 3], pads = [2, 0, 1, 1]> (x)",
        opset=18,
    ),
    Case(
        "y = AveragePool <kernel_shape = [3, 3], pads = [2, 0, 1, 1], strides = [2, 2],"
        " count_include_pad = 1> (x)",
        lambda x: F.avg_pool2d(F.pad(x, (0, 1, 2, 1)), 3, 2),
    ),
    Case(
        "y = AveragePool <kernel_shape = [3, 2], strides = [2, 1],"
        """ auto_pad = "SAME_UPPER"> (x)""",
    ),
    Case(
        """y = AveragePool <kernel_shape = [2, 2], auto_pad = "SAME_LOWER"> (x)""",
        lambda x: F.avg_pool2d(x, 2, 1, 1, count_include_pad=False)[:, :, :-1, :-1],
    ),
    Case(
        "y = AveragePool <kernel_shape = [2, 3], dilations = [2, 1], pads = [2, 0, 0, 1]> (x)",
        opset=19,
    ),
    Case(
        "y = AveragePool <kernel_shape = [2, 2], dilations = [3, 2], strides = [1, 2],"
        " ceil_mode = 1, pads = [0, 1, 0, 1], count_include_pad = 1> (x)",
        opset=19,
    ),
    Case(
        "a = Reshape(x, s); y = AveragePool <kernel_shape = [4], strides = [3], pads = [2, 1],"
        " ceil_mode = 1> (a)",
        constants=LINE,
        opset=19,
    ),
    Case(
        "a = Reshape(x, s); y = AveragePool <kernel_shape = [2], strides = [2]> (a)",
        lambda x, _: F.avg_pool1d(_line(x), 2),
        constants=LINE,
    ),
    Case(
        "a = Reshape(x, s); y = AveragePool <kernel_shape = [3, 2, 1], strides = [2, 1, 2],"
        " pads = [1, 0, 0, 1, 0, 0]> (a)",
        lambda x, _: F.avg_pool3d(_volume(x), (3, 2, 1), (2, 1, 2), (1, 0, 0), False, False),
        constants=VOLUME,
    ),
    Case("y = GlobalAveragePool(x)", lambda x: x.mean((2, 3), keepdim=True)),
    Case(
        "a = Reshape(x, s); y = GlobalAveragePool(a)",
        lambda x, _: x.reshape(1, 4, 15).mean(2, keepdim=True),
        constants=LINE,
    ),
    Case("y = GlobalMaxPool(x)", lambda x: F.max_pool2d(x, (5, 6))),
    Case("y = GlobalMaxPool(x)", _first_of_ties, change=lambda x: np.round(x).clip(-1, 1)),
    Case(
        "y = LpPool <kernel_shape = [2, 3], strides = [1, 2]> (x)",
        lambda x: F.lp_pool2d(x.abs(), 2, (2, 3), (1, 2)),
    ),
    Case(
        "y = LpPool <kernel_shape = [2, 2], p = 3, strides = [2, 3], pads = [0, 1, 1, 0]> (x)",
        lambda x: F.lp_pool2d(F.pad(x.abs(), (1, 0, 0, 1)), 3, 2, (2, 3)),
    ),
    Case(
        "y = LpPool <kernel_shape = [3, 2], p = 1> (x)",
        lambda x: F.avg_pool2d(x.abs(), (3, 2), 1) * 6,
    ),
    Case("a = Relu(x); y = GlobalLpPool(a)", lambda x: (x.relu() ** 2).sum((2, 3), True).sqrt()),
    Case("y = GlobalLpPool <p = 3> (x)", lambda x: (x.abs() ** 3).sum((2, 3), True) ** (1 / 3)),
]

MOVEMENT: list[Case] = [
    Case(
        "y = Reshape(x, s)",
        lambda x, _: x.reshape(1, 5, 6, 2),
        constants={"s": ints(1, 5, -1, 2)},
    ),
    Case(
        "y = Reshape <allowzero = 1> (x, s)",
        lambda x, _: x.reshape(1, 60),
        constants={"s": ints(1, 60)},
    ),
    Case(  # a shuffle of channels, which splits and joins their axis
        "a = Reshape(x, s); b = Transpose <perm = [0, 2, 1, 3, 4]> (a); y = Reshape(b, t)",
        lambda x, *_: x.reshape(1, 2, 3, 4, 5).transpose(1, 2).reshape(1, 6, 4, 5),
        shape=(6, 4, 5),
        constants={"s": ints(1, 2, 3, 4, 5), "t": ints(1, -1, 4, 5)},
    ),
    Case(  # groups join the images, are convolved alike, and part again
        "a = Reshape(x, s); b = Conv(a, w); y = Reshape(b, t)",
        lambda x, _, w, __: F.conv2d(x.reshape(3, 2, 4, 5), w).reshape(1, 6, 3, 4),
        shape=(6, 4, 5),
        constants={"s": ints(3, 2, 4, 5), "w": (2, 2, 2, 2), "t": ints(1, 6, 3, 4)},
    ),
    Case(  # the images in the middle, joined with rows
        "a = Transpose <perm = [1, 0, 2, 3]> (x); b = Reshape(a, s); c = Relu(b);"
        "d = Reshape(c, t); y = Transpose <perm = [1, 0, 2, 3]> (d)",
        lambda x, *_: torch.relu(x),
        constants={"s": ints(2, 5, 6), "t": ints(2, 1, 5, 6)},
    ),
    Case("a = Flatten(x); y = Mul(a, a)", lambda x: x.flatten(1) ** 2),
    Case("y = Flatten <axis = 0> (x)", lambda x: x.reshape(1, -1)),
    Case(
        "a = Flatten <axis = 4> (x); b = Relu(a); y = Reshape(b, s)",
        lambda x, _: torch.relu(x.reshape(1, 60)),
        constants={"s": ints(1, 60)},
    ),
    Case(
        "a = Flatten <axis = -2> (x); b = Relu(a); y = Reshape(b, s)",
        lambda x, _: torch.relu(x.reshape(1, 60)),
        constants={"s": ints(1, -1)},
    ),
    Case(
        "a = Unsqueeze(x, s); b = Relu(a); y = Squeeze(b, t)",
        lambda x, *_: torch.relu(x),
        constants={"s": ints(0, -1, 2), "t": ints(-1, 0)},
    ),
    Case(
        "a = Unsqueeze <axes = [0, 3]> (x); b = Relu(a); y = Squeeze <axes = [0]> (b)",
        lambda x: torch.relu(x)[:, :, None],
        opset=11,
    ),
    Case("y = Transpose <perm = [0, 3, 1, 2]> (x)", lambda x: x.permute(0, 3, 1, 2)),
    Case("a = Transpose(x); b = Relu(a); y = Transpose(b)", torch.relu),
    Case(
        "y = Expand(x, s)",
        lambda x, _: x.expand(1, 2, 4, 6),
        shape=(2, 1, 6),
        constants={"s": ints(1, 1, 4, 1)},
    ),
    Case(
        "a = Reshape(x, s); b = Expand(a, t); y = Transpose <perm = [2, 0, 1, 3, 4]> (b)",
        lambda x, *_: x.reshape(1, 12, 1).expand(1, 2, 3, 12, 4),
        shape=(1, 6, 2),
        constants={"s": ints(1, 12, 1), "t": ints(2, 3, 1, 12, 4)},
    ),
    Case(
        "a = Relu(x); y = Concat <axis = 1> (x, a, x)",
        lambda x: torch.cat([x, torch.relu(x), x], 1),
    ),
    Case(
        "a = Transpose <perm = [0, 1, 3, 2]> (x); y = Concat <axis = -1> (x, a)",
        lambda x: torch.cat([x, x.mT], -1),
        shape=(2, 5, 5),
    ),
    Case(  # as CoordConv does
        "y = Concat <axis = 1> (a, x, b)",
        lambda x, a, b: torch.cat([a, x, b], 1),
        constants={"a": RAMPS[:, :1], "b": RAMPS},
    ),
    Case(
        "a = Relu(x); b = Concat <axis = 2> (a, r, x); y = Mul(b, b)",
        lambda x, r: torch.cat([torch.relu(x), r, x], 2) ** 2,
        constants={"r": RAMPS[:, :, :3]},
    ),
    Case(
        "a, b = Split <axis = 1, num_outputs = 2> (x); c = Sigmoid(a); y = Mul(c, b)",
        lambda x: torch.sigmoid(x[:, :2]) * x[:, 2:],
        shape=(4, 3, 5),
    ),
    Case(  # the last of equal parts is shorter
        "a, b, c = Split <axis = -1, num_outputs = 3> (x); y = Mul(a, b)",
        lambda x: x[..., :3] * x[..., 3:6],
        shape=(2, 3, 8),
    ),
    Case(
        "a, b, c, d = Split <axis = 1> (x, s); e = Mul(b, d); y = Relu(e)",
        lambda x, _: torch.relu(x[:, 1:3] * x[:, 4:]),
        shape=(6, 3, 4),
        constants={"s": ints(1, 2, 1, 2)},
    ),
    Case(
        "a, b = Split <axis = 2> (x); y = Mul(b, b)",
        lambda x: x[:, :, 2:] ** 2,
        shape=(2, 4, 5),
        opset=13,
    ),
    Case(
        "a, b = Split <axis = 2, split = [3, 1]> (x); y = Relu(a)",
        lambda x: torch.relu(x[:, :, :3]),
        shape=(2, 4, 5),
        opset=11,
    ),
    Case(
        "y = Slice(x, s, e, a)",
        lambda x, *_: x[:, :, 1:4, 2:-1],
        constants={"s": ints(1, -4), "e": ints(4, -1), "a": ints(2, -1)},
    ),
    Case(
        "y = Slice(x, s, e, a, t)",
        lambda x, *_: x[:, :, 1::2].flip(3)[..., ::3],
        shape=(2, 6, 7),
        constants={
            "s": ints(1, 100),
            "e": ints(2**63 - 1, -(2**63)),
            "a": ints(2, 3),
            "t": ints(2, -3),
        },
    ),
    Case(  # one channel, seen from behind, of axes in any order, one of them whole
        "y = Slice(x, s, e, a, t)",
        lambda x, *_: x[:, 1:2].flip(2)[:, :, :3],
        constants={
            "s": ints(-1, 0, 1),
            "e": ints(-4, 9, 2),
            "a": ints(2, 0, 1),
            "t": ints(-1, 1, 1),
        },
    ),
    Case(
        "y = Slice <starts = [1, -3], ends = [2, 1000], axes = [1, 3]> (x)",
        lambda x: x[:, 1:2, :, -3:],
        opset=9,
    ),
    Case(
        "y = Slice <starts = [0, 1], ends = [9, 2]> (x)",
        lambda x: x[:, 1:2],
        opset=7,
    ),
    Case(
        "y = Pad(x, p, v)",
        lambda x, p, v: F.pad(x, (0, 3, 2, 1), value=0.7),
        constants={"p": ints(0, 0, 2, 0, 0, 0, 1, 3), "v": np.array(0.7, np.float32)},
    ),
    Case(
        "y = Pad(x, p)",
        lambda x, p: F.pad(x, (-2, 0, 1, -3)),
        constants={"p": ints(0, 0, 1, -2, 0, 0, -3, 0)},
    ),
    Case(
        "y = Pad(x, p, , a)",
        lambda x, *_: F.pad(x, (1, 2, 0, 0, 0, 1)),
        constants={"p": ints(1, 0, 2, 1), "a": ints(-1, 1)},
    ),
    Case(
        """y = Pad <mode = "edge"> (x, p)""",
        lambda x, p: F.pad(x, (1, 6, 2, 0), mode="replicate"),
        constants={"p": ints(0, 0, 2, 1, 0, 0, 0, 6)},
    ),
    Case(
        """y = Pad <mode = "reflect"> (x, p)""",
        lambda x, p: F.pad(x, (5, 3, 1, 4), mode="reflect"),
        constants={"p": ints(0, 0, 1, 5, 0, 0, 4, 3)},
    ),
    Case(
        """y = Pad <mode = "reflect", pads = [0, 0, 0, 2, 0, 0, 1, 0]> (x)""",
        lambda x: F.pad(x, (2, 0, 0, 1), mode="reflect"),
        opset=9,
    ),
    Case(
        """y = Pad <mode = "constant", pads = [0, 0, -1, 2, 0, 0, 1, 0], value = 0.5> (x)""",
        lambda x: F.pad(x, (2, 0, -1, 1), value=0.5),
        opset=7,
    ),
    Case(
        """y = Pad <mode = "edge"> (x, p)""",
        lambda x, p: F.pad(x, (2, 1, 0, 0), mode="replicate")[:, :, 2:],
        constants={"p": ints(0, 0, -2, 2, 0, 0, 0, 1)},
    ),
    Case(
        """y = Pad <mode = "wrap"> (x, p, , a)""",
        lambda x, *_: F.pad(x, (3, 2, 0, 1), mode="circular"),
        constants={"p": ints(0, 3, 1, 2), "a": ints(2, 3)},
        opset=19,
    ),
    Case(
        "y = Gather <axis = 1> (x, i)",
        lambda x, i: x[:, i],
        shape=(4, 2, 5),
        constants={"i": ints(2, -1, 2, 0, 2)},
    ),
    Case(
        "y = Gather <axis = -1> (x, i)",
        lambda x, i: x[..., i],
        constants={"i": ints(5, 0, 1, 0, -6, 0, 0, 0, 4).reshape(3, 3)},
    ),
    Case(
        "y = Gather <axis = 2> (x, i)",
        lambda x, i: x[:, :, 3],
        constants={"i": np.array(-2)},
    ),
    Case(
        "a = Transpose <perm = [1, 2, 3, 0]> (x); b = Gather <axis = 1> (a, i); c = Relu(b);"
        "y = Transpose <perm = [4, 0, 1, 2, 3]> (c)",
        lambda x, i: torch.relu(x[:, :, i]),
        constants={"i": ints(4, 0, 0, 2).reshape(2, 2)},
    ),
    Case(
        "y = Tile(x, r)",
        lambda x, r: x.tile(1, 3, 1, 2),
        shape=(2, 2, 4),
        constants={"r": ints(1, 3, 1, 2)},
    ),
    Case(
        "a = Tile(x, r); y = Relu(a)",
        lambda x, r: torch.relu(x),
        constants={"r": ints(1, 1, 1, 1)},
    ),
    Case(
        "y = DepthToSpace <blocksize = 2> (x)",
        lambda x: x.reshape(1, 2, 2, 2, 3, 4).permute(0, 3, 4, 1, 5, 2).reshape(1, 2, 6, 8),
        shape=(8, 3, 4),
    ),
    Case(
        """y = DepthToSpace <blocksize = 3, mode = "CRD"> (x)""",
        lambda x: F.pixel_shuffle(x, 3),
        shape=(18, 2, 4),
    ),
    Case(
        "y = SpaceToDepth <blocksize = 2> (x)",
        lambda x: x.reshape(1, 3, 2, 2, 3, 2).permute(0, 3, 5, 1, 2, 4).reshape(1, 12, 2, 3),
        shape=(3, 4, 6),
    ),
    Case(  # positions come first and images second, and both become one axis, as in attention
        """f = Reshape(x, flat); t = Transpose <perm = [2, 0, 1]> (f); r = Reshape(t, long);
        g = Gemm(r, a, b); s = Tanh(g); l = LayerNormalization(s, c); m = MatMul(l, d);
        back = Reshape(m, apart); y = Transpose <perm = [1, 2, 0]> (back)""",
        lambda x, flat, long, apart, a, b, c, d: (
            (F.layer_norm((x.flatten(2).mT @ a + b).tanh(), (4,)) * c @ d).mT
        ),
        constants={
            "flat": ints(0, 2, -1),
            "long": ints(30, 2),
            "apart": ints(30, -1, 3),
            "a": (2, 4),
            "b": (4,),
            "c": (4,),
            "d": (4, 3),
        },
    ),
]
