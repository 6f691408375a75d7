"""`file:` data sets: a user's own parquet, csv, json or npz."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from octolab.data.arrays import as_float
from octolab.data.builtin import check_sha256
from octolab.data.conversion import from_arrays, same_bytes
from octolab.data.dataset import Dataset, Provenance
from octolab.data.errors import DataFileMissing
from octolab.data.frame import read_frame
from octolab.data.table import Encoder

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".parquet", ".csv", ".json", ".jsonl", ".npz")


def load_file(
    path: str,
    target: str | Sequence[str] = "label",
    client: str | None = "client",
    features: Sequence[str] | None = None,
    test_share: float = 0.0,
    licence: str = "not stated",
    sha256: str | None = None,
    groups: str | None = None,
    kind: str | None = None,
    categorical: str = "one-hot",
    missing: str = "median+flag",
    scale: str | None = None,
    statistics: str = "pooled",
) -> Dataset:
    """Read a file of samples; which reader is used follows from its suffix.

    Args:
        path: .parquet, .csv, .json (records, or one object a line), .jsonl, or .npz with arrays x and y, and
            if wanted x_test and y_test, clients (one natural client id per sample). Arrays of bytes (uint8
            images) are divided by 255, other features become float32 (float64 where large whole numbers need it).
        target: column of the labels, or several (tables only).
        client: column of natural client ids; if there is no column "client" there are no natural clients.
        features, groups, kind, categorical, missing, scale, statistics: as in `from_frame` (tables only; kind: both).
        test_share: share of the samples kept as global test set, by default_rng(0)'s permutation.
        licence: noted in the provenance.
        sha256: if given, the file's bytes must have this SHA-256.

    Raises FileNotFoundError, ChecksumError, or ValueError (unknown suffix, missing column, values that are
    no numbers).
    """
    where = Path(path).expanduser()
    suffix = where.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"'file:{path}' has the suffix {suffix or 'none'!r}; octolab reads {', '.join(SUFFIXES)}. Save "
            "the table in one of these forms."
        )
    try:
        raw = where.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise DataFileMissing(
            f"'file:{path}' does not exist (looked for {where.absolute()}). Check the path, or put the file there."
        ) from None
    if sha256 is not None:
        check_sha256(raw, sha256, str(where), "Fetch it again")
    digest = hashlib.sha256(raw).hexdigest()

    provenance = Provenance(str(where), licence, digest, len(raw), 0)
    name = f"file:{path}"
    if suffix == ".npz":
        made = _from_npz(name, raw, test_share, kind)
    else:
        frame = read_table(raw, suffix, name)
        encoder = Encoder(categorical, missing, scale, statistics, where=name, single=True)
        natural = None if client == "client" and client not in frame.columns else client
        made = read_frame(frame, encoder, target, natural, groups, features, kind, test_share=test_share)
    return replace(made, provenance=replace(provenance, n=made.provenance.n))


def read_table(raw: bytes, suffix: str, what: str) -> pd.DataFrame:
    """A table file through pandas. Raises ValueError if it cannot be read."""
    import pandas as pd

    buffer = io.BytesIO(raw)
    try:
        if suffix == ".parquet":
            frame = pd.read_parquet(buffer)
        elif suffix == ".csv":
            frame = pd.read_csv(buffer)
        else:
            frame = pd.read_json(buffer, lines=suffix == ".jsonl" or not raw.lstrip().startswith((b"[", b'{"')))
    except Exception as error:
        if suffix == ".json":
            try:
                return pd.read_json(io.BytesIO(raw), lines=True)
            except ValueError:
                pass
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{what} cannot be read as {suffix[1:]}: {first}. Check that the file is whole and of that form."
        ) from error
    return frame


def _from_npz(name: str, raw: bytes, test_share: float, kind: str | None) -> Dataset:
    arrays = _npz_arrays(name, raw)
    for key in ("x", "y"):
        if key not in arrays:
            raise ValueError(
                f"{name} has no array {key!r}; it has {', '.join(sorted(arrays)) or 'none'}. An npz file "
                "needs x and y, and may have x_test, y_test and clients: np.savez(path, x=x, y=y)."
            )
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise ValueError(f"{name} has only one of x_test and y_test; save both or neither.")
    x, test = arrays["x"], None
    if "x_test" in arrays:
        same_bytes(x, arrays["x_test"], name)
        test = (_floats(arrays["x_test"]), arrays["y_test"])
    made = from_arrays(
        _floats(x), arrays["y"], arrays.get("clients"), test=test, kind=kind, test_share=test_share, name=name
    )
    y, y_test = made.y, made.y_test
    if made.kind == "regression":
        y, y_test = y.astype(np.float32), None if y_test is None else y_test.astype(np.float32)
    return replace(made, y=y, y_test=y_test, given=False)


def _floats(x: np.ndarray) -> np.ndarray:
    """Bytes divided by 255, other numbers as float32."""
    if x.dtype == np.uint8:
        return np.multiply(x, np.float32(1 / 255), dtype=np.float32)
    return as_float(x, np.dtype(np.float32), "x") if x.dtype.kind in "biuf" else x


def _npz_arrays(name: str, raw: bytes) -> dict[str, np.ndarray]:
    try:
        file = np.load(io.BytesIO(raw), allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile):
        file = None
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError(f"{name} is not an npz archive; it is cut, or of another form. Save it with np.savez.")
    arrays = {}
    with file:
        for key in file.files:
            try:
                arrays[key] = np.asarray(file[key])
            except (OSError, EOFError, zipfile.BadZipFile, zlib.error):
                raise ValueError(f"{name}: the array {key!r} is damaged. Save the file again.") from None
            except ValueError:
                raise ValueError(
                    f"{name}: the array {key!r} holds Python objects, which octolab never unpickles (that "
                    "would run code from the file). Save it as numbers or fixed-width strings, e.g. "
                    "x.astype('float32')."
                ) from None
    return arrays
