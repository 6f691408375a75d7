"""How personal models do: every client's own, on its own data, beside the common one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from octolab.errors import OctolabError

if TYPE_CHECKING:
    from octolab.experiment.run import Run
    from octolab.problems import Problem


def personal_names(problem: Problem) -> list[str]:
    """The columns that a method with personal models writes on this problem."""
    judged = [] if problem.client_accuracy(problem.x0) is None else ["personal_accuracy", "client_accuracy"]
    return ["personal_loss", *(name + tail for name in judged for tail in ("", "_worst10"))]


def personal_columns(run: Run, x: torch.Tensor) -> dict[str, float]:
    """What a run writes down about its personal models, beside the common one x (d,); empty if there are none.

    Nothing either where the data are the nodes' own, or where a node is gone with its client's memory.
    """
    if hasattr(run.problem, "settle"):  # data that only the nodes can see: octolab.flower.own
        return {}
    try:
        own = run.method.personal(run.federation, run.state)
    except OctolabError:
        return {}
    return {} if own is None else personal_metrics(run.federation.objective, own, x)


def personal_metrics(problem: Problem, own: torch.Tensor, x: torch.Tensor) -> dict[str, float]:
    """personal_loss: sum_i w_i f_i(x_i), own (n, d). Where clients have test parts also personal_accuracy (mean over
    clients of each one's accuracy on its own), personal_accuracy_worst10 (mean of the worst tenth of them), and
    client_accuracy, client_accuracy_worst10: the common model x (d,), judged in the same way.
    """
    mine = problem.client_metrics(own)
    row = {"personal_loss": float(problem.weights.numpy() @ mine["loss"])}
    if "accuracy" in mine:
        row.update(_shared("personal_accuracy", mine["accuracy"]))
        common = problem.client_accuracy(x)  # a problem of one's own may give it with the rest only
        row.update(_shared("client_accuracy", problem.client_metrics(x)["accuracy"] if common is None else common))
    return row


def _shared(name: str, each: np.ndarray) -> dict[str, float]:
    """Mean, and mean of the worst tenth (at least one), over the clients that have test samples."""
    right = np.sort(each[np.isfinite(each)])
    if len(right) == 0:
        return {}
    return {name: float(right.mean()), f"{name}_worst10": float(right[: max(1, len(right) // 10)].mean())}
