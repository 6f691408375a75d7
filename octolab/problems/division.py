"""A data set divided among clients: each one's training and test samples, and what is held back for validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from octolab import data
from octolab.data.dataset import Dataset, check_share
from octolab.data.splits.base import stream
from octolab.problems.problem import Problem
from octolab.problems.scoring import TestPart

Part = tuple[np.ndarray, np.ndarray]
Weights = str | ArrayLike | None


@dataclass(frozen=True)
class Division:
    """train, test: (features, targets) per client. whole: the global test set; validation: all clients' validation
    samples, one after the other; None where there are none. groups: of each client's training samples.
    """

    held: Dataset
    partition: data.Partition
    split: data.Split
    train: list[Part]
    test: list[Part]
    whole: Part | None
    validation: list[Part] | None
    groups: list[np.ndarray] | None
    spec: dict[str, Any]

    def give(self, problem: Problem) -> Problem:
        """The problem with what else the data set brought: partition, groups."""
        problem.partition, problem.groups = self.partition, self.groups
        problem.group_names = self.held.group_names
        problem.class_names = tuple(map(str, self.held.classes))
        return problem

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample's features."""
        return self.train[0][0].shape[1:]


def divide(
    held: Dataset,
    *,
    clients: int | None,
    split: data.Split | None,
    seed: int,
    test_share: float,
    validation_share: float,
) -> Division:
    """Give the samples to the clients (50, or the natural ones), and hold back some of each for testing and validation.

    A client's validation samples depend on (seed, client) alone; it keeps at least one sample to train on.
    """
    check_share(validation_share, "validation_share")
    natural = held.clients is not None and clients is None
    split = split if split is not None else data.Natural() if natural else data.IID()
    count = clients if clients is not None else None if isinstance(split, data.Natural) else min(50, len(held))
    partition = split.split(held, count, seed=seed, test_share=test_share)
    kept, back = zip(
        *(_hold_back(rows, validation_share, seed, i) for i, rows in enumerate(partition.train)), strict=True
    )
    whole = None if held.x_test is None or held.y_test is None else (held.x_test, held.y_test)
    spec = {
        "dataset": held.spec,
        "clients": partition.n,
        "split": split.spec,
        "seed": seed,
        "test_share": test_share,
        **({"validation_share": validation_share} if validation_share else {}),
    }
    return Division(
        held,
        partition,
        split,
        train=[_samples(held, partition, i, rows) for i, rows in enumerate(kept)],
        test=[_samples(held, partition, i, rows) for i, rows in enumerate(partition.test)],
        whole=whole,
        validation=[_samples(held, partition, i, rows) for i, rows in enumerate(back)] if validation_share else None,
        groups=None if held.groups is None else [held.groups[rows] for rows in kept],
        spec=spec,
    )


def _hold_back(rows: np.ndarray, share: float, seed: int, client: int) -> tuple[np.ndarray, np.ndarray]:
    """A client's training rows in two: to train on, and for validation."""
    if not share or len(rows) < 2:
        return rows, rows[:0]
    count = min(max(1, round(share * len(rows))), len(rows) - 1)
    back = np.zeros(len(rows), bool)
    back[stream(seed, "validation", client).permutation(len(rows))[:count]] = True
    return rows[~back], rows[back]


def _samples(held: Dataset, partition: data.Partition, client: int, rows: np.ndarray) -> Part:
    x = held.x[rows]
    return (x if partition.transforms is None else partition.transforms.apply(client, x)), held.y[rows]


def validation_part(parts: list[Part], test: TestPart, dtype: torch.dtype) -> TestPart:
    """The validation samples, in the form in which the problem keeps its test samples."""
    made = TestPart(parts, dtype if test.X.is_floating_point() else None, (test.X, test.Y))
    made.Y = made.Y.view(-1, *test.Y.shape[1:]).to(test.Y.dtype)
    return made


def weights_spec(weights: Weights) -> object:
    """Weights as JSON."""
    return weights if weights is None or isinstance(weights, str) else np.asarray(weights).tolist()


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype
