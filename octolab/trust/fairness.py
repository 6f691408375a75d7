"""Who is served how well: clients and groups of one model side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from octolab.arguments import RUN, expects, short, switch
from octolab.problems.groups import group_losses, numbered

if TYPE_CHECKING:
    import pandas as pd

    from octolab.experiment import Run

FEWEST = 5
"""A group with fewer samples is hidden: its loss would tell too much of single people."""


def _values(values: ArrayLike) -> np.ndarray:
    """(n,) as finite numbers; ValueError, in words, for anything else."""
    held = np.asarray(values)
    if held.ndim != 1 or len(held) == 0 or held.dtype.kind not in "biuf" or not np.isfinite(held).all():
        raise ValueError(f"values={short(values)}: give at least one number, and no NaN.")
    return held.astype(float)


def jain(values: ArrayLike) -> float:
    """(sum v)^2/(n sum v^2): 1 when all are equal, 1/n when one has all. Of zeros alone: 1.

    >>> jain([1, 1, 1, 1]), jain([1, 0, 0, 0])
    (1.0, 0.25)
    """
    v = _values(values)
    squares = float((v * v).sum())
    return 1.0 if squares == 0 else float(v.sum() ** 2 / (len(v) * squares))


@expects(greater_is_better=switch())
def evenness(values: ArrayLike, greater_is_better: bool = False) -> dict[str, float]:
    """How evenly n values are spread: mean, std, variance, worst, worst_tenth (the mean of the worst 10 %, rounded up), gap
    (largest less smallest), jain, variation (std/mean).
    """
    v = np.sort(_values(values))
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


@expects(run=RUN)
def groups(run: Run) -> pd.DataFrame:
    """Loss and number of training samples of each group at the run's model; NaN where a group has fewer than five.

    A problem without groups has its clients as groups. These are releases of their own: under differential privacy they
    are not covered by the model's epsilon.
    """
    import pandas as pd

    losses, counts = group_losses(run.problem, run.x)
    losses = np.where(counts < FEWEST, np.nan, losses)
    return pd.DataFrame({"group": numbered(run.problem)[1], "samples": counts, "loss": losses})


@expects(run=RUN)
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
