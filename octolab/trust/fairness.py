"""Who is served how well: clients and groups of one model side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from octolab.problems.groups import group_losses, numbered

if TYPE_CHECKING:
    import pandas as pd

    from octolab.experiment import Run

FEWEST = 5
"""A group with fewer samples is hidden: its loss would tell too much of single people."""


def jain(values: ArrayLike) -> float:
    """(sum v)^2/(n sum v^2): 1 when all are equal, 1/n when one has all. Of zeros alone: 1.

    >>> jain([1, 1, 1, 1]), jain([1, 0, 0, 0])
    (1.0, 0.25)
    """
    v = np.asarray(values, dtype=float)
    squares = float((v * v).sum())
    return 1.0 if squares == 0 else float(v.sum() ** 2 / (len(v) * squares))


def evenness(values: ArrayLike, greater_is_better: bool = False) -> dict[str, float]:
    """How evenly n values are spread: mean, std, variance, worst, worst_tenth (the mean of the worst 10 %, rounded up), gap
    (largest less smallest), jain, variation (std/mean).
    """
    v = np.sort(np.asarray(values, dtype=float))
    if len(v) == 0 or not np.isfinite(v).all():
        raise ValueError(f"{len(v)} values, {int(np.isfinite(v).sum())} of them finite: give at least one, and no NaN.")
    worst_first = v if greater_is_better else v[::-1]
    mean, std = float(v.mean()), float(v.std())
    return {
        "mean": mean,
        "std": std,
        "variance": std**2,
        "worst": float(worst_first[0]),
        "worst_tenth": float(worst_first[: math.ceil(len(v) / 10)].mean()),
        "gap": float(v[-1] - v[0]),
        "jain": jain(v),
        "variation": std / mean if mean else math.nan,
    }


def groups(run: Run) -> pd.DataFrame:
    """Loss and number of training samples of each group at the run's model; NaN where a group has fewer than five.

    A problem without groups has its clients as groups. These are releases of their own: under differential privacy they
    are not covered by the model's epsilon.
    """
    import pandas as pd

    losses, counts = group_losses(run.problem, run.x)
    losses = np.where(counts < FEWEST, np.nan, losses)
    return pd.DataFrame({"group": numbered(run.problem)[1], "samples": counts, "loss": losses})


def fairness_table(run: Run) -> pd.DataFrame:
    """`evenness` of the clients' losses, of their accuracies where there are test parts, and of the groups' losses."""
    import pandas as pd

    measured = run.client_metrics()
    rows = {"client loss": evenness(measured["loss"])}
    if "accuracy" in measured:
        known = np.asarray(measured["accuracy"], dtype=float)
        rows["client accuracy"] = evenness(known[np.isfinite(known)], greater_is_better=True)
    if run.problem.groups is not None:
        rows["group loss"] = evenness(groups(run)["loss"].dropna())
    return pd.DataFrame(rows).T
