"""How often clients take part, as theorems on partial participation want it."""

from __future__ import annotations

from octolab.errors import UnknownConstant
from octolab.federation import Sampler
from octolab.federation.sampling import as_sampler
from octolab.methods.constants import Constants


def participation(cohort: Sampler | int | float | None, n: int) -> float:
    """p, the smallest probability with which a client takes part in a round, whatever happened before."""
    sampler = as_sampler(cohort)
    if not sampler.independent:
        raise UnknownConstant(
            f"cohort={sampler!r}: who comes depends on the rounds before, and the theorem wants every cohort drawn afresh. "
            f"Give lr=... as a number, or a number of clients, Poisson or Block."
        )
    return float(sampler.probabilities(n).min())


def steepest(problem: Constants, p: float) -> float:
    """max n w_i L_i, the smoothness of the functions whose plain mean is f; more where clients come more seldom than one
    at a time would, p < 1/n."""
    return float((problem.n * problem.weights.numpy() * problem.L_i).max()) * max(1.0, 1 / (problem.n * p))
