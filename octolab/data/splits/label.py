"""Splits that make clients see different labels: Dirichlet, and the pathological shards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octolab.data.splits.base import (
    Draft,
    Samples,
    Split,
    dirichlet,
    divide,
    fill_small,
    stream,
)
from octolab.params import param, settle
from octolab.rooms import register


@register("splits")
@dataclass(frozen=True)
class Dirichlet(Split):
    """Each class is divided among the clients in proportions drawn from Dirichlet(alpha, ..., alpha).

    The usual label skew (Yurochkin et al. 2019, arXiv 1905.12022; Hsu, Qi, Brown 2019, arXiv 1909.06335):
    alpha -> 0 gives each class to one client, alpha -> infinity is IID. Sizes vary too. A draw is never
    repeated: clients with fewer than min_size samples are filled up with samples of the largest clients (a
    note says how many were moved), so that every (alpha, n) with n * min_size <= N works.
    """

    alpha: float = param(0.3, "small: each class at few clients; large: nearly IID", gt=0, main=True)
    min_size: int = param(1, "samples that every client has at least", ge=1)

    def __post_init__(self) -> None:
        settle(self)

    def assign(self, samples: Samples, n: int | None, seed: int) -> Draft:
        n = self.clients_asked(n)
        codes = samples.class_codes("Dirichlet")
        rng = stream(seed, "Dirichlet")
        owners = divide(dirichlet(self.alpha, (len(samples.classes), n), rng), codes, rng)
        owners, notes = fill_small(owners, n, self.min_size, rng, "Dirichlet")
        return Draft(owners, n, notes)


@register("splits")
@dataclass(frozen=True)
class Shards(Split):
    """The pathological split: every client sees few labels, and all have about as many samples.

    by="shards" (McMahan et al. 2017, arXiv 1602.05629): samples sorted by label are cut into n * per_client
    shards of equal length (to one sample), and each client gets per_client random ones. A shard may straddle
    two labels.
    by="classes": each client gets samples of exactly per_client labels, and each label is divided evenly
    among the clients that have it; client sizes differ where labels are unequally frequent.
    """

    per_client: int = param(2, "shards, or labels, of a client", ge=1)
    by: str = param("shards", "what is dealt out", choices=("shards", "classes"))

    def __post_init__(self) -> None:
        settle(self)

    def assign(self, samples: Samples, n: int | None, seed: int) -> Draft:
        n = self.clients_asked(n)
        codes = samples.class_codes("Shards")
        rng = stream(seed, "Shards")
        if self.by == "classes":
            return Draft(self._by_classes(codes, len(samples.classes), n, rng), n)
        shards = n * self.per_client
        if shards > len(codes):
            raise ValueError(
                f"Shards(per_client={self.per_client}) with {n:,} clients needs {shards:,} shards, more "
                f"than the {len(codes):,} samples. Ask for fewer clients or a smaller per_client."
            )
        order = rng.permutation(len(codes))
        order = order[np.argsort(codes[order], kind="stable")]
        owner_of_shard = rng.permutation(shards) % n
        owners = np.empty(len(codes), np.int64)
        owners[order] = owner_of_shard[np.arange(len(codes)) * shards // len(codes)]
        return Draft(owners, n)

    def _by_classes(self, codes: np.ndarray, n_classes: int, n: int, rng: np.random.Generator) -> np.ndarray:
        """Client i holds the labels at places i*s .. i*s+s-1 of a random circle: distinct, evenly used."""
        s = self.per_client
        if s > n_classes or n * s < n_classes:
            raise ValueError(
                f"Shards(per_client={s}, by='classes') does not fit {n:,} clients and {n_classes} labels: "
                f"per_client may be at most {n_classes}, and clients x per_client at least {n_classes}, so "
                f"that no label is left out. Choose per_client from {-(-n_classes // n)} to {n_classes}."
            )
        place = np.arange(n * s)
        label = rng.permutation(n_classes)[place % n_classes]
        client = rng.permutation(n)[place // s]
        holds = np.zeros((n_classes, n))
        holds[label, client] = 1.0
        holders, sizes = holds.sum(axis=1), np.bincount(codes, minlength=n_classes)
        if (sizes < holders).any():
            c = int(np.argmax(holders - sizes))
            raise ValueError(
                f"Label number {c} has {sizes[c]:,} samples for the {int(holders[c]):,} clients that should "
                "hold it. Ask for fewer clients or a smaller per_client."
            )
        return divide(holds / holders[:, None], codes, rng)
