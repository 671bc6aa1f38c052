"""The gradient by hand in torch, channels last: eager, and through ``torch.compile``."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from task import SIZE, THREADS, Floats, Task

from pyoip.stack import Stack

from .by_hand import Plan, plan
from .variant import Variant, batches

PLACES = 4  # of a pooling window


def update(x: torch.Tensor, g: torch.Tensor, pixels: tuple[int, int]) -> torch.Tensor:
    """One step of the article's rule; `pixels` are the dimensions of x and g that hold them."""
    g = g / (g.square().mean(pixels, keepdim=True).sqrt() + 1e-7)
    x = x + SIZE * g
    x = x - x.mean(pixels, keepdim=True)
    return x * torch.rsqrt(x.square().mean(pixels, keepdim=True))


def sum_of_shifts(taps: torch.Tensor) -> torch.Tensor:
    """(B, h, w, 9) of every pixel's products with 9 taps → (B, h - 2, w - 2)."""
    height, width = taps.shape[1] - 2, taps.shape[2] - 2
    shifted = [taps[:, k // 3 :, k % 3 :, k][:, :height, :width] for k in range(9)]
    return sum(shifted[1:], start=shifted[0])


def spread(mask: torch.Tensor) -> torch.Tensor:
    """The adjoint: (B, h, w) → (B, h + 2, w + 2, 9)."""
    height, width = mask.shape[1] + 2, mask.shape[2] + 2
    wide = F.pad(mask, (2, 2, 2, 2))
    shifted = [wide[:, 2 - k // 3 :, 2 - k % 3 :][:, :height, :width] for k in range(9)]
    return torch.stack(shifted, -1)


def fold(patches: torch.Tensor) -> torch.Tensor:
    """4×4 patches at every second pixel, (B, p, p, 16), added up: (B, 2p + 2, 2p + 2)."""
    count, side = patches.shape[:2]
    parts = patches.reshape(count, side, side, 2, 2, 2, 2)  # y half, y, x half, x
    total = 0
    for y in range(2):
        for x in range(2):
            total = total + F.pad(parts[:, :, :, y, :, x], (0, 0, 0, 0, x, 1 - x, y, 1 - y))
    return total.permute(0, 1, 3, 2, 4).reshape(count, 2 * side + 2, 2 * side + 2)


def one_layer_step(x: torch.Tensor, target: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A single layer, the batch as last dimension so that every shift is a plain offset.

    x (H, W, B), target (9, B), bias (B,).
    """
    height, width = x.shape[0] - 2, x.shape[1] - 2
    z = bias
    for k in range(9):
        z = z + target[k] * x[k // 3 : k // 3 + height, k % 3 : k % 3 + width]
    mask = F.pad((z > 0).to(x.dtype) / (height * width), (0, 0, 2, 2, 2, 2))
    g = 0
    for k in range(9):
        g = g + target[k] * mask[2 - k // 3 :, 2 - k % 3 :][: height + 2, : width + 2]
    return update(x, g, (0, 1))


class HandWritten:
    """One step of the ascent of a batch, with the constants it needs.

    `fused` writes the first layer and the four-way choices of pooling as elementwise
    expressions, which ``torch.compile`` turns into one loop each; eager wants matrix products.
    """

    def __init__(self, constants: Plan, fused: bool) -> None:
        self.fused, self.seen = fused, constants.seen
        self.first = torch.tensor(constants.first)
        self.first_back = self.first.T.contiguous()
        self.first_bias = torch.tensor(constants.first_bias)
        self.middle = [self._both_ways(*map(torch.tensor, pair)) for pair in constants.middle]
        self.places = torch.arange(PLACES, dtype=torch.float32)[:, None]

    @staticmethod
    def _both_ways(weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, ...]:
        last = {"memory_format": torch.channels_last}
        return (
            weight.contiguous(**last),
            weight.flip(2, 3).transpose(0, 1).contiguous(**last),
            bias,
        )

    def step(self, x: torch.Tensor, target: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """(B, H, W) → (B, H, W)."""
        side = self.seen[0]
        g = self._gradient(x[:, :side, :side], target, bias)
        rest = x.shape[1] - side, x.shape[2] - side
        return update(x, F.pad(g, (0, rest[1], 0, rest[0])), (1, 2))

    def _gradient(self, x: torch.Tensor, target: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        p, chosen = self._first(x)
        choices = []
        for forward, _, own_bias in self.middle:
            z = F.conv2d(p.permute(0, 3, 1, 2), forward, own_bias).permute(0, 2, 3, 1)
            p, choice = self._pool(z)
            choices.append((z, p, choice))
        d = self._target(p, target, bias)
        for (_, backward, _), (z, p, choice) in zip(self.middle[::-1], choices[::-1], strict=True):
            d = torch.where(p > 0, d, 0.0)
            dz = self._unpool(d, z, choice)
            d = F.conv2d(dz.permute(0, 3, 1, 2), backward, padding=2).permute(0, 2, 3, 1)
        return self._back_to_pixels(d, chosen)

    # --- the first layer and its pooling ---

    def _first(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count, side = len(x), self.seen[1]
        if self.fused:
            z = self._first_values(x)
            best = torch.maximum(torch.maximum(z[0], z[1]), torch.maximum(z[2], z[3]))
            return F.relu(best), self._which(z, best)
        patches = x.unfold(1, 4, 2).unfold(2, 4, 2).reshape(-1, 16)
        z = torch.addmm(self.first_bias, patches, self.first).reshape(count, side, side, 4, -1)
        best = z.amax(3)
        return F.relu(best), (z == best[..., None, :]) & (best > 0)[..., None, :]

    def _first_values(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Four tensors (B, p, p, maps), one per place in the pooling window."""
        side, maps = self.seen[1], self.first.shape[1] // 4
        pixel = [
            [x[:, i : i + 2 * side - 1 : 2, j : j + 2 * side - 1 : 2, None] for j in range(4)]
            for i in range(4)
        ]
        taps = self.first.reshape(4, 4, 4, maps)
        values = []
        for place in range(4):
            z = self.first_bias[:maps]
            for k in range(9):
                i, j = place // 2 + k // 3, place % 2 + k % 3
                z = z + pixel[i][j] * taps[i, j, place]
            values.append(z)
        return values

    def _which(self, z: list[torch.Tensor], best: torch.Tensor) -> torch.Tensor:
        """The first place that holds the maximum, or 4 where ReLU is off.

        As float32: the compiler's loops over bytes mixed with floats are many times slower.
        """
        zero, one, two, three = (torch.full((), float(k)) for k in range(4))
        late = torch.where(z[2] == best, two, three)
        which = torch.where(z[0] == best, zero, torch.where(z[1] == best, one, late))
        return torch.where(best > 0, which, torch.full((), 4.0))

    def _back_to_pixels(self, d: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        count, side = d.shape[:2]
        if self.fused:
            chosen = chosen[..., None, :] == self.places
        routed = torch.where(chosen, d[..., None, :], 0.0).reshape(count * side * side, -1)
        return fold((routed @ self.first_back).reshape(count, side, side, 16))

    # --- pooling further up ---

    def _pool(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.fused:
            four = [z[:, k // 2 :: 2, k % 2 :: 2] for k in range(4)]
            best = torch.maximum(torch.maximum(four[0], four[1]), torch.maximum(four[2], four[3]))
            return F.relu(best), self._which(four, best)
        best, place = torch.ops.aten.max_pool2d_with_indices(z.permute(0, 3, 1, 2), [2, 2], [2, 2])
        return F.relu(best).permute(0, 2, 3, 1), place

    def _unpool(self, d: torch.Tensor, z: torch.Tensor, choice: torch.Tensor) -> torch.Tensor:
        if self.fused:
            places = self.places.reshape(2, 1, 2, 1)
            hit = choice[:, :, None, :, None] == places
            return torch.where(hit, d[:, :, None, :, None], 0.0).reshape(z.shape)
        back = torch.ops.aten.max_pool2d_with_indices_backward
        window = ([2, 2], [2, 2], [0, 0], [1, 1], False, choice)
        routed = back(d.permute(0, 3, 1, 2), z.permute(0, 3, 1, 2), *window)
        return routed.permute(0, 2, 3, 1)

    # --- the target map ---

    def _target(self, p: torch.Tensor, target: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        count, side = p.shape[:2]
        taps = torch.bmm(p.reshape(count, side * side, -1), target)
        z = sum_of_shifts(taps.reshape(count, side, side, 9)) + bias[:, None, None]
        mask = spread((z > 0).to(p.dtype) / z[0].numel()).reshape(count, side * side, 9)
        return torch.bmm(mask, target.transpose(1, 2)).reshape(p.shape)


class Ascender:
    """Ascents of a task, `at_once` images at a time: small batches stay in the cache."""

    def __init__(self, task: Task, at_once: int, mode: str | None, threads: int = THREADS) -> None:
        self.threads = threads
        constants = plan(task)
        self.parts = torch.tensor(task.starts[:, 0]).split(at_once)
        targets = torch.tensor(constants.target), torch.tensor(constants.target_bias)
        self.targets = [part.split(at_once) for part in targets]
        self.single = constants.first is None
        if self.single:
            self.parts = [part.permute(1, 2, 0).contiguous() for part in self.parts]
            self.targets[0] = [part[:, 0].T.contiguous() for part in self.targets[0]]
        step = one_layer_step if self.single else HandWritten(constants, mode is not None).step
        if mode is not None:
            options = {"cpp.threads": threads, **torch._inductor.list_mode_options(mode)}
            step = torch.compile(step, fullgraph=True, dynamic=False, options=options)
        self.step = step

    @torch.inference_mode()
    def __call__(self, steps: int) -> Floats:
        torch.set_num_threads(self.threads)
        ends = []
        for x, target, bias in zip(self.parts, *self.targets, strict=True):
            for _ in range(steps):
                x = self.step(x, target, bias)  # noqa: PLW2901
            ends.append(x.permute(2, 0, 1) if self.single else x)
        torch.set_num_threads(THREADS)
        return torch.cat(ends)[:, None].numpy()


def ascenders(task: Task) -> Iterator[Variant]:
    """Eager and compiled.

    Python threads over the images do not help: the compiled code holds the GIL.
    ``max-autotune`` was never faster above layer 1, and takes minutes to compile.
    """
    for size in batches(len(task.starts), (16, 64)):
        yield Variant(f"eager, {size} at once", Ascender(task, size, None))
        yield Variant(f"compiled, {size} at once", Ascender(task, size, "default"))
        if size == 1:  # too little for two threads to share
            yield Variant("eager, one thread", Ascender(task, 1, None, 1))
            yield Variant("compiled, one thread", Ascender(task, 1, "default", 1))
    if len(task.stack.layers) == 1:
        tuned = Ascender(task, size, "max-autotune-no-cudagraphs")
        yield Variant(f"compiled with max-autotune, {size} at once", tuned)


def scorers(_stack: Stack, _images: Floats) -> Iterator[Variant]:
    """A forward pass needs no gradient by hand: see `torch_peer`."""
    yield from ()
