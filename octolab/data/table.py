"""From the columns of a table to features: what is encoded, filled in, scaled, and what is no feature at all."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from octolab.data.arrays import as_float, plain
from octolab.data.dataset import listed
from octolab.data.errors import DataWarning

if TYPE_CHECKING:
    import pandas as pd

VALUES = "lists of categories"  # what all must agree on anyway, so that the columns are the same
ONE_HOT_MOST = 1000
WORDS = 256  # columns that a text column's words are hashed into
ENOUGH = 10  # rows from which a column that never repeats looks like an index or an identifier
IDENTIFIER = re.compile(
    r"(?i:^(id|uuid|guid|idx|index|unnamed: \d+)$)|(?i:[_ .-](id|uuid|guid|idx|index)$)|[a-z](ID|Id)$"
)
DATE = re.compile(r"^\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})([T ]\d{1,2}:\d{2}.*)?\s*$")
CHOICES = {
    "categorical": ("one-hot", "codes", "refuse"),
    "missing": ("median+flag", "median", "drop", "refuse"),
    "scale": (None, "standard"),
    "statistics": ("pooled", "per client"),
}


@dataclass
class Encoder:
    """How columns become features.

    categorical: "one-hot" (a column of zeros and ones per value), "codes" (0, 1, ... in sorted order) or "refuse".
    missing: "median+flag" (the median, and a column that says where), "median", "drop" (the rows) or "refuse".
    scale: None, or "standard": numbers get mean 0 and variance 1. statistics: medians, means and deviations "pooled"
    over all training rows, or "per client", each from its own rows, as a federation can.
    """

    categorical: str = "one-hot"
    missing: str = "median+flag"
    scale: str | None = None
    statistics: str = "pooled"
    where: str = "the table"
    single: bool = False  # float32 throughout, but for whole numbers that it cannot tell apart
    clients: np.ndarray | None = None  # (N,) code of each row's client, -1: none
    train: np.ndarray | None = None  # (N,) bool: rows from which statistics are taken
    notes: list[str] = field(default_factory=list)
    pooled: list[str] = field(default_factory=list)  # what was taken from all training rows together

    _too_wide: bool = False  # a column needs float64

    @property
    def took(self) -> list[str]:
        """The statistics that statistics='per client' would take from each client alone."""
        return [what for what in self.pooled if what != VALUES]

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; allowed are {', '.join(map(repr, allowed))}. Choose one."
                )

    def complete(self, frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
        """The rows without a missing feature; a note says how many were dropped."""
        full = np.asarray(frame[list(names)].notna().all(axis=1))
        if not full.all():
            self.notes.append(f"{int((~full).sum()):,} rows with missing features were dropped")
        if not full.any():
            raise ValueError(f"{self.where}: every row has a missing feature; say missing='median+flag' instead.")
        return frame[full].reset_index(drop=True)

    def features(self, frame: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """x (N, d), float32 where that holds the columns exactly as they came or they were float32, else float64; and
        a name per column. A single column of arrays gives (N, ...) and None.
        """
        if self.statistics == "per client" and self.clients is None:
            raise ValueError(f"{self.where}: statistics='per client' needs clients; name the column with client=...")
        if len(names) == 1 and _holds_arrays(frame[names[0]]):
            return self._arrays(frame[names[0]], names[0]), None
        held = [n for n in names if _holds_arrays(frame[n])]
        if held:
            raise ValueError(
                f"{self.where}: column {held[0]!r} holds arrays; a column of arrays must be the only feature; choose "
                "one with features=[...]."
            )
        parts: list[np.ndarray] = []
        titles: list[str] = []
        for name in names:
            made = self._column(frame[name], name)
            parts += made.values()
            titles += made.keys()
        self._say_pooled()
        wide = self._too_wide or (not self.single and any(p.dtype == np.float64 for p in parts))
        x = np.empty((len(frame), len(parts)), np.float64 if wide else np.float32)
        for k, part in enumerate(parts):
            x[:, k] = part
        return x, tuple(titles)

    # -- one column ------------------------------------------------------------------------------------------
    def _column(self, series: pd.Series, name: str) -> dict[str, np.ndarray]:
        """The features that a column becomes, by name."""
        kind = kind_of(series)
        if kind == "number":
            return self._number(plain(series, name), name)
        if kind == "text" and self.categorical != "refuse":
            return self._words(series, name)
        if kind in ("time", "other") or self.categorical == "refuse":
            what = {"time": " but times", "other": ""}.get(kind, " but text or categories")
            raise ValueError(
                f"{self.where}: the columns {name} hold no numbers{what}; features must be numbers. Encode them first "
                "(categorical='one-hot' does for text), or choose others with features=[...]."
            )
        return self._category(series, name)

    def _number(self, values: np.ndarray, name: str) -> dict[str, np.ndarray]:
        if values.dtype.kind == "b":
            return {name: values.astype(np.float32)}
        if values.dtype.kind != "f":
            small = not len(values) or int(max(abs(int(values.max())), abs(int(values.min())))) <= 2**24
            values = as_float(values, np.dtype(np.float32 if small else np.float64), f"{self.where}: column {name!r}")
            if not small:
                self._wide(name)
        elif self.single and _collapses(values):
            self._wide(name)
        gaps = ~np.isfinite(values)
        out = {}
        if gaps.any():
            if np.isinf(values).any():
                raise ValueError(f"{self.where}: column {name!r} holds inf, no missing value. Replace it first.")
            if self.missing == "refuse":
                raise ValueError(
                    f"{self.where}: {int(gaps.sum()):,} of {len(values):,} samples have missing or non-finite features "
                    f"(column {name!r}). Fill them in, or say missing='median+flag'."
                )
            values = np.where(gaps, self._middle(values, np.median, name, "median"), values)
            if self.missing == "median+flag":
                out = {f"{name} is missing": gaps.astype(np.float32)}
        if self.scale == "standard":
            middle, spread = (
                self._middle(values, np.mean, name, "mean"),
                self._middle(values, np.std, name, "deviation"),
            )
            values = (values - middle) / np.where(spread > 0, spread, 1)
        return {name: values, **out}

    def _middle(
        self, values: np.ndarray, of: Callable[[np.ndarray], float], name: str, what: str
    ) -> np.ndarray | float:
        """A statistic of the present training values: one number, or one per row, its client's."""
        present = np.isfinite(values) & (True if self.train is None else self.train)
        if self.statistics == "pooled":
            if f"{what}s" not in self.pooled:
                self.pooled.append(f"{what}s")
            return float(of(values[present].astype(np.float64))) if present.any() else 0.0
        assert self.clients is not None
        order = np.argsort(self.clients[present], kind="stable")
        ids, starts = np.unique(self.clients[present][order], return_index=True)
        own = (
            [float(of(v)) for v in np.split(values[present][order].astype(np.float64), starts[1:])] if len(ids) else []
        )
        table = np.full(int(self.clients.max()) + 2, np.mean(own) if own else 0.0)  # who has none: the clients' mean
        table[ids] = own
        return table[self.clients]

    def _category(self, series: pd.Series, name: str) -> dict[str, np.ndarray]:
        codes, values = _codes(series)
        seen = np.bincount(codes[self._rows(codes)], minlength=len(values)) > 0
        gaps = codes < 0
        if gaps.any() and self.missing == "refuse":
            raise ValueError(
                f"{self.where}: {int(gaps.sum()):,} of {len(codes):,} samples have missing features (column {name!r}). "
                "Fill them in, or say missing='median+flag'."
            )
        if VALUES not in self.pooled:
            self.pooled.append(VALUES)
        flag = {f"{name} is missing": gaps.astype(np.float32)} if gaps.any() and self.missing == "median+flag" else {}
        if self.categorical == "codes":
            return {name: np.where(gaps, len(values), codes).astype(np.float32), **flag}
        if int(seen.sum()) > ONE_HOT_MOST:
            raise ValueError(
                f"{self.where}: column {name!r} has {int(seen.sum()):,} different values, too many for a column each "
                f"(at most {ONE_HOT_MOST:,}). Leave it out with features=[...], or say categorical='codes'."
            )
        return {f"{name}={values[k]}": (codes == k).astype(np.float32) for k in np.flatnonzero(seen)} | flag

    def _rows(self, codes: np.ndarray) -> np.ndarray:
        return codes >= 0 if self.train is None else (codes >= 0) & self.train

    def _words(self, series: pd.Series, name: str) -> dict[str, np.ndarray]:
        from sklearn.feature_extraction.text import HashingVectorizer

        texts = ["" if v is None or v != v else str(v) for v in series]
        rows = HashingVectorizer(n_features=WORDS, dtype=np.float32).transform(texts).toarray()
        self.notes.append(f"the text in {name!r} became counts of words, hashed into {WORDS} columns (no statistics)")
        return {f"{name}#{k}": rows[:, k] for k in range(WORDS)}

    def _arrays(self, series: pd.Series, name: str) -> np.ndarray:
        x = plain(series, f"{self.where}, column {name!r}")
        if x.dtype.kind == "O":
            raise ValueError(
                f"{self.where}, column {name!r}: the arrays have different shapes; all samples need one shape."
            )
        if x.dtype.kind not in "biuf":
            raise ValueError(f"{self.where}, column {name!r}: the arrays hold no numbers (dtype {x.dtype}).")
        if x.dtype == np.uint8:
            self.notes.append(f"the bytes in {name!r} were divided by 255")
            return np.multiply(x, np.float32(1 / 255), dtype=np.float32)
        return x if x.dtype == np.float64 and not self.single else x.astype(np.float32)

    # -- what is said ----------------------------------------------------------------------------------------
    def _wide(self, name: str) -> None:
        self._too_wide = True
        warnings.warn(
            f"{self.where}: column {name!r} holds numbers so large that float32 cannot tell them apart (a timestamp "
            "or an identifier?); x is float64. Leave it out, or subtract its least value.",
            DataWarning,
            stacklevel=6,
        )

    def _say_pooled(self) -> None:
        if self.took:
            self.notes.append(
                f"{listed(self.took, 4)} are pooled: of all training samples together (statistics='per client' takes "
                "each client's own)"
            )
        if VALUES in self.pooled:
            self.notes.append("categories are all values that occur in training; clients would have to share that list")


def _collapses(values: np.ndarray) -> bool:
    """Whether many different float64 numbers would be one in float32: seconds since 1970, say."""
    present = values[np.isfinite(values)]
    if values.dtype != np.float64 or not len(present):
        return False
    most, spread = float(np.abs(present).max()), float(present.max() - present.min())
    if most <= 2**24 and spread > 1e-5 * most:
        return False
    return 2 * len(np.unique(present.astype(np.float32))) < len(np.unique(present))


# -- which columns are features ------------------------------------------------------------------------------
def feature_columns(frame: pd.DataFrame, taken: Sequence[str | None], where: str) -> list[str]:
    """All columns but `taken`, indices, identifiers and times; a DataWarning names those left out."""
    kept, left_out = [], []
    for name in [c for c in frame.columns if c not in taken]:
        why = _no_feature(frame[name], name)
        if why is None:
            kept.append(name)
        else:
            left_out.append(f"{name!r} ({why})")
    if left_out:
        warnings.warn(
            f"{where}: {listed(left_out, 8)} left out of the features. To choose yourself give features=[...].",
            DataWarning,
            stacklevel=5,
        )
    if not kept:
        also = f" after {listed(left_out, 8)} were left out" if left_out else ""
        raise ValueError(f"{where} has no feature column left{also}; give features=[...] or a table with more columns.")
    return kept


def _no_feature(series: pd.Series, name: str) -> str | None:
    """Why a column is no feature; None if it may be one."""
    kind, n = kind_of(series), len(series)
    if kind == "time":
        return "times: turn them into numbers, such as the hour, to use them"
    if n < ENOUGH:
        return None
    if kind == "number":
        values = plain(series, name)
        if values.dtype.kind not in "iu":
            return None
        if values[0] in (0, 1) and bool((np.diff(values) == 1).all()):
            return "an index: it counts the rows"
        if IDENTIFIER.search(name) and series.nunique() > max(ENOUGH, n // 50):
            return f"an identifier by its name, {series.nunique():,} different values"
        return None
    if kind == "category":
        different = series.nunique()
        if IDENTIFIER.search(name) and different > max(ENOUGH, n // 50):
            return f"an identifier by its name, {different:,} different values"
        if different > min(max(20, n // 2), ONE_HOT_MOST):
            return f"an identifier: {different:,} different values in {n:,} rows"
    return None


def kind_of(series: pd.Series) -> str:
    """What a column holds: "number", "category", "text" (many different sentences), "time", "arrays" or "other"."""
    dtype = series.dtype
    if hasattr(dtype, "categories"):
        return "category"
    kind = getattr(dtype, "kind", "O")
    if kind in "biuf":
        return "number"
    if kind in "Mm":
        return "time"
    if kind == "c":
        return "other"
    present = series.dropna()
    if len(present) == 0 or (not _is_text(dtype) and plain(present, "").dtype.kind in "biuf"):
        return "arrays" if len(present) and not np.isscalar(present.iloc[0]) else "number"
    some = present.iloc[:50]
    if all(isinstance(v, str) for v in some):
        if all(DATE.match(v) for v in some):
            return "time"
        words = sum(len(v.split()) for v in some) / len(some)
        return "text" if words >= 3 and present.nunique() > max(20, len(present) // 2) else "category"
    if hasattr(some.iloc[0], "isoformat"):
        return "time"
    return "other" if not all(np.isscalar(v) for v in some) else "category"


def _is_text(dtype: object) -> bool:
    return type(dtype).__name__ == "StringDtype"


def _holds_arrays(series: pd.Series) -> bool:
    if getattr(series.dtype, "kind", "O") != "O" or not len(series) or _is_text(series.dtype):
        return False
    return isinstance(series.iloc[0], (np.ndarray, list, tuple)) or hasattr(series.iloc[0], "detach")


def _codes(series: pd.Series) -> tuple[np.ndarray, list[Hashable]]:
    """Codes (N,) of a column's sorted values, -1 for missing ones."""
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype):
        return np.asarray(series.cat.codes, np.int64), list(series.cat.categories)
    try:
        codes, values = pd.factorize(series, sort=True)
    except TypeError:
        codes, values = pd.factorize(series.where(series.isna(), series.astype(str)), sort=True)
    return np.asarray(codes, np.int64), list(values)
