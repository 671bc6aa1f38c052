"""Networks as torch modules: one function each, named as its architecture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from .blocks import (
    Calls,
    ChannelNorm,
    Excite,
    Joined,
    Layered,
    Residual,
    SpeltNorm,
    Tensor,
    Up,
    bare,
    conv,
    shuffle,
)

Net = nn.Sequential


def _head(channels: int, classes: int = 5) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def vgg_bn_after_relu() -> nn.Module:
    parts = []
    for inside, outside in ((3, 6), (6, 8), (8, 8)):
        parts += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outside)]
        parts += [nn.MaxPool2d(2)]
    return Net(*parts, nn.Flatten(), nn.Linear(8 * 16, 5), nn.Softmax(1))


def _basic(inside: int, outside: int, stride: int = 1) -> nn.Module:
    short = bare(inside, outside, stride=stride) if (inside, stride) != (outside, 1) else None
    branch = Net(conv(inside, outside, stride=stride), bare(outside, outside, 3))
    return Residual(branch, short, nn.ReLU())


def resnet() -> nn.Module:
    stem = Net(conv(3, 8, 7, stride=2), nn.MaxPool2d(3, 2, 1))
    return Net(stem, _basic(8, 8), _basic(8, 12, 2), *_head(12))


def resnet_60() -> nn.Module:
    """A stem and 30 blocks: 61 convolutions one behind the other."""
    return Net(conv(1, 4), *(_basic(4, 4) for _ in range(30)), *_head(4))


def resnet_preactivated() -> nn.Module:
    def block() -> nn.Module:
        return Residual(
            Net(
                *(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, bias=False)),
                *(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, bias=False)),
            )
        )

    return Net(nn.Conv2d(1, 8, 3, padding=1), block(), block(), nn.BatchNorm2d(8), nn.ReLU())


def resnext_se() -> nn.Module:
    def block(width: int) -> nn.Module:
        branch = Net(
            conv(width, 8, 1),
            conv(8, 8, 3, groups=4),
            bare(8, width),
            Excite(width, nn.Sigmoid(), dense=True),
        )
        return Residual(branch, None, nn.ReLU())

    return Net(conv(3, 8, stride=2), block(8), block(8), *_head(8))


def res2net() -> nn.Module:
    def scales(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        first, second, third = torch.split(x, 4, 1)
        second = a(second)
        return torch.cat([first, second, b(second + third)], 1)

    return Net(conv(3, 12), Residual(Calls(scales, conv(4, 4), conv(4, 4)), None, nn.ReLU()))


def densenet() -> nn.Module:
    def layer(inside: int) -> nn.Module:
        return Net(
            *(nn.BatchNorm2d(inside), nn.ReLU(), nn.Conv2d(inside, 8, 1, bias=False)),
            *(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1, bias=False)),
        )

    def between(inside: int) -> nn.Module:
        return Net(nn.BatchNorm2d(inside), nn.ReLU(), nn.Conv2d(inside, 8, 1), nn.AvgPool2d(2))

    first, second = (Layered([layer(8), layer(12), layer(16)]) for _ in range(2))
    stem = Net(conv(3, 8, 7, stride=2), nn.MaxPool2d(3, 2, 1))
    return Net(stem, first, between(20), second, nn.BatchNorm2d(20), nn.ReLU(), *_head(20))


def _inverted(
    inside: int,
    outside: int,
    act: Callable[[], nn.Module],
    gate: nn.Module | None = None,
    kernel: int = 3,
    stride: int = 1,
) -> nn.Module:
    wide = inside * 3
    excite = [Excite(wide, gate)] if gate is not None else []
    depthwise = conv(wide, wide, kernel, act(), groups=wide, stride=stride)
    block = Net(conv(inside, wide, 1, act()), depthwise, *excite, bare(wide, outside))
    return Residual(block) if (inside, stride) == (outside, 1) else block


def mobilenet_v1() -> nn.Module:
    def separable(inside: int, outside: int, stride: int = 1) -> nn.Module:
        return Net(conv(inside, inside, groups=inside, stride=stride), conv(inside, outside, 1))

    return Net(conv(3, 8, stride=2), separable(8, 12), separable(12, 16, 2), *_head(16))


def mobilenet_v2() -> nn.Module:
    blocks = [_inverted(6, 6, nn.ReLU6), _inverted(6, 8, nn.ReLU6, stride=2)]
    blocks += [_inverted(8, 8, nn.ReLU6)]
    return Net(conv(3, 6, 3, nn.ReLU6(), stride=2), *blocks, conv(8, 12, 1, nn.ReLU6()), *_head(12))


def mobilenet_v3() -> nn.Module:
    blocks = [
        _inverted(6, 6, nn.ReLU, nn.Hardsigmoid()),
        _inverted(6, 8, nn.Hardswish, nn.Hardsigmoid(), 5, 2),
        _inverted(8, 8, nn.Hardswish),
    ]
    stem = conv(3, 6, 3, nn.Hardswish(), stride=2)
    return Net(stem, *blocks, conv(8, 12, 1, nn.Hardswish()), *_head(12))


def efficientnet() -> nn.Module:
    def same(x: Tensor, part: nn.Module) -> Tensor:
        return part(F.pad(x, (0, 1, 0, 1)))

    stem = Calls(same, Net(nn.Conv2d(3, 6, 3, 2, bias=False), nn.BatchNorm2d(6), nn.SiLU()))
    blocks = [_inverted(6, 6, nn.SiLU, nn.Sigmoid()), _inverted(6, 8, nn.SiLU, nn.Sigmoid(), 5, 2)]
    return Net(stem, *blocks, conv(8, 12, 1, nn.SiLU()), *_head(12))


class _ScaledBlock(nn.Module):
    """ConvNeXt's block, its dense layers on channels last, and its layer scale."""

    def __init__(self, width: int, approximate: str) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)
        self.act = nn.GELU(approximate=approximate)
        self.scale = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(self.act(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


def _convnext(approximate: str) -> nn.Module:
    stem = Net(nn.Conv2d(3, 8, 2, 2), SpeltNorm(8))
    down = Net(ChannelNorm(8), nn.Conv2d(8, 10, 2, 2))
    blocks = [_ScaledBlock(8, approximate), down, _ScaledBlock(10, approximate)]
    return Net(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(10))


def convnext_erf() -> nn.Module:
    return _convnext("none")


def convnext_tanh() -> nn.Module:
    return _convnext("tanh")


def convnext_pointwise() -> nn.Module:
    """ConvNeXt with 1×1 convolutions and GELU between them, as timm's ``conv_mlp``."""

    def block(act: nn.Module) -> nn.Module:
        parts = (nn.Conv2d(8, 8, 7, padding=3, groups=8), SpeltNorm(8))
        return Residual(Net(*parts, nn.Conv2d(8, 16, 1), act, nn.Conv2d(16, 8, 1)))

    return Net(nn.Conv2d(3, 8, 4, 4), block(nn.GELU()), block(nn.GELU(approximate="tanh")))


class _UNet(nn.Module):
    def __init__(self, low: Up, high: Up) -> None:
        super().__init__()
        self.down = nn.ModuleList([conv(1, 6), conv(6, 8), conv(8, 12)])
        self.low, self.high = low, high
        self.up = nn.ModuleList([conv(20, 8), conv(14, 6)])
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.down[0](x)
        second = self.down[1](F.max_pool2d(first, 2))
        third = self.down[2](F.max_pool2d(second, 2))
        x = self.up[0](self.low(third, second))
        x = self.up[1](self.high(x, first))
        return self.last(x), third


def unet_transposed() -> nn.Module:
    """With two outputs."""
    return _UNet(Up(nn.ConvTranspose2d(12, 12, 2, 2)), Up(nn.ConvTranspose2d(8, 8, 4, 2, 1)))


def unet_resized() -> nn.Module:
    return _UNet(Up(None, mode="bilinear", align_corners=True), Up(None, mode="nearest"))


def unet_bicubic() -> nn.Module:
    return _UNet(Up(None, mode="bilinear", align_corners=False), Up(None, mode="bicubic"))


def inception() -> nn.Module:
    def mixed(inside: int, count: bool) -> nn.Module:
        pool = nn.AvgPool2d(3, 1, 1, count_include_pad=count)
        return Joined(
            conv(inside, 4, 1),
            Net(conv(inside, 4, 1), conv(4, 4, (1, 7)), conv(4, 6, (7, 1))),
            Net(conv(inside, 4, 1), conv(4, 4, 5)),
            Net(pool, conv(inside, 4, 1)),
        )

    def shrunk(inside: int) -> nn.Module:
        more = {"stride": 2, "padding": 0}
        return Joined(conv(inside, 4, **more), nn.MaxPool2d(3, 2, ceil_mode=False))

    blocks = [mixed(6, True), shrunk(18), mixed(22, False)]
    return Net(conv(3, 6, stride=2, padding=0), *blocks, nn.MaxPool2d(3, 2, ceil_mode=True))


def deeplab() -> nn.Module:
    def pooled(x: Tensor, part: nn.Module) -> Tensor:
        mean = part(F.adaptive_avg_pool2d(x, 1))
        return F.interpolate(mean, size=x.shape[-2:], mode="bilinear", align_corners=False)

    rates = [conv(8, 4, 3, dilation=rate) for rate in (2, 4, 6)]
    aspp = Joined(conv(8, 4, 1), *rates, Calls(pooled, conv(8, 4, 1)))
    body = Net(conv(3, 8, stride=2), conv(8, 8, dilation=2), aspp, conv(20, 8, 1))

    def whole(x: Tensor, part: nn.Module, last: nn.Module) -> Tensor:
        return F.interpolate(last(part(x)), x.shape[2:], mode="bilinear", align_corners=False)

    return Calls(whole, body, nn.Conv2d(8, 3, 1))


def shufflenet() -> nn.Module:
    def half(x: Tensor, branch: nn.Module) -> Tensor:
        kept, used = x.chunk(2, dim=1)
        return shuffle(torch.cat((kept, branch(used)), 1))

    def branch(inside: int, stride: int) -> nn.Module:
        depthwise = bare(4, 4, 3, groups=4, stride=stride)
        return Net(conv(inside, 4, 1), depthwise, conv(4, 4, 1))

    short = Net(bare(4, 4, 3, groups=4, stride=2), conv(4, 4, 1))
    down = Net(Joined(short, branch(4, 2)), Calls(shuffle))
    return Net(conv(3, 4), down, Calls(half, branch(4, 1)), conv(8, 12, 1), *_head(12))


def group_normalised() -> nn.Module:
    def norm(channels: int) -> nn.Module:
        return nn.GroupNorm(2, channels)

    def affine(channels: int) -> nn.Module:
        layer = nn.GroupNorm(channels // 2, channels)
        nn.init.uniform_(layer.weight, 0.5, 1.5)
        nn.init.uniform_(layer.bias, -0.5, 0.5)
        return layer

    return Net(conv(3, 6, norm=norm), conv(6, 8, norm=affine, stride=2), conv(8, 8, norm=norm))


def instance_normalised() -> nn.Module:
    """Style transfer's blocks: reflected borders, instance normalisation with and without gain."""

    def norm(channels: int) -> nn.Module:
        return nn.InstanceNorm2d(channels, affine=True)

    first = Net(nn.ReflectionPad2d(2), conv(3, 6, 5, norm=norm, padding=0))
    block = Residual(Net(conv(8, 8, norm=nn.InstanceNorm2d), bare(8, 8, 3, norm=norm)))
    up = Net(nn.Upsample(scale_factor=2), nn.ReplicationPad2d(1), conv(8, 6, norm=norm, padding=0))
    return Net(first, conv(6, 8, stride=2, norm=norm), block, up, nn.Conv2d(6, 3, 1), nn.Tanh())


def alexnet() -> nn.Module:
    def stage(inside: int, outside: int, kernel: int, **more: int) -> nn.Module:
        parts = nn.Conv2d(inside, outside, kernel, padding=2, **more), nn.ReLU()
        return Net(*parts, nn.LocalResponseNorm(5, 1e-1, 0.75, 1.0), nn.MaxPool2d(3, 2))

    tail = [nn.Dropout(0.5), nn.Linear(10 * 9, 5)]
    last = conv(10, 10, norm=None)
    return Net(
        stage(3, 8, 5, stride=1),
        stage(8, 10, 5, groups=2),
        last,
        nn.MaxPool2d(2),
        nn.Flatten(),
        *tail,
    )


class _Cbam(nn.Module):
    """Attention over channels, from mean and maximum, then over positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = Net(nn.Conv2d(channels, 3, 1), nn.ReLU(), nn.Conv2d(3, channels, 1))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean, top = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        x = x * torch.sigmoid(self.mlp(mean) + self.mlp(top))
        maps = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return x * torch.sigmoid(self.spatial(maps))


def cbam() -> nn.Module:
    return Net(conv(3, 8, stride=2), _Cbam(8), conv(8, 8), *_head(8))


class _NonLocal(nn.Module):
    """Every position attends to every other; softmax in between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.queries, self.keys, self.values = (nn.Conv2d(channels, 4, 1) for _ in range(3))
        self.out = nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, high, wide = x.shape
        queries = self.queries(x).view(batch, 4, -1).permute(0, 2, 1)
        keys, values = self.keys(x).view(batch, 4, -1), self.values(x).view(batch, 4, -1)
        shares = torch.softmax(torch.bmm(queries, keys) / 2, -1)
        mixed = torch.bmm(values, shares.permute(0, 2, 1))
        return x + self.out(mixed.view(batch, 4, high, wide))


def non_local() -> nn.Module:
    return Net(conv(1, 6, stride=2), nn.MaxPool2d(2), _NonLocal(6), conv(6, 8), *_head(8))


class _WindowAttention(nn.Module):
    """Self-attention of several heads within windows of 4×4, as in Swin."""

    def __init__(self, channels: int, side: int = 4, heads: int = 2) -> None:
        super().__init__()
        self.side, self.heads = side, heads
        self.norm, self.qkv = nn.LayerNorm(channels), nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.randn(heads, side * side, side * side) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        s, heads = self.side, self.heads
        y = x.permute(0, 2, 3, 1).reshape(b, h // s, s, w // s, s, c)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, c)
        qkv = self.qkv(self.norm(y)).reshape(y.shape[0], s * s, 3, heads, c // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        shares = (q @ k.transpose(-2, -1) * (c // heads) ** -0.5 + self.bias).softmax(-1)
        y = self.out((shares @ v).transpose(1, 2).reshape(-1, s * s, c))
        y = y.reshape(b, h // s, w // s, s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return x + y.permute(0, 3, 1, 2)


def window_attention() -> nn.Module:
    return Net(conv(3, 8, stride=2), _WindowAttention(8), conv(8, 8), *_head(8))


class _Eca(nn.Module):
    """Channels weighed by a one-dimensional convolution along them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(x, 1)
        y = self.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * torch.sigmoid(y).expand_as(x)


def eca() -> nn.Module:
    return Net(conv(3, 8), _Eca(), conv(8, 8, stride=2), _Eca(), conv(8, 4, 1))


class _Coordinates(nn.Module):
    """Attention along height and along width (coordinate attention)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = conv(channels, 4, 1, nn.Hardswish())
        self.by_row, self.by_column = (nn.Conv2d(4, channels, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        _, _, high, wide = x.size()
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)
        rows, columns = torch.split(self.squeeze(torch.cat([rows, columns], 2)), [high, wide], 2)
        rows = self.by_row(rows).sigmoid()
        return x * rows * self.by_column(columns.permute(0, 1, 3, 2)).sigmoid()


def coordinates() -> nn.Module:
    return Net(conv(3, 6), _Coordinates(6), conv(6, 8, stride=2))


class _Selective(nn.Module):
    """Two kernels, chosen between by a softmax (SKNet)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near, self.far = conv(channels, channels), conv(channels, channels, dilation=2)
        self.down, self.up = nn.Linear(channels, 4), nn.Linear(4, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([self.near(x), self.far(x)], 1)
        pooled = both.sum(1).mean((2, 3))
        shares = self.up(F.relu(self.down(pooled))).view(-1, 2, x.shape[1]).softmax(1)
        return (both * shares[:, :, :, None, None]).sum(1)


def selective_kernels() -> nn.Module:
    return Net(conv(3, 6), _Selective(6), conv(6, 8, stride=2), *_head(8))


def yolo() -> nn.Module:
    """Focus slices, cross-stage blocks, pooling pyramid, upsampling."""

    def focus(x: Tensor, part: nn.Module) -> Tensor:
        corners = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return part(torch.cat(corners, 1))

    def pyramid(x: Tensor, down: nn.Module, pool: nn.Module, out: nn.Module) -> Tensor:
        x = down(x)
        y = pool(x)
        return out(torch.cat([x, y, pool(y)], 1))

    act = nn.SiLU
    stage = Joined(conv(8, 4, 1, act()), Residual(Net(conv(8, 8, 1, act()), conv(8, 8, 3, act()))))
    sppf = Calls(pyramid, conv(8, 4, 1, act()), nn.MaxPool2d(5, 1, 2), conv(12, 8, 1, act()))
    up = Joined(nn.Upsample(scale_factor=2, mode="nearest"), nn.ConvTranspose2d(8, 4, 2, 2))
    parts = Calls(focus, conv(12, 8, 3, act())), stage, conv(12, 8, 3, act(), stride=2), sppf, up
    return Net(*parts, conv(12, 8, 3, nn.LeakyReLU(0.1)), nn.Conv2d(8, 6, 1))


def squeezenet() -> nn.Module:
    def fire(inside: int) -> nn.Module:
        parts = [conv(4, 6, 1, norm=None), conv(4, 6, 3, norm=None)]
        return Net(conv(inside, 4, 1, norm=None), Joined(*parts))

    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    stem = nn.Conv2d(3, 6, 3, stride=2), nn.ReLU()
    return Net(
        *stem,
        pool,
        fire(6),
        fire(12),
        nn.Dropout(),
        nn.Conv2d(12, 5, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def ghostnet() -> nn.Module:
    def ghost(x: Tensor, first: nn.Module, cheap: nn.Module) -> Tensor:
        y = first(x)
        return torch.cat([y, cheap(y)], 1)[:, :7, :, :]

    return Net(conv(3, 6), Calls(ghost, conv(6, 4, 1), conv(4, 4, groups=4)), conv(7, 8, stride=2))


def super_resolution() -> nn.Module:
    parts = [nn.Conv2d(1, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1), nn.PReLU(8)]
    return Net(
        *parts,
        nn.Conv2d(8, 8, 3, padding=1),
        nn.PixelShuffle(2),
        nn.Conv2d(2, 1, 3),
        nn.PixelUnshuffle(2),
        nn.Conv2d(4, 3, 3),
    )


def narrow_kernels() -> nn.Module:
    """Kernels 1×k and k×1, strides of their own, pads that differ on each side."""
    parts = [nn.ZeroPad2d((2, 0, 1, 3)), nn.Conv2d(1, 6, (1, 5), stride=(1, 2)), nn.ELU()]
    parts += [nn.Conv2d(6, 6, (5, 1), stride=(2, 1), padding=(2, 0)), nn.SELU()]
    parts += [nn.ConstantPad2d((1, 2, 0, 1), 0.5), nn.Conv2d(6, 8, (2, 3), dilation=(1, 2))]
    return Net(*parts, nn.CELU(), nn.LPPool2d(2, (2, 1)), nn.Conv2d(8, 4, 2), nn.Softplus())


def blurred_pools() -> nn.Module:
    """Antialiased strides: a fixed depthwise blur behind a maximum pooling of stride 1."""
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel / 16).expand(6, 1, 3, 3).clone()

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=6)

    return Net(
        conv(3, 6), nn.MaxPool2d(2, 1), Calls(blur), conv(6, 8), nn.AdaptiveAvgPool2d((2, 3))
    )


class _Standardised(nn.Conv2d):
    """Weights brought to mean 0 and deviation 1 on every call (weight standardisation)."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        deviation = self.weight.std((1, 2, 3), keepdim=True, unbiased=False) + 1e-5
        weight = (self.weight - mean) / deviation * 0.2
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def computed_weights() -> nn.Module:
    normal = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3, padding=1))
    parts = [
        _Standardised(3, 8, 3, padding=1),
        nn.GroupNorm(4, 8),
        nn.Mish(),
        normal,
        nn.Hardtanh(),
    ]
    return Net(*parts, nn.utils.spectral_norm(nn.Conv2d(8, 6, 3)), nn.Softsign())


def odd_activations() -> nn.Module:
    """Gated, maxed and mirrored maps: activations that join several maps."""

    def maxout(x: Tensor) -> Tensor:
        batch, channels, high, wide = x.shape
        return x.view(batch, channels // 2, 2, high, wide).max(2)[0]

    def mirrored(x: Tensor) -> Tensor:
        return torch.cat([F.relu(x), F.relu(-x)], 1)

    parts = [nn.Conv2d(3, 8, 3), nn.GLU(1), nn.Conv2d(4, 8, 3), Calls(maxout), nn.Conv2d(4, 4, 3)]
    parts += [Calls(mirrored), nn.Conv2d(8, 6, 3), nn.Threshold(0.0, 0.0), nn.Conv2d(6, 4, 3)]
    return Net(
        *parts,
        nn.LogSigmoid(),
        nn.Conv2d(4, 4, 1),
        nn.Softshrink(0.01),
        nn.Conv2d(4, 4, 1),
        nn.RReLU(),
        nn.Conv2d(4, 4, 1),
        nn.Tanhshrink(),
    )


def relu6_by_min_and_max() -> nn.Module:
    def six(x: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(x, torch.zeros(())), torch.full((), 6.0))

    def other_way(x: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(x, torch.full((), 1.0)), torch.full((), -1.0))

    return Net(
        nn.Conv2d(3, 6, 3),
        Calls(six),
        nn.Conv2d(6, 6, 3),
        Calls(other_way),
        nn.Conv2d(6, 4, 3),
        nn.ReLU(),
    )


class _MobileVit(nn.Module):
    """Patches unfolded, attended to across the image, folded back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = conv(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, 2, batch_first=True)
        self.fuse = conv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        y = self.local(x)
        y = y.reshape(b * c * (h // 2), 2, w // 2, 2).transpose(1, 2)
        y = y.reshape(b, c, h * w // 4, 4).transpose(1, 3).reshape(b * 4, h * w // 4, c)
        normal = self.norm(y)
        y = y + self.attention(normal, normal, normal, need_weights=True)[0]
        y = y.reshape(b, 4, h * w // 4, c).transpose(1, 3).reshape(b * c * (h // 2), w // 2, 2, 2)
        y = y.transpose(1, 2).reshape(b, c, h, w)
        return self.fuse(torch.cat([x, y], 1))


def mobilevit() -> nn.Module:
    return Net(conv(3, 8, 3, nn.SiLU(), stride=2), nn.MaxPool2d(2), _MobileVit(8), conv(8, 6, 1))


class _LinearAttention(nn.Module):
    """Attention without softmax: ReLU, products, a quotient (EfficientViT)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = bare(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        q, k, v = self.qkv(x).reshape(b, 3, c, h * w).unbind(1)
        q, k = F.relu(q), F.relu(k)
        v = F.pad(v, (0, 0, 0, 1), value=1.0)
        y = (v @ k.transpose(-1, -2)) @ q
        y = y[:, :-1] / (y[:, -1:] + 1e-3)
        return x + self.out(y.reshape(b, c, h, w))


def linear_attention() -> nn.Module:
    return Net(conv(3, 8, 3, nn.Hardswish(), stride=2), _LinearAttention(8), conv(8, 6))


class _FeaturePyramid(nn.Module):
    """Coarse maps added to fine ones; as many outputs as scales."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = conv(3, 6, stride=2), conv(6, 8, stride=2)
        self.sides = nn.ModuleList([nn.Conv2d(6, 4, 1), nn.Conv2d(8, 4, 1)])
        self.smooth = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(x)
        coarse = self.coarse(fine)
        top = self.sides[1](coarse)
        down = self.sides[0](fine) + F.interpolate(top, scale_factor=2.0, mode="nearest")
        return self.smooth(down), top


def feature_pyramid() -> nn.Module:
    return _FeaturePyramid()


def global_context() -> nn.Module:
    """Positions weighed by a softmax, summed, and added to all (GCNet)."""

    def context(x: Tensor, mask: nn.Module, transform: nn.Module) -> Tensor:
        b, c, h, w = x.size()
        flat = x.view(b, c, h * w).unsqueeze(1)
        shares = torch.softmax(mask(x).view(b, 1, h * w), 2).unsqueeze(-1)
        return x + transform(torch.matmul(flat, shares).view(b, c, 1, 1))

    transform = Net(nn.Conv2d(6, 3, 1), nn.LayerNorm([3, 1, 1]), nn.ReLU(), nn.Conv2d(3, 6, 1))
    return Net(conv(3, 6), Calls(context, nn.Conv2d(6, 1, 1), transform), conv(6, 8, stride=2))


def einsum_attention() -> nn.Module:
    """Axial attention along rows, in Einstein's notation (BoTNet and kin)."""

    def attend(x: Tensor, q: nn.Module, k: nn.Module, v: nn.Module) -> Tensor:
        shares = torch.einsum("bchi,bchj->bhij", q(x), k(x)).softmax(-1)
        return x + torch.einsum("bhij,bchj->bchi", shares, v(x))

    ones = [nn.Conv2d(6, 6, 1) for _ in range(3)]
    return Net(conv(3, 6, stride=2), Calls(attend, *ones), conv(6, 8))


def statistics() -> nn.Module:
    """What normalises by hand: means, variances, norms, local contrast, clamps."""

    def contrast(x: Tensor) -> Tensor:
        mean = F.avg_pool2d(x, 3, 1, 1)
        return (x - mean) / (F.avg_pool2d((x - mean) ** 2, 3, 1, 1) + 1e-2).sqrt()

    def response(x: Tensor) -> Tensor:
        gathered = x.norm(p=2, dim=(2, 3), keepdim=True)
        return x * (gathered / (gathered.mean(1, keepdim=True) + 1e-6)) + x

    def unit(x: Tensor) -> Tensor:
        return F.normalize(x, dim=1)

    def filtered(x: Tensor) -> Tensor:
        return x / torch.sqrt(x.pow(2).mean((2, 3), keepdim=True) + 1e-6)

    parts = [
        conv(3, 6),
        Calls(contrast),
        conv(6, 6),
        Calls(response),
        conv(6, 6, act=nn.Sigmoid()),
        Calls(unit),
    ]
    return Net(*parts, nn.Conv2d(6, 6, 3), Calls(filtered), nn.Conv2d(6, 4, 3), nn.Sigmoid())


SIDES = {"resnet_60": (1, 12, 12), "alexnet": (3, 32, 32), "vgg_bn_after_relu": (3, 32, 32)}
_GREY = ("resnet_preactivated", "unet_transposed", "unet_resized", "unet_bicubic", "non_local")
_GREY += ("super_resolution", "narrow_kernels")
SIDES.update(dict.fromkeys(_GREY, (1, 16, 20)))

ALL = {
    name: made
    for name, made in list(globals().items())
    if callable(made)
    and not name.startswith("_")
    and getattr(made, "__module__", "") == __name__
    and not isinstance(made, type)
}


def side_of(name: str) -> tuple[int, int, int]:
    """(C, H, W) of the images of a network."""
    return SIDES.get(name, (3, 24, 32))


def build(name: str) -> nn.Module:
    """A network in evaluation mode, its weights and running statistics random but sane."""
    torch.manual_seed(sum(name.encode()))
    module = ALL[name]()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.3, 1.5)
            nn.init.uniform_(part.weight, 0.7, 1.4)
            nn.init.normal_(part.bias, 0, 0.2)
        elif isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None:
            nn.init.normal_(part.bias, 0, 0.1)
    return module.eval()
