"""MNIST and Fashion-MNIST as arrays: found or downloaded, checked, read.

An IDX file is a big-endian header (two zero bytes, the element type, the number of dimensions,
then each dimension as 32 bits) followed by the elements. Ours are gzipped bytes. Nothing here
trusts a file: its checksum is compared first, and the reader also stands alone, so that a damaged
file ends in one line that names it and never in a traceback or a huge allocation.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import DataError, InvalidArgument

Bytes = npt.NDArray[np.uint8]

ENVIRONMENT = "PYOIP_DATA"
CLASSES = 10
SIDE = 28
UNSIGNED_BYTE = 0x08
# No file of these data sets is larger than 60,000 x 28 x 28 bytes; a header that promises more
# than this is wrong, and is refused before anything is allocated.
LARGEST = 2**28


@dataclass(frozen=True)
class Source:
    """Where a data set comes from and how its files are recognised.

    Attributes
    ----------
    mirror : str
        URL of the folder with the four files, with a slash at its end.
    sums : Mapping[str, str]
        SHA-256 in hexadecimal of each file, by file name.
    """

    mirror: str
    sums: Mapping[str, str]


def _source(mirror: str, *sums: str) -> Source:
    names = [f"{part}-{kind}-ubyte.gz" for part in PARTS.values() for kind in KINDS]
    return Source(mirror, MappingProxyType(dict(zip(names, sums, strict=True))))


PARTS = {"train": "train", "test": "t10k"}
KINDS = ("images-idx3", "labels-idx1")
DATASETS: dict[str, Source] = {
    "mnist": _source(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "fashion-mnist": _source(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
}


def load_dataset(name: str = "mnist", split: str = "train") -> tuple[Bytes, Bytes]:
    """Load one split of a data set.

    With the environment variable ``PYOIP_DATA`` set, the files come from the folder it names,
    which holds ``mnist/`` and ``fashion-mnist/`` with the original file names; nothing is then
    downloaded. Without it they come from the public mirror, once, into the user's cache. Either
    way the SHA-256 must be that of the genuine files.

    Parameters
    ----------
    name : {"mnist", "fashion-mnist"}
        The data set.
    split : {"train", "test"}
        60,000 or 10,000 images.

    Returns
    -------
    images : ndarray of uint8, shape (N, 28, 28)
        Pixels 0 (background) to 255.
    labels : ndarray of uint8, shape (N,)
        Classes 0 to 9.

    Raises
    ------
    InvalidArgument
        For an unknown name or split.
    DataError
        When a file is missing, damaged, not the genuine one, or cannot be downloaded.

    Examples
    --------
    >>> images, labels = load_dataset("mnist", "test")  # doctest: +SKIP
    >>> images.shape, images.dtype, labels[:3].tolist()  # doctest: +SKIP
    ((10000, 28, 28), dtype('uint8'), [7, 2, 1])
    """
    if name not in DATASETS:
        raise InvalidArgument(f"data set {name!r} is unknown: use one of {', '.join(DATASETS)}")
    if split not in PARTS:
        raise InvalidArgument(f"split {split!r} is unknown: use one of {', '.join(PARTS)}")
    images, labels = (find_file(name, f"{PARTS[split]}-{kind}-ubyte.gz") for kind in KINDS)
    return read_pair(images, labels)


def find_file(name: str, file: str) -> Path:
    """Path of a checked file of a data set: from ``PYOIP_DATA``, else downloaded and cached.

    Parameters
    ----------
    name : str
        A key of `DATASETS`.
    file : str
        A file name in ``DATASETS[name].sums``.

    Raises
    ------
    DataError
        When the file is missing or cannot be downloaded, or its SHA-256 is wrong.
    """
    folder = os.environ.get(ENVIRONMENT)
    if not folder:
        return _download(name, file)
    path = Path(folder) / name / file
    _check_sum(path, DATASETS[name].sums[file])
    return path


def _check_sum(path: Path, wanted: str) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file: {ENVIRONMENT} must name a folder that holds"
            f" {' and '.join(f'{name}/' for name in DATASETS)} (unset it to download)"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if found != wanted:
        raise DataError(f"{path}: SHA-256 is {found}, must be {wanted}: fetch the file again")


def _download(name: str, file: str) -> Path:
    pooch = _import_pooch()
    url = DATASETS[name].mirror + file
    folder = Path(pooch.os_cache("pyoip")) / name
    try:
        return Path(pooch.retrieve(url, f"sha256:{DATASETS[name].sums[file]}", file, folder))
    except (OSError, ValueError) as error:  # no network, no space; a wrong checksum
        reason = " ".join(str(error).split())
        raise DataError(
            f"{url}: cannot be downloaded to {folder}: {reason}; or set {ENVIRONMENT} to a"
            f" folder that holds {name}/{file}"
        ) from None


def _import_pooch() -> Any:
    try:
        import pooch
    except ImportError:
        raise DataError(
            "downloading a data set needs pooch: pip install 'pyoip[train]', or set"
            f" {ENVIRONMENT} to a folder that holds {' and '.join(f'{n}/' for n in DATASETS)}"
        ) from None
    return pooch


def read_pair(images: Path, labels: Path) -> tuple[Bytes, Bytes]:
    """Read the images and the labels of one split and check that they belong together.

    Returns
    -------
    images : ndarray of uint8, shape (N, 28, 28)
    labels : ndarray of uint8, shape (N,)

    Raises
    ------
    DataError
        When a file is damaged, the images are not 28x28, the counts differ, or a label is
        not a class.
    """
    pixels, classes = read_idx(images, 3), read_idx(labels, 1)
    if pixels.shape[1:] != (SIDE, SIDE):
        size = "x".join(map(str, pixels.shape[1:]))
        raise DataError(f"{images}: images are {size}, must be {SIDE}x{SIDE}")
    if len(pixels) != len(classes):
        raise DataError(f"{labels}: {len(classes)} labels, must be {len(pixels)} as the images")
    if classes.max() >= CLASSES:
        raise DataError(f"{labels}: label {classes.max()}, must be 0 to {CLASSES - 1}")
    return pixels, classes


def read_idx(path: str | os.PathLike[str], dimensions: int) -> Bytes:
    """Read a gzipped IDX file of unsigned bytes.

    Parameters
    ----------
    path : path-like
        The file.
    dimensions : int
        How many dimensions it must have: 3 for images, 1 for labels.

    Returns
    -------
    ndarray of uint8
        Read-only view of the file's elements, in the shape of its header.

    Raises
    ------
    DataError
        When the file cannot be read, is not gzip or is cut off; when its header is not that of
        unsigned bytes in `dimensions` dimensions, each at least 1; when elements are missing or
        something follows them.
    """
    try:
        with gzip.open(path) as file:
            shape = _read_header(path, file, dimensions)
            # One byte more than needed, so that the end is reached: gzip compares its CRC there.
            body = file.read(math.prod(shape) + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not an intact gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if len(body) != math.prod(shape):
        found = "more" if len(body) > math.prod(shape) else str(len(body))
        raise DataError(f"{path}: {found} bytes follow the header, must be {math.prod(shape)}")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _read_header(path: Any, file: gzip.GzipFile, dimensions: int) -> tuple[int, ...]:
    size = 4 + 4 * dimensions
    header = file.read(size)
    magic = bytes((0, 0, UNSIGNED_BYTE, dimensions))
    if header[:4] != magic:
        raise DataError(f"{path}: starts with 0x{header[:4].hex()}, must be 0x{magic.hex()} (IDX)")
    if len(header) != size:
        raise DataError(f"{path}: header has {len(header)} bytes, must be {size}")
    shape: tuple[int, ...] = struct.unpack(f">{dimensions}I", header[4:])
    if not 1 <= math.prod(shape) <= LARGEST:
        raise DataError(
            f"{path}: dimensions {'x'.join(map(str, shape))}, must hold 1 to {LARGEST} elements"
        )
    return shape
