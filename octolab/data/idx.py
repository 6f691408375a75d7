"""The complete Fashion-MNIST from the IDX files of Debian's package `dataset-fashion-mnist`."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np

from octolab.data.builtin import FASHION_CLASSES, check_sha256, images
from octolab.data.dataset import Dataset, Provenance
from octolab.data.errors import ChecksumError, DatasetUnavailable

ROOT = Path("/usr/share/datasets/fashion-mnist")
PACKAGE = "dataset-fashion-mnist"
# SHA-256 of the unpacked files; how they were compressed does not matter
CONTENTS = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def read_idx(raw: bytes, what: str = "the IDX file") -> np.ndarray:
    """The uint8 array in an unpacked IDX file: two zero bytes, type 8, rank, sizes (big-endian), data.

    Raises ChecksumError if the header is not of that form or the length does not match it.
    """
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise ChecksumError(f"{what} does not begin like an IDX file of bytes; it is damaged. Restore it.")
    start = 4 + 4 * raw[3]
    shape = tuple(int(s) for s in np.frombuffer(raw[4:start], ">u4"))
    size = int(np.prod(shape, dtype=np.int64))
    if len(raw) - start != size:
        raise ChecksumError(
            f"{what} promises {size:,} values and holds {len(raw) - start:,}; it is cut or damaged. Restore it."
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def fashion_mnist(dtype: str = "float32", root: str | Path = ROOT) -> Dataset:
    """All of Fashion-MNIST: 60,000 + 10,000 images of 28 x 28, 10 classes, from the files in `root`.

    `dtype` "float32" gives pixels / 255 (188 MB), "uint8" the bytes as they are (47 MB). Raises
    DatasetUnavailable if a file is missing, ChecksumError if the content of one is not the published one.
    """
    root = Path(root)
    missing = [name for name in CONTENTS if not (root / name).is_file()]
    if missing:
        raise DatasetUnavailable(
            f"'system:fashion-mnist' is unavailable: {root} lacks {', '.join(missing)}. On Debian or Ubuntu "
            f"install the package {PACKAGE} (apt-get install {PACKAGE}), or put the four IDX files of "
            "Fashion-MNIST into a folder and give load(..., root=folder). Bundled instead: "
            "'fashion-mnist-7k', 7,000 of its 70,000 images."
        )
    arrays, digest, total = [], hashlib.sha256(), 0
    for name, expected in CONTENTS.items():
        try:
            raw = gzip.decompress((root / name).read_bytes())
        except (OSError, EOFError) as error:
            raise ChecksumError(
                f"{root / name} cannot be unpacked ({error}); it is damaged. Install {PACKAGE} again."
            ) from None
        check_sha256(raw, expected, f"{root / name}, unpacked,", f"Install {PACKAGE} again")
        digest.update(raw)
        total += len(raw)
        arrays.append(read_idx(raw, str(root / name)))
    provenance = Provenance(
        source=f"Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747), Debian package {PACKAGE}",
        licence="MIT, Copyright 2017 Zalando SE",
        sha256=digest.hexdigest(),
        bytes=total,
        n=len(arrays[1]) + len(arrays[3]),
    )
    x, y, x_test, y_test = arrays
    return images("system:fashion-mnist", x, y, x_test, y_test, FASHION_CLASSES, provenance, dtype)
