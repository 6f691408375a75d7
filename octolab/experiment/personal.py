"""How personal models do: every client's own, on its own data, beside the common one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def personal_metrics(problem: Any, own: torch.Tensor, x: torch.Tensor) -> dict[str, float]:
    """personal_loss: sum_i w_i f_i(x_i), own (n, d). Where clients have test parts also personal_accuracy (mean over
    clients of each one's accuracy on its own), personal_accuracy_worst10 (mean of the worst tenth of them), and
    client_accuracy: the common model x (d,), judged in the same way.
    """
    mine = problem.client_metrics(own)
    row = {"personal_loss": float(problem.weights.numpy() @ mine["loss"])}
    if "accuracy" in mine and np.isfinite(mine["accuracy"]).any():
        right = np.sort(mine["accuracy"][np.isfinite(mine["accuracy"])])
        row["personal_accuracy"] = float(right.mean())
        row["personal_accuracy_worst10"] = float(right[: max(1, len(right) // 10)].mean())
        row["client_accuracy"] = float(np.nanmean(problem.client_metrics(x)["accuracy"]))
    return row
