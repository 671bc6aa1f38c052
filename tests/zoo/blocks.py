"""Blocks that the networks of the zoo are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

Tensor = torch.Tensor


class Calls(nn.Module):
    """A module that calls a function: for what torch has no module for."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts)


class Residual(nn.Module):
    """x + branch(x), x brought to the branch's shape where it has another."""

    def __init__(
        self, branch: nn.Module, short: nn.Module | None = None, after: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.branch = branch
        self.short = short or nn.Identity()
        self.after = after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.branch(x) + self.short(x))


class Joined(nn.Module):
    """Branches side by side, joined along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class ChannelNorm(nn.Module):
    """Layer normalisation over channels: channels are moved last and back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SpeltNorm(nn.Module):
    """The same, spelt out on channels first, as ConvNeXt's authors wrote it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        square = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(square + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Excite(nn.Module):
    """Squeeze and excite: channels weighed by what the whole image holds of them."""

    def __init__(self, channels: int, gate: nn.Module, *, dense: bool = False) -> None:
        super().__init__()
        few = max(channels // 4, 2)
        self.dense = dense
        kinds = (nn.Linear, nn.Linear) if dense else (_pointwise, _pointwise)
        self.down, self.up = kinds[0](channels, few), kinds[1](few, channels)
        self.act, self.gate = nn.ReLU(), gate
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool(x)
        if self.dense:
            pooled = pooled.view(x.size(0), x.size(1))
        weights = self.gate(self.up(self.act(self.down(pooled))))
        if self.dense:
            weights = weights.view(x.size(0), x.size(1), 1, 1)
        return x * weights.expand_as(x) if self.dense else x * weights


def _pointwise(inside: int, outside: int) -> nn.Module:
    return nn.Conv2d(inside, outside, 1)


def conv(
    inside: int,
    outside: int,
    kernel: int | tuple[int, int] = 3,
    act: nn.Module | None = None,
    norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    **more: object,
) -> nn.Sequential:
    """A convolution that keeps the size, its normalisation and activation (default ReLU)."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    by = more.get("dilation", 1)
    more.setdefault("padding", tuple((k // 2) * by for k in sides))
    parts = [nn.Conv2d(inside, outside, kernel, bias=norm is None, **more)]
    parts += [norm(outside)] if norm else []
    return nn.Sequential(*parts, act or nn.ReLU())


def bare(inside: int, outside: int, kernel: int = 1, **more: object) -> nn.Sequential:
    """A convolution and its normalisation."""
    return conv(inside, outside, kernel, nn.Identity(), **more)


def shuffle(x: Tensor, groups: int = 2) -> Tensor:
    """Channels of one group after the other, dealt out."""
    batch, channels, high, wide = x.size()
    x = x.view(batch, groups, channels // groups, high, wide)
    return torch.transpose(x, 1, 2).contiguous().view(batch, -1, high, wide)


class Layered(nn.Module):
    """Layers that each take all that came before."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        return torch.cat(found, 1)


class Up(nn.Module):
    """Brought to the size of what skips, and joined with it."""

    def __init__(self, grow: nn.Module | None, **how: object) -> None:
        super().__init__()
        self.grow, self.how = grow, how

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        if self.grow is not None:
            x = self.grow(x)
        else:
            x = F.interpolate(x, size=skip.shape[2:], **self.how)
        return torch.cat([skip, x], 1)
