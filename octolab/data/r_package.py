"""`system:` tables of R packages that Debian ships: real data with natural clients, read without R."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from octolab.data.dataset import Dataset, Provenance, listed
from octolab.data.errors import ChecksumError, DatasetUnavailable
from octolab.data.frame import read_frame
from octolab.data.table import Encoder

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path("/usr/lib/R/site-library")
PACKAGES = {"modeldata": "modeldata", "mlmrev": "mlmRev", "lme4": "lme4"}  # Debian's r-cran-NAME, and its folder


class Use(NamedTuple):
    """How a table is commonly used: what is predicted, the natural clients, and columns that only number the rows."""

    target: str
    client: str | None = None
    kind: str | None = None
    without: tuple[str, ...] = ()


USUAL = {
    "modeldata/attrition": Use("Attrition"),
    "modeldata/credit_data": Use("Status"),
    "modeldata/lending_club": Use("Class", "addr_state"),
    "modeldata/mlc_churn": Use("churn", "state"),
    "modeldata/Sacramento": Use("price", "city", "regression", ("zip",)),
    "modeldata/ames": Use("Sale_Price", "Neighborhood", "regression"),
    "modeldata/stackoverflow": Use("Remote", "Country"),
    "mlmrev/Exam": Use("normexam", "school", "regression", ("student",)),
    "mlmrev/Chem97": Use("score", "school", "regression", ("student", "lea")),
    "mlmrev/Contraception": Use("use", "district", None, ("woman",)),
    "mlmrev/Hsb82": Use("mAch", "school", "regression"),
    "mlmrev/guImmun": Use("immun", "comm", None, ("kid", "mom")),
    "lme4/InstEval": Use("y", "dept", "regression", ("s", "d")),
    "lme4/VerbAgg": Use("r2", "item", None, ("resp", "id")),
    "lme4/sleepstudy": Use("Reaction", "Subject", "regression"),
}


def load_r_table(
    table: str,
    target: str | Sequence[str] | None = None,
    client: str | None = None,
    features: Sequence[str] | None = None,
    groups: str | None = None,
    kind: str | None = None,
    categorical: str = "one-hot",
    missing: str = "median+flag",
    scale: str | None = None,
    statistics: str = "pooled",
    test_share: float = 0.0,
    root: str | Path = ROOT,
) -> Dataset:
    """A table of an installed R package, "mlmrev/Exam" say, from Debian's r-cran-modeldata, r-cran-mlmrev, r-cran-lme4.

    target, client: columns; for the tables in USUAL they may be left out. The other options as in `from_frame`. root:
    the folder of R packages.

    Raises DatasetUnavailable where the package, or rdata, which reads R's files, is not installed; ValueError for a
    package, table or column that there is not.
    """
    package, _, name = table.partition("/")
    if package not in PACKAGES or not name:
        raise ValueError(
            f"'system:{table}' names no table: the form is 'system:PACKAGE/TABLE', with PACKAGE one of "
            f"{', '.join(PACKAGES)}, e.g. 'system:mlmrev/Exam'; or 'system:fashion-mnist'."
        )
    folder = Path(root) / PACKAGES[package]
    frame, raw = read_r_table(folder, name, package)
    usual = USUAL.get(table)
    if target is None and usual is None:
        raise ValueError(f"'system:{table}' needs target=...; its columns are {listed(frame.columns, 20)}.")
    if usual is not None and target in (None, usual.target):
        target, client, kind = usual.target, client or usual.client, kind or usual.kind
        if features is None:
            taken = {target, client, groups, *usual.without}
            features = [c for c in frame.columns if c not in taken]
    assert target is not None
    encoder = Encoder(categorical, missing, scale, statistics, where=f"system:{table}", single=True)
    made = read_frame(frame, encoder, target, client, groups, features, kind, test_share=test_share)
    provenance = Provenance(
        source=f"the table {name} of the R package {PACKAGES[package]}, Debian's r-cran-{package} ({_said(folder, 'Version')})",
        licence=f"{_said(folder, 'License')} (of the package)",
        sha256=hashlib.sha256(raw).hexdigest(),
        bytes=len(raw),
        n=len(frame),
    )
    return replace(made, provenance=provenance)


def read_r_table(folder: Path, name: str, package: str) -> tuple[pd.DataFrame, bytes]:
    """A table of R's lazy-load database in `folder`, and its bytes when unpacked."""
    try:
        import rdata
    except ImportError:
        raise DatasetUnavailable(
            f"'system:{package}/{name}' is written in R's format, which the package rdata reads; it is not installed. "
            "Install rdata (pip install rdata)."
        ) from None
    index, store = folder / "data" / "Rdata.rdx", folder / "data" / "Rdata.rdb"
    if not (index.is_file() and store.is_file()):
        raise DatasetUnavailable(
            f"'system:{package}/{name}' is unavailable: {folder} has no data. On Debian or Ubuntu install the package "
            f"r-cran-{package} (apt-get install r-cran-{package})."
        )
    try:
        held: Mapping[str, Sequence[int]] = rdata.read_rds(index)["variables"]
        if name not in held:
            raise ValueError(f"The package {package} has no table {name!r}; it has {listed(sorted(held), 60)}.")
        start, length = (int(v) for v in held[name])
        raw = unpacked(store.read_bytes()[start : start + length])
    except (OSError, EOFError, KeyError, zlib.error, lzma.LZMAError) as error:
        raise ChecksumError(f"{folder / 'data'} is damaged ({error}). Install r-cran-{package} again.") from None
    try:
        table = rdata.conversion.convert(rdata.parser.parse_data(raw, extension=".rds"))
    except (ValueError, NotImplementedError) as error:
        raise ValueError(
            f"The table {name!r} of {package} cannot be read without R ({error}). Choose another."
        ) from None
    if not hasattr(table, "columns"):
        raise ValueError(f"{name!r} of {package} is no table but {type(table).__name__}. Choose another.")
    return table.reset_index(drop=True), raw


def unpacked(chunk: bytes) -> bytes:
    """An entry of a lazy-load database: its length when unpacked (4 bytes, big-endian), then zlib, or a letter and bzip2 or
    LZMA data.
    """
    size, kind, packed = int.from_bytes(chunk[:4], "big"), chunk[4:5], chunk[5:]
    if kind == b"2":
        raw = bz2.decompress(packed)
    elif kind == b"Z":
        raw = lzma.decompress(packed, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6}])
    elif kind == b"0":
        raw = packed
    else:
        raw = zlib.decompress(chunk[4:])
    if len(raw) != size:
        raise EOFError(f"{len(raw):,} bytes instead of {size:,}")
    return raw


def _said(folder: Path, field: str) -> str:
    """A line of the package's DESCRIPTION."""
    path = folder / "DESCRIPTION"
    found = re.search(rf"^{field}: *(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE) if path.is_file() else None
    return found.group(1).strip() if found else "not stated"
