"""Networks of Paddle: ``python paddle_models.py NAME OPSET PATH`` exports one.

A process of its own does so, for Paddle and TensorFlow bring each other down in one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional as F


class Excite(nn.Layer):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.down, self.up = nn.Conv2D(channels, 4, 1), nn.Conv2D(4, channels, 1)

    def forward(self, x: Any) -> Any:
        return x * F.hardsigmoid(self.up(F.relu(self.down(self.pool(x)))), slope=0.2, offset=0.5)


class LcNet(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2D(3, 8, 3, 2, 1, bias_attr=False)
        self.norm, self.excite = nn.BatchNorm2D(8), Excite(8)
        self.depthwise, self.wide = nn.Conv2D(8, 8, 5, 1, 2, groups=8), nn.Conv2D(8, 12, 1)
        self.last = nn.Linear(12, 5)

    def forward(self, x: Any) -> Any:
        x = F.hardswish(self.norm(self.first(x)))
        x = self.excite(F.hardswish(self.depthwise(x)))
        x = F.adaptive_avg_pool2d(F.hardswish(self.wide(x)), 1)
        return F.softmax(self.last(paddle.flatten(x, 1)))


class Detector(nn.Layer):
    """Upsampled to a size that is computed, a mirrored border, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2D(3, 6, 3, 2, 1), nn.Conv2D(6, 8, 3, 2, 1)
        self.join, self.norm = nn.Conv2D(14, 6, 3, padding=1), nn.GroupNorm(2, 6)
        self.up, self.last = nn.Conv2DTranspose(6, 4, 2, 2), nn.Conv2D(4, 3, 3)

    def forward(self, x: Any) -> Any:
        fine = F.relu6(self.fine(x))
        coarse = F.leaky_relu(self.coarse(fine))
        coarse = F.interpolate(coarse, size=paddle.shape(fine)[2:], mode="nearest")
        y = F.silu(self.norm(self.join(paddle.concat([fine, coarse], 1))))
        return F.gelu(self.last(F.pad(self.up(y), [1, 1, 0, 2], mode="reflect")))


ALL = {"lcnet": LcNet, "detector": Detector}


def export(name: str, opset: int, path: Path) -> None:
    paddle.seed(0)
    model = ALL[name]()
    model.eval()
    image = paddle.static.InputSpec([None, 3, 24, 32], "float32", "x")
    paddle.onnx.export(model, str(path.with_suffix("")), input_spec=[image], opset_version=opset)


if __name__ == "__main__":
    export(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
