"""How alike images are, wherever in them their pattern lies; how alike by chance; kinds of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LIKENESS = 0.5
"""Correlation from which two OIPs of a map count as one kind, unless chance alone reaches it."""

BY_CHANCE = 0.99
"""Share of images with the same spectrum, their phases drawn, that correlate less than likeness."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The Fourier transform of an image of zero mean and unit length, by which shifts are cheap."""

    values: NDArray[np.complex128]
    sides: tuple[int, int]

    @classmethod
    def of(cls, image: Array) -> Spectrum:
        """That of an image (C, H, W); zero if it does not vary."""
        exact = np.asarray(image, float) - np.mean(image)
        length = np.sqrt((exact**2).sum())
        return cls(np.fft.rfft2(exact / (length or 1.0)), (exact.shape[-2], exact.shape[-1]))

    def correlation(self, other: Spectrum) -> float:
        """Largest correlation over all cyclic shifts."""
        product = (self.values * other.values.conj()).sum(axis=0)
        return float(np.fft.irfft2(product, s=self.sides).max())

    def scrambled(self, rng: np.random.Generator) -> Spectrum:
        """An image of the same power at every frequency, its phases drawn."""
        noise = np.fft.rfft2(rng.standard_normal(self.sides))
        turned = self.values * noise / np.maximum(np.abs(noise), 1e-30)
        return Spectrum(turned, self.sides)


def correlation(one: Array, other: Array) -> float:
    """Largest correlation of two images over all cyclic shifts of one.

    Examples
    --------
    >>> image = np.random.default_rng(0).standard_normal((1, 6, 7))
    >>> round(correlation(image, np.roll(image, (2, 3), axis=(1, 2))), 6)
    1.0
    """
    return Spectrum.of(one).correlation(Spectrum.of(other))


def by_chance(image: Array, draws: int = 100) -> float:
    """Correlation that `BY_CHANCE` of the images with the spectrum of `image` stay below."""
    spectrum, rng = Spectrum.of(image), np.random.default_rng(0)
    found = [spectrum.correlation(spectrum.scrambled(rng)) for _ in range(draws)]
    return float(np.quantile(found, BY_CHANCE))


@dataclass(frozen=True, eq=False)
class Cluster:
    """OIPs of one map that look alike.

    Attributes
    ----------
    image : float32 (C, H, W)
        The one with the highest activation.
    activation : float
    mix : int
        That led to it.
    mixes : tuple of int
        That led to any of them.
    """

    image: Array
    activation: float
    mix: int
    mixes: tuple[int, ...]


def sorted_by_looks(
    mixes: NDArray[np.int64], images: Array, values: Array, likeness: float | None = None
) -> tuple[Cluster, ...]:
    """Sort a map's OIPs by what they look like; see `Survey.clusters`.

    Parameters
    ----------
    mixes, images, values : ndarray (n,), (n, C, H, W), (n,)
        Mixes, OIPs and their activations, the highest first.
    likeness : float, optional
    """
    if not len(mixes):
        return ()
    least = max(LIKENESS, by_chance(images[0])) if likeness is None else likeness
    spectra = [Spectrum.of(image) for image in images]
    groups: list[list[int]] = []
    for i in range(len(images)):
        alike = (g for g in groups if spectra[g[0]].correlation(spectra[i]) >= least)
        group = next(alike, None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    return tuple(
        Cluster(
            images[group[0]],
            float(values[group[0]]),
            int(mixes[group[0]]),
            tuple(sorted(mixes[group].tolist())),
        )
        for group in groups
    )


def mean_correlation(images: Array) -> float:
    """How alike images are to the first of them, shifted as fits best; NaN for fewer than two."""
    spectra = [Spectrum.of(image) for image in images]
    if len(spectra) < 2:
        return float("nan")
    return float(np.mean([spectra[0].correlation(other) for other in spectra[1:]]))
