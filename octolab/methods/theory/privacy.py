"""What a method that adds noise may say of privacy: the same few rules for all of them."""

from __future__ import annotations

import math

import torch

from octolab.federation import Nice, Poisson, Sampler
from octolab.federation.sampling import as_sampler
from octolab.trust.accounting import Guarantee, epsilon
from octolab.trust.aggregators import clip_factors

CENTRAL = "The server is trusted; it holds for whoever sees the models."
LOCAL = "It holds for every message against the server, too; each client's own memory stays with it."
DISTRIBUTED = (
    "The server sees the sum alone, if secure aggregation holds and so many report; a simulation claims neither."
)


def clipped(rows: torch.Tensor, limit: torch.Tensor | float) -> torch.Tensor:
    """Rows (m, d), none longer than the limit (one number, or (m,)). inf: as they are."""
    if isinstance(limit, float) and math.isinf(limit):
        return rows
    if isinstance(limit, float):
        return rows * clip_factors(rows, limit)
    length = torch.linalg.vector_norm(rows, dim=1)
    return rows * torch.where(length > limit, limit / length, torch.ones_like(length))[:, None]


def expected_size(cohort: Sampler | int | float | None, n: int) -> float:
    """How many clients are expected in a cohort: the public number that a private sum is divided by."""
    return float(as_sampler(cohort).probabilities(n).sum()) if cohort is not None else float(n)


def central(
    z: float,
    cohort: Sampler | int | float | None,
    n: int,
    steps: int,
    delta: float,
    accountant: str,
    note: str = CENTRAL,
) -> Guarantee:
    """Of `steps` noisy sums over cohorts, noise multiplier z: Poisson cohorts, cohorts of fixed size, or everybody."""
    sampler = None if cohort is None else as_sampler(cohort)
    if isinstance(sampler, Poisson):
        rates = sampler.probabilities(n)
        q = float(rates.max())
        return Guarantee(
            epsilon(z, q, steps, delta, accountant),
            delta,
            steps,
            z,
            q,
            "poisson",
            "add-or-remove-one",
            accountant,
            note=note,
        )
    if type(sampler) is Nice and sampler.size(n) < n:
        m = sampler.size(n)
        spent = epsilon(z, 1.0, steps, delta, "rdp", "replace-one", sampling="fixed-size", clients=n, cohort=m)
        return Guarantee(spent, delta, steps, z, m / n, "fixed-size", "replace-one", "rdp", note=note)
    if sampler is None or type(sampler) is Nice:
        spent = epsilon(z, 1.0, steps, delta, accountant, sampling="none")
        return Guarantee(spent, delta, steps, z, 1.0, "none", "add-or-remove-one", accountant, note=note)
    return nothing(
        delta, f"cohort={sampler!r}: no accountant here covers it; use Poisson(q), a number of clients, or everybody"
    )


def nothing(delta: float, why: str) -> Guarantee:
    """No guarantee, and why."""
    return Guarantee(None, delta, 0, None, 1.0, "none", "add-or-remove-one", "pld", note=why)


def check_bounded(name: str, field: str, limit: float, z: float) -> None:
    """ValueError for noise that is a multiple of a bound that does not exist."""
    if z and math.isinf(limit):
        raise ValueError(
            f"{name}: {field}=inf with noise_multiplier={z:g}: noise is {field} times that, so give a finite one."
        )


def local(z: float, steps: int, delta: float, accountant: str) -> Guarantee:
    """Of `steps` messages of a client, each with noise of its own, z times the largest norm of a message."""
    spent = epsilon(z, 1.0, steps, delta, accountant, "replace-one", sampling="none")
    return Guarantee(spent, delta, steps, z, 1.0, "none", "replace-one", accountant, note=LOCAL)
