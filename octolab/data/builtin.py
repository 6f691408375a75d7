"""The data sets that need no network: two of scikit-learn's, and the two that travel with octolab."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
from collections.abc import Hashable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from octolab.data.dataset import Dataset, Provenance, check_count, check_share, hold_out, sha256_of_arrays
from octolab.data.errors import ChecksumError, DatasetUnavailable

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DIGITS_SHA256 = "f6d9e39f37dc45d327f6db33428ee58970ccceabb2535a5c179de35886b70443"
BREAST_CANCER_SHA256 = "25e2eb7b7a8745b1bde5ba18bc4969983d2e2f403291ecd5bde4a29ef30c3859"


def digits(test_share: float = 0.2) -> Dataset:
    """8 x 8 handwritten digits, 1,797 x 64 float32 in [0, 1] (pixels / 16), 10 classes.

    `test_share` of them (0.2: 360, leaving 1,437) form the global test set, by default_rng(0)'s permutation.
    """
    table = _digits_table()
    x, y = _verified_arrays("digits", table[:, :-1], table[:, -1], DIGITS_SHA256)
    train, test = hold_out(len(y), test_share)
    pixels = (x / 16).astype(np.float32)
    provenance = Provenance(
        source="scikit-learn's load_digits: Handwritten Digits (Alpaydin, Kaynak 1998), UCI",
        licence="CC BY 4.0 (UCI repository); shipped in scikit-learn, BSD-3-Clause",
        sha256=DIGITS_SHA256,
        bytes=8 * (x.size + y.size),
        n=len(y),
    )
    names = tuple(f"pixel_{i}_{j}" for i in range(8) for j in range(8))
    return _tabular("digits", pixels, y, train, test, tuple(range(10)), provenance, names)


def breast_cancer(test_share: float = 0.0) -> Dataset:
    """Wisconsin diagnostic breast cancer: 569 x 30 float32, standardised; malignant (0), benign (1).

    Each feature has mean 0 and variance 1 over the training samples; a test set (`test_share` > 0) is scaled
    with the training samples' mean and variance. The default keeps all 569 for training.
    """
    bunch = _scikit_learn("breast_cancer")
    x, y = _verified_arrays("breast-cancer", bunch.data, bunch.target, BREAST_CANCER_SHA256)
    train, test = hold_out(len(y), test_share)
    scaled = ((x - x[train].mean(axis=0)) / x[train].std(axis=0)).astype(np.float32)
    provenance = Provenance(
        source="scikit-learn's load_breast_cancer: Wisconsin, Diagnostic (Wolberg et al. 1993), UCI",
        licence="CC BY 4.0 (UCI repository); shipped in scikit-learn, BSD-3-Clause",
        sha256=BREAST_CANCER_SHA256,
        bytes=8 * (x.size + y.size),
        n=len(y),
    )
    names = tuple(str(name) for name in bunch.feature_names)
    classes = ("malignant", "benign")
    return _tabular("breast-cancer", scaled, y, train, test, classes, provenance, names)


def fashion_mnist_7k(dtype: str = "float32") -> Dataset:
    """Fashion-MNIST, class balanced: 6,000 + 1,000 images of 28 x 28, 10 classes of 600 + 100 each.

    `dtype` "float32" gives pixels / 255 in [0, 1]; "uint8" leaves the bytes as they are (a quarter of the memory).
    """
    raw, provenance = read_bundled("fashion-mnist-7k", n=7000)
    with np.load(io.BytesIO(raw), allow_pickle=False) as file:
        x, y, x_test, y_test = (file[key] for key in ("x_train", "y_train", "x_test", "y_test"))
    return images("fashion-mnist-7k", x, y, x_test, y_test, FASHION_CLASSES, provenance, dtype)


def shakespeare(
    seq_len: int = 64, stride: int | None = None, test_share: float = 0.1, vocabulary: str | None = None
) -> Dataset:
    """Next-character prediction over 64 roles of Shakespeare's plays: 64 natural clients, 71 characters.

    Each role's text is cut into windows: x (N, seq_len) are its characters' codes, y (N, seq_len) the codes
    of the characters that follow. Windows start every `stride` characters (None: seq_len, so that they do not
    overlap). The last `test_share` of every role's text makes the global test windows and no training window.
    `vocabulary` replaces the 71 characters by a larger alphabet, to share a model with another text.
    """
    seq_len = check_count(seq_len, "seq_len")
    stride = check_count(seq_len if stride is None else stride, "stride")
    check_share(test_share, "test_share")
    raw, _ = read_bundled("shakespeare", n=0)
    roles = json.loads(gzip.decompress(raw))
    symbols = _vocabulary({c for role in roles for c in role["text"]}, vocabulary)
    code = np.full(max(map(ord, symbols)) + 1, -1, np.int64)
    code[[ord(c) for c in symbols]] = np.arange(len(symbols))
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for role in roles:
        codes = code[np.frombuffer(role["text"].encode("utf-32-le"), "<u4")]
        cut = len(codes) - int(test_share * len(codes))
        parts.append((_windows(codes[:cut], seq_len, stride), _windows(codes[cut:], seq_len, stride)))
    counts = np.array([len(train) for train, _ in parts])
    if counts.min() == 0 or (test_share > 0 and min(len(test) for _, test in parts) == 0):
        shortest = min(len(role["text"]) for role in roles)
        longest = int(shortest * min(1 - test_share, test_share or 1.0)) - 1
        raise ValueError(
            f"seq_len is {seq_len:,}, too long: every role needs one window to train on and, with "
            f"test_share={test_share}, one to test on. Give a seq_len of at most {longest:,}."
        )
    train = np.concatenate([t for t, _ in parts])
    test = np.concatenate([t for _, t in parts])
    _, provenance = read_bundled("shakespeare", n=len(train) + len(test))
    return Dataset(
        name="shakespeare",
        x=np.ascontiguousarray(train[:, :-1]),
        y=np.ascontiguousarray(train[:, 1:]),
        x_test=np.ascontiguousarray(test[:, :-1]) if test_share else None,
        y_test=np.ascontiguousarray(test[:, 1:]) if test_share else None,
        clients=np.repeat(np.arange(len(roles)), counts),
        client_names=tuple(role["client"] for role in roles),
        classes=tuple(symbols),
        kind="text",
        provenance=provenance,
    )


def read_bundled(name: str, n: int, folder: Path | None = None) -> tuple[bytes, Provenance]:
    """The bytes of a bundled file, checked against the manifest, and their provenance (with n samples).

    `folder` (a path with `manifest.json`) stands for the package's own folder. Raises ChecksumError if size
    or SHA-256 differ from the manifest, DatasetUnavailable if the file is missing.
    """
    root = resources.files("octolab.data") / "bundled" if folder is None else folder
    entry = json.loads((root / "manifest.json").read_text(encoding="utf-8"))[name]
    path = root / entry["file"]
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DatasetUnavailable(
            f"The bundled data set {name!r} is missing: there is no file {path}. Install octolab again; its "
            f"package holds that file ({entry['bytes']:,} bytes)."
        ) from None
    check_sha256(raw, entry["sha256"], f"the bundled data set {name!r} ({path})", "Install octolab again")
    return raw, Provenance(entry["source"], entry["licence"], entry["sha256"], entry["bytes"], n)


def check_sha256(raw: bytes, expected: str, what: str, remedy: str) -> str:
    """The SHA-256 of raw, in hexadecimal; ChecksumError, in words, if it is not `expected`."""
    found = hashlib.sha256(raw).hexdigest()
    if found != expected.lower():
        raise ChecksumError(
            f"The bytes of {what} are not the promised ones: their sha256 is {found}, promised is "
            f"{expected} ({len(raw):,} bytes read). {remedy}, or restore the file; it was changed or "
            "damaged."
        )
    return found


def images(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    classes: tuple[Hashable, ...],
    provenance: Provenance,
    dtype: str,
) -> Dataset:
    """A Dataset of uint8 images: as they are (dtype "uint8") or divided by 255 (dtype "float32")."""
    if dtype not in ("float32", "uint8"):
        raise ValueError(f"dtype is {dtype!r}; {name} comes as 'float32' (pixels / 255) or 'uint8' (bytes).")
    if dtype == "float32":
        x, x_test = (np.multiply(part, np.float32(1 / 255), dtype=np.float32) for part in (x, x_test))
    return Dataset(
        name=name,
        x=x,
        y=y.astype(np.int64),
        x_test=x_test,
        y_test=y_test.astype(np.int64),
        clients=None,
        client_names=(),
        classes=classes,
        kind="classification",
        provenance=provenance,
    )


def _tabular(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    classes: tuple[Hashable, ...],
    provenance: Provenance,
    feature_names: tuple[str, ...],
) -> Dataset:
    return Dataset(
        name=name,
        x=x[train],
        y=y[train],
        x_test=x[test] if len(test) else None,
        y_test=y[test] if len(test) else None,
        clients=None,
        client_names=(),
        classes=classes,
        kind="classification",
        provenance=provenance,
        feature_names=feature_names,
    )


def _scikit_learn(name: str) -> Any:
    try:
        from sklearn import datasets
    except ImportError:
        raise DatasetUnavailable(
            f"The data set {name.replace('_', '-')!r} comes inside scikit-learn, which is not installed. "
            "Install scikit-learn, or load 'fashion-mnist-7k' or 'shakespeare', which travel with octolab."
        ) from None
    return getattr(datasets, f"load_{name}")()


def _digits_table() -> np.ndarray:
    """(1797, 65) the digits' file inside scikit-learn, read without importing it and its SciPy, which takes a second."""
    package = importlib.util.find_spec("sklearn")
    file = None if package is None else Path(str(package.origin)).parent / "datasets" / "data" / "digits.csv.gz"
    if file is None or not file.exists():  # missing, or laid out differently: let scikit-learn say so, or find it
        bunch = _scikit_learn("digits")
        return np.column_stack([bunch.data, bunch.target])
    with gzip.open(file, "rt", encoding="ascii") as lines:
        return np.loadtxt(lines, delimiter=",")


def _verified_arrays(name: str, data: np.ndarray, target: np.ndarray, expected: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.ascontiguousarray(data, np.float64), np.asarray(target, np.int64)
    found = sha256_of_arrays(x, y)
    if found != expected:
        raise ChecksumError(
            f"The arrays of {name!r} are not the promised ones: their sha256 is {found}, promised is "
            f"{expected}. The installed scikit-learn is damaged or ships other data; install scikit-learn "
            "again."
        )
    return x, y


def _vocabulary(found: set[str], given: str | None) -> str:
    own = "".join(sorted(found))
    if given is None:
        return own
    missing = sorted(found - set(given))
    if missing or len(set(given)) != len(given):
        fault = f"lacks {''.join(missing)!r}" if missing else "has a character twice"
        raise ValueError(
            f"vocabulary {fault}; it must hold each of the text's {len(own)} characters {own!r} once, and "
            "may hold more. Add what is missing, or leave it out to use the text's own."
        )
    return given


def _windows(codes: np.ndarray, seq_len: int, stride: int) -> np.ndarray:
    """All windows of seq_len + 1 codes that start at a multiple of stride, (count, seq_len + 1)."""
    if len(codes) <= seq_len:
        return np.empty((0, seq_len + 1), np.int64)
    return np.lib.stride_tricks.sliding_window_view(codes, seq_len + 1)[::stride]
