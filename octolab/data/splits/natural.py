"""The split that the data bring along: one client per writer, speaker, hospital."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from octolab.data.dataset import check_count
from octolab.data.splits.base import Draft, Samples, Split, stream
from octolab.params import param, settle
from octolab.rooms import register


@register("splits")
@dataclass(frozen=True)
class Natural(Split):
    """Every natural client is a client, with its own samples and its name; n may be left out.

    With n smaller than the number of natural clients: fewer="sample" keeps n of them, drawn by the seed, in
    their order, and leaves the others' samples out (as LEAF does); fewer="group" puts whole ones
    together into n clients of similar size (the largest first, each to the client that is smallest then). A
    note says which.
    """

    fewer: str = param("sample", "what becomes of more natural clients than n", choices=("sample", "group"))

    def __post_init__(self) -> None:
        settle(self)

    def assign(self, samples: Samples, n: int | None, seed: int) -> Draft:
        if samples.clients is None:
            raise ValueError(
                "Natural() needs natural clients, and this data set has none. Load one that has "
                "('shakespeare', or a file with a client column), give clients=..., or use another split, "
                "e.g. Dirichlet(alpha=0.3)."
            )
        ids, names = samples.clients, samples.client_names
        total = len(names)
        n = total if n is None else check_count(n, "the number of clients n")
        if n > total:
            raise ValueError(
                f"{n:,} clients were asked for, and the data have {total:,} natural ones. Leave n out to "
                "use them all, or give a smaller one."
            )
        if n == total:
            return Draft(ids.astype(np.int64), n, client_names=names)
        lookup = np.full(total, -1, np.int64)
        if self.fewer == "sample":
            kept = np.sort(stream(seed, "Natural").permutation(total)[:n])
            lookup[kept] = np.arange(n)
            owners = lookup[ids]
            left_out = int((owners < 0).sum())
            note = f"{n:,} of {total:,} natural clients are kept; the others' {left_out:,} samples are left out"
            return Draft(owners, n, (note,), tuple(names[int(k)] for k in kept))
        sizes = np.bincount(ids, minlength=total)
        heap = [(0, i) for i in range(n)]
        for natural in np.argsort(-sizes, kind="stable").tolist():
            size, smallest = heapq.heappop(heap)
            lookup[natural] = smallest
            heapq.heappush(heap, (size + int(sizes[natural]), smallest))
        return Draft(lookup[ids], n, (f"{total:,} natural clients are put together into {n:,}",))
