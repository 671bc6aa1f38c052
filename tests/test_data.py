"""The IDX reader against every kind of damage, and where the files of a data set are looked for."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pyoip import data
from pyoip.errors import DataError, InvalidArgument

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
LABELS = np.array([3, 1, 4, 1, 9], np.uint8)


def idx(array: np.ndarray) -> bytes:
    """Bytes of an intact IDX file, before gzip."""
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A tiny data set "mnist" under tmp_path/mnist, its checksums registered; no environment."""
    files = {}
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", IMAGES), ("labels-idx1", LABELS)):
            name = f"{part}-{kind}-ubyte.gz"
            content = gzip.compress(idx(array))
            write(tmp_path / "mnist" / name, content)
            files[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(data.DATASETS, "mnist", data.Source("https://mirror.invalid/", files))
    monkeypatch.delenv("PYOIP_DATA", raising=False)
    return tmp_path


def test_intact_files_come_back_as_they_were(tmp_path: Path) -> None:
    for array in (IMAGES, LABELS):
        path = write(tmp_path / "x.gz", gzip.compress(idx(array)))
        read = data.read_idx(path, array.ndim)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, array)


INTACT = idx(IMAGES)


def _flip_crc(content: bytes) -> bytes:
    packed = bytearray(gzip.compress(content))
    packed[-8] ^= 1
    return bytes(packed)


def _corrupt_middle(content: bytes) -> bytes:
    packed = bytearray(gzip.compress(content))
    packed[len(packed) // 2] ^= 0xFF
    return bytes(packed)


DAMAGES: dict[str, tuple[bytes, str]] = {
    "not gzip": (INTACT, "not an intact gzip file: Not a gzipped file"),
    "empty": (b"", "starts with 0x, must be"),
    "gzip cut off": (gzip.compress(INTACT)[:-20], "not an intact gzip file: Compressed file ended"),
    "gzip wrong CRC": (_flip_crc(INTACT), "not an intact gzip file: CRC check failed"),
    "gzip corrupt inside": (_corrupt_middle(INTACT), "not an intact gzip file"),
    "gzip then garbage": (gzip.compress(INTACT) + b"garbage", "not an intact gzip file"),
    "first bytes": (gzip.compress(b"\1" + INTACT[1:]), "starts with 0x01000803, must be"),
    "element type": (
        gzip.compress(b"\0\0\x0d\3" + INTACT[4:]),
        "starts with 0x00000d03, must be 0x00000803",
    ),
    "dimensions": (gzip.compress(idx(LABELS)), "starts with 0x00000801, must be 0x00000803"),
    "header cut off": (gzip.compress(INTACT[:10]), "header has 10 bytes, must be 16"),
    "no images": (gzip.compress(idx(IMAGES[:0])), "dimensions 0x28x28, must hold 1 to"),
    "huge": (
        gzip.compress(INTACT[:4] + b"\xff" * 12 + INTACT[16:]),
        "dimensions 4294967295x4294967295x4294967295, must hold 1 to",
    ),
    "too short": (gzip.compress(INTACT[:-1]), "3919 bytes follow the header, must be 3920"),
    "too long": (gzip.compress(INTACT + b"\0"), "more bytes follow the header, must be 3920"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_file_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    content, message = DAMAGES[kind]
    path = write(tmp_path / "images.gz", content)
    with pytest.raises(DataError) as caught:
        data.read_idx(path, 3)
    text = str(caught.value)
    assert message in text
    assert text.startswith(f"{path}: ")
    assert "\n" not in text


def test_unreadable_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        data.read_idx(tmp_path / "nothing.gz", 3)
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        data.read_idx(tmp_path, 3)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS[:4], "4 labels, must be 5 as the images"),
        (IMAGES[:, :27], LABELS, "images are 27x28, must be 28x28"),
        (IMAGES, LABELS + np.uint8(1), "label 10, must be 0 to 9"),
    ],
)
def test_images_and_labels_must_belong_together(
    images: np.ndarray, labels: np.ndarray, message: str, tmp_path: Path
) -> None:
    first = write(tmp_path / "images.gz", gzip.compress(idx(images)))
    second = write(tmp_path / "labels.gz", gzip.compress(idx(labels)))
    with pytest.raises(DataError, match=message):
        data.read_pair(first, second)


@pytest.mark.parametrize("split", ["train", "test"])
def test_environment_names_the_folder_and_nothing_is_downloaded(
    split: str, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYOIP_DATA", str(dataset))
    monkeypatch.setitem(sys.modules, "pooch", None)
    images, labels = data.load_dataset("mnist", split)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


def test_split_decides_the_file(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYOIP_DATA", str(dataset))
    (dataset / "mnist" / "train-images-idx3-ubyte.gz").unlink()
    data.load_dataset("mnist", "test")
    with pytest.raises(DataError, match="train-images"):
        data.load_dataset("mnist", "train")


def test_missing_file_names_variable_and_layout(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYOIP_DATA", str(dataset / "elsewhere"))
    with pytest.raises(
        DataError, match=r"no such file: PYOIP_DATA must name .* mnist/ and fashion-mnist/"
    ):
        data.load_dataset("mnist")


def test_wrong_checksum_is_refused_though_the_file_is_intact(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYOIP_DATA", str(dataset))
    forged = gzip.compress(idx(IMAGES + np.uint8(1)))
    write(dataset / "mnist" / "train-images-idx3-ubyte.gz", forged)
    with pytest.raises(DataError, match=r"SHA-256 is [0-9a-f]{64}, must be [0-9a-f]{64}"):
        data.load_dataset("mnist")


def _fake_pooch(retrieve: Callable[..., str]) -> SimpleNamespace:
    return SimpleNamespace(os_cache=lambda name: f"/cache/{name}", retrieve=retrieve)


@pytest.mark.parametrize("value", [None, ""])
def test_without_the_variable_pooch_fetches_with_checksum_into_its_cache(
    value: str | None, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def retrieve(url: str, known_hash: str, fname: str, path: Path) -> str:
        asked.append((url, known_hash, str(path)))
        return str(dataset / "mnist" / fname)

    monkeypatch.setitem(sys.modules, "pooch", _fake_pooch(retrieve))
    if value is not None:
        monkeypatch.setenv("PYOIP_DATA", value)
    images, _ = data.load_dataset("mnist", "test")
    np.testing.assert_array_equal(images, IMAGES)
    sums = data.DATASETS["mnist"].sums
    assert asked == [
        (f"https://mirror.invalid/{name}", f"sha256:{sums[name]}", "/cache/pyoip/mnist")
        for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
    ]


@pytest.mark.parametrize("error", [ConnectionError("no\nroute"), ValueError("hash differs")])
def test_failed_download_is_one_line_with_the_way_round(
    error: Exception, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def retrieve(*_: object) -> str:
        raise error

    monkeypatch.setitem(sys.modules, "pooch", _fake_pooch(retrieve))
    with pytest.raises(DataError, match=r"cannot be downloaded to .*set PYOIP_DATA") as caught:
        data.load_dataset("mnist")
    assert "\n" not in str(caught.value)


def test_missing_pooch_names_the_extra(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match=r"pip install 'pyoip\[train\]'"):
        data.load_dataset("mnist")


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("cifar", "train", "data set 'cifar' is unknown: use one of mnist, fashion-mnist"),
        ("mnist", "valid", "split 'valid' is unknown: use one of train, test"),
    ],
)
def test_unknown_names_are_refused(name: str, split: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        data.load_dataset(name, split)


@pytest.mark.parametrize("name", data.DATASETS)
def test_every_data_set_knows_its_four_files(name: str) -> None:
    source = data.DATASETS[name]
    assert source.mirror.startswith("https://")
    assert source.mirror.endswith("/")
    assert sorted(source.sums) == [
        f"{part}-{kind}-ubyte.gz"
        for part in ("t10k", "train")
        for kind in ("images-idx3", "labels-idx1")
    ]
    assert all(len(bytes.fromhex(value)) == 32 for value in source.sums.values())


def test_genuine_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checksums in the package are those of the real files."""
    folder = genuine_folder()
    monkeypatch.setenv("PYOIP_DATA", str(folder))
    for name in data.DATASETS:
        images, labels = data.load_dataset(name, "test")
        assert images.shape == (10_000, 28, 28)
        assert np.bincount(labels).size == 10
    assert data.load_dataset("mnist", "train")[0].shape == (60_000, 28, 28)


def genuine_folder() -> Path:
    """Folder of the genuine data sets, else skip: PYOIP_DATA or ../shared/data."""
    folder = os.environ.get("PYOIP_DATA") or Path(__file__).parents[2] / "shared" / "data"
    if not (Path(folder) / "mnist" / "t10k-images-idx3-ubyte.gz").is_file():
        pytest.skip(f"needs the MNIST files: neither PYOIP_DATA nor {folder} holds them")
    return Path(folder)
