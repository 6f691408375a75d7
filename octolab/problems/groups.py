"""Groups of samples (sex, region, carrier) that lie across the clients: who holds which, and their losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from octolab.batches import Batch

if TYPE_CHECKING:
    from octolab.problems.problem import Problem


class Held(NamedTuple):
    """The groups that some clients hold: K places for each client, as many as the one with the most groups needs.

    which (m, K): group numbers; size (m, K): samples, 0 in a place that is not used; rows, mask (m, K, b): their numbers.
    """

    which: torch.Tensor
    size: torch.Tensor
    rows: torch.Tensor
    mask: torch.Tensor

    def batches(self) -> list[Batch]:
        """One batch for each place; where a place is not used, it holds the first sample and counts for nothing."""
        return [Batch(self.rows[:, k], self.mask[:, k], None) for k in range(self.which.shape[1])]


def numbered(problem: Problem) -> tuple[Sequence[np.ndarray], list[str]]:
    """Each client's group numbers, sample by sample, and the groups' names. Without groups every client is one."""
    if problem.groups is None:
        return [np.full(int(size), i) for i, size in enumerate(problem.sizes)], [
            f"client {i}" for i in range(problem.n)
        ]
    names = problem.group_names or [str(g) for g in range(1 + max(int(g.max(initial=-1)) for g in problem.groups))]
    return problem.groups, list(names)


def held(problem: Problem, clients: Sequence[int] | np.ndarray | None = None) -> Held:
    """What these clients (None: all) hold of each group."""
    groups, _ = numbered(problem)
    own = [groups[int(i)] for i in (range(problem.n) if clients is None else clients)]
    present = [np.unique(g, return_counts=True) for g in own]
    places = max(len(ids) for ids, _ in present)
    widest = max(int(counts.max()) for _, counts in present)
    which, count = np.zeros((len(own), places), np.int64), np.zeros((len(own), places), np.int64)
    index, mask = np.zeros((len(own), places, widest), np.int64), np.zeros((len(own), places, widest), bool)
    mask[:, :, 0] = True
    for row, (ids, counts) in enumerate(present):
        which[row, : len(ids)], count[row, : len(ids)] = ids, counts
        order, at = own[row].argsort(kind="stable"), 0
        for place, held_here in enumerate(counts):
            index[row, place, :held_here], mask[row, place, :held_here] = order[at : at + held_here], True
            at += held_here
    return Held(*map(torch.from_numpy, (which, count, index, mask)))


def group_losses(problem: Problem, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(G,) the mean loss of each group's samples over the whole network at x (d,), without a ridge, and (G,) how many
    they are; NaN for a group without samples."""
    here, names = held(problem), numbered(problem)[1]
    sums, counts = x.new_zeros(len(names), dtype=torch.float64), torch.zeros(len(names), dtype=torch.int64)
    for place, batch in enumerate(here.batches()):
        own = problem.loss(x, None, batch).double() - ridge(problem, x)
        sums.index_add_(0, here.which[:, place], own * here.size[:, place])
        counts.index_add_(0, here.which[:, place], here.size[:, place])
    return (sums / counts.clamp(min=1)).masked_fill(counts == 0, float("nan")).numpy(), counts.numpy()


def ridge(problem: Problem, x: torch.Tensor) -> torch.Tensor:
    """What the ridge adds to every client's loss at x (d,) or (m, d)."""
    return 0.5 * getattr(problem, "l2", 0.0) * (x * x).sum(-1)
