"""Honest numbers over seeds: a middle with a band, the interquartile mean, and a paired test of two methods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BANDS = ("minmax", "sd", "ci95")
"""least to greatest around the median; mean +- standard deviation; mean with a 95 % bootstrap interval of the mean."""
RESAMPLES = 2000


def check_band(band: str) -> str:
    """`band` if it is one; else a ValueError that lists them."""
    if band not in BANDS:
        raise ValueError(f"band={band!r}: choose one of {', '.join(map(repr, BANDS))}.")
    return band


def middle(values: np.ndarray, band: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of values (seeds, T), NaN where a seed has none: the middle, and the band's low and high, (T,) each."""
    if check_band(band) == "minmax":
        return np.nanmedian(values, 0), np.nanmin(values, 0), np.nanmax(values, 0)
    mean = np.nanmean(values, 0)
    if band == "sd":
        spread = deviation(values)
        return mean, mean - spread, mean + spread
    return mean, *interval(values)


def deviation(values: np.ndarray) -> np.ndarray:
    """(T,) sample standard deviation over the seeds (axis 0); NaN for fewer than two."""
    seen = np.isfinite(values).sum(0)
    squares = np.nansum((values - np.nanmean(values, 0)) ** 2, 0)
    return np.sqrt(np.where(seen > 1, squares / np.maximum(seen - 1, 1), np.nan))


def interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Low and high (T,) of the mean over the seeds (axis 0): percentile bootstrap, with draws of its own that never change."""
    seeds = len(values)
    picked = np.random.default_rng(2023).integers(0, seeds, (RESAMPLES, seeds))
    counts = np.zeros((RESAMPLES, seeds))
    np.add.at(counts, (np.arange(RESAMPLES)[:, None], picked), 1)
    seen = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        means = (counts @ np.where(seen, values, 0)) / (counts @ seen)
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def interquartile_mean(values: np.ndarray) -> float:
    """The mean of the middle half, in which single lucky or failed seeds have no say."""
    from scipy.stats import trim_mean

    known = np.asarray(values, dtype=float)
    return float(trim_mean(known, 0.25)) if np.isfinite(known).all() and len(known) else float("nan")


CENTRES = {
    "mean": lambda v: float(np.mean(v)),
    "median": lambda v: float(np.median(v)),
    "iqm": interquartile_mean,
}
"""The middle of a table's entry over the seeds; "iqm" is the interquartile mean."""


def check_centre(centre: str) -> str:
    """`centre` if it is one; else a ValueError that lists them."""
    if centre not in CENTRES:
        raise ValueError(f"centre={centre!r}: choose one of {', '.join(map(repr, CENTRES))}.")
    return centre


def ends(values: np.ndarray, band: str) -> tuple[float, float]:
    """Low and high of values (seeds,): of "sd" the mean less and plus a standard deviation."""
    if check_band(band) == "minmax":
        return float(values.min()), float(values.max())
    _, low, high = middle(values[:, None], band)
    return float(low[0]), float(high[0])


@dataclass(frozen=True)
class Paired:
    """Two methods on the same seeds: the mean difference first - second, its 95 % bootstrap interval, and p values.

    t: of Student's paired t-test; wilcoxon: of the signed-rank test, which assumes no normal distribution. With n seeds the
    latter is never below 2^(1-n): five seeds cannot show p < 0.05.
    """

    first: str
    second: str
    column: str
    seeds: int
    difference: float
    low: float
    high: float
    t: float
    wilcoxon: float

    def __str__(self) -> str:
        return (
            f"{self.column} of {self.first} minus {self.second}, {self.seeds} paired seeds: {self.difference:.4g} "
            f"(95 % of the mean: {self.low:.4g} to {self.high:.4g}), paired t-test p={self.t:.3g}, Wilcoxon p={self.wilcoxon:.3g}"
        )


def paired(first: str, a: np.ndarray, second: str, b: np.ndarray, column: str) -> Paired:
    """The paired test of a and b (seeds,), seed by seed."""
    from scipy.stats import ttest_rel, wilcoxon

    d = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    if len(d) < 2 or not np.isfinite(d).all():
        raise ValueError(
            f"A paired test of {column} needs at least two seeds, with a finite value in both methods; got {d.tolist()}."
        )
    low, high = interval(d[:, None])
    same = bool((d == d[0]).all())  # no spread: a t-test divides by it
    t = float(d[0] == 0) if same else float(ttest_rel(a, b).pvalue)
    w = 1.0 if not d.any() else float(wilcoxon(d).pvalue)
    return Paired(first, second, column, len(d), float(d.mean()), float(low[0]), float(high[0]), t, w)
