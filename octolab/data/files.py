"""`file:` data sets: a user's own parquet, csv, json or npz."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from octolab.data.builtin import check_sha256
from octolab.data.columns import from_columns
from octolab.data.dataset import Dataset, Provenance

SUFFIXES = (".parquet", ".csv", ".json", ".jsonl", ".npz")


def load_file(
    path: str,
    target: str = "label",
    client: str | None = "client",
    features: Sequence[str] | None = None,
    test_share: float = 0.0,
    licence: str = "not stated",
    sha256: str | None = None,
) -> Dataset:
    """Read a file of samples; which reader is used follows from its suffix.

    Args:
        path: .parquet, .csv, .json (records, or one object a line), .jsonl, or .npz with arrays x and y, and
            if wanted x_test and y_test, clients (one natural client id per sample). Arrays of bytes (uint8
            images) are divided by 255, other features become float32 as they are.
        target: column of the labels (tables only).
        client: column of natural client ids; if there is no column "client" there are no natural clients.
        features: columns of x, default all others (tables only).
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
        raise FileNotFoundError(
            f"'file:{path}' does not exist (looked for {where.absolute()}). Check the path, or put the file there."
        ) from None
    if sha256 is not None:
        check_sha256(raw, sha256, str(where), "Fetch it again")
    digest = hashlib.sha256(raw).hexdigest()

    provenance = Provenance(str(where), licence, digest, len(raw), 0)
    if suffix == ".npz":
        return _from_npz(f"file:{path}", raw, provenance, test_share)
    return from_columns(
        f"file:{path}",
        read_table(raw, suffix, f"file:{path}"),
        provenance,
        target=target,
        client=client,
        features=features,
        test_share=test_share,
    )


def read_table(raw: bytes, suffix: str, what: str) -> dict[str, np.ndarray]:
    """The columns of a table file as numpy arrays, through pandas. Raises ValueError if it cannot be read."""
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
                return _columns(pd.read_json(io.BytesIO(raw), lines=True))
            except ValueError:
                pass
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{what} cannot be read as {suffix[1:]}: {first}. Check that the file is whole and of that form."
        ) from error
    return _columns(frame)


def _columns(frame: Any) -> dict[str, np.ndarray]:
    return {str(name): _numpy(frame[name]) for name in frame.columns}


def _numpy(series: Any) -> np.ndarray:
    values = series.to_numpy()
    if values.dtype.kind != "O":
        return values
    try:  # pandas' nullable numbers come as objects; as floats, missing ones are NaN and are reported as such
        return series.astype("float64").to_numpy() if series.dtype.kind in "biuf" else values
    except (AttributeError, TypeError, ValueError):
        return values


def _from_npz(name: str, raw: bytes, provenance: Provenance, test_share: float) -> Dataset:
    arrays = _npz_arrays(name, raw)
    for key in ("x", "y"):
        if key not in arrays:
            raise ValueError(
                f"{name} has no array {key!r}; it has {', '.join(sorted(arrays)) or 'none'}. An npz file "
                "needs x and y, and may have x_test, y_test and clients: np.savez(path, x=x, y=y)."
            )
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise ValueError(f"{name} has only one of x_test and y_test; save both or neither.")
    test = {"x": arrays["x_test"], "y": arrays["y_test"]} if "x_test" in arrays else None
    client = "clients" if "clients" in arrays else None
    return from_columns(
        name,
        arrays,
        provenance,
        target="y",
        client=client,
        features=["x"],
        test_share=test_share,
        test=test,
    )


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
