"""How alike two images are, wherever in the image their pattern lies, and how alike by chance."""

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
