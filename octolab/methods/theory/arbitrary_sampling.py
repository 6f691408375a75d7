r"""The two constants of SPPM-AS for each sampling, and its bound: mu_AS and sigma2_AS (arXiv 2406.01115).

With e_i how often client i appears on average (p_i, or m q_i for m draws with replacement) and f_C = sum_C w_i f_i/e_i:

    mu_AS     = the smallest sum_C w_i mu_i/e_i over the cohorts C that can come
    sigma2_AS = E |sum_C w_i grad f_i(x*)/e_i|^2

Values are given already weighted, v_i = w_i mu_i or w_i grad f_i(x*) (uniform weights: w_i = 1/n). Both are exact, also
for stratified sampling, where the paper gives an upper bound.
"""

from __future__ import annotations

import math
from functools import singledispatch

import numpy as np

from octolab.errors import UnknownConstant
from octolab.federation.sampling import (
    Block,
    Full,
    Importance,
    Nice,
    Poisson,
    Sampler,
    Stratified,
    as_blocks,
    as_sampler,
)
from octolab.methods.constants import Constants
from octolab.problems import Problem


@singledispatch
def least(sampler: Sampler, v: np.ndarray) -> float:
    """The smallest sum_C v_i/e_i over possible cohorts C; v (n,)."""
    raise UnknownConstant(
        f"The constants of SPPM-AS are not known for {sampler!r}: choose Full, Nice, Importance, Block, Stratified or "
        f"Poisson, or give the step as a number."
    )


@singledispatch
def spread(sampler: Sampler, V: np.ndarray) -> float:
    """E |sum_C V_i/e_i|^2 over cohorts C, for rows V (n, d) that sum to zero."""
    raise UnknownConstant(f"The constants of SPPM-AS are not known for {sampler!r}.")


@least.register
def _(sampler: Full, v: np.ndarray) -> float:
    return float(v.sum())


@spread.register
def _(sampler: Full, V: np.ndarray) -> float:
    return 0.0


@least.register
def _(sampler: Nice, v: np.ndarray) -> float:
    m = sampler.size(len(v))
    return float(np.sort(v)[:m].sum() * len(v) / m)


@spread.register
def _(sampler: Nice, V: np.ndarray) -> float:
    n, m = len(V), sampler.size(len(V))
    return 0.0 if m == n else float((n / m - 1) / (n - 1) * n * (V * V).sum())


@least.register
def _(sampler: Importance, v: np.ndarray) -> float:
    return float((v / np.asarray(sampler.q)).min())


@spread.register
def _(sampler: Importance, V: np.ndarray) -> float:
    return float(((V * V).sum(1) / np.asarray(sampler.q)).sum() / sampler.m)


@least.register
def _(sampler: Block, v: np.ndarray) -> float:
    p = sampler.probabilities(len(v))
    return float(min((v[b] / p[b]).sum() for b in as_blocks(sampler.blocks, len(v))))


@spread.register
def _(sampler: Block, V: np.ndarray) -> float:
    p = sampler.probabilities(len(V))
    return float(sum((V[b].sum(0) ** 2).sum() / p[b[0]] for b in as_blocks(sampler.blocks, len(V))))


@least.register
def _(sampler: Stratified, v: np.ndarray) -> float:
    return float(sum(len(b) * v[b].min() for b in as_blocks(sampler.blocks, len(v))))


@spread.register
def _(sampler: Stratified, V: np.ndarray) -> float:
    blocks = as_blocks(sampler.blocks, len(V))
    return float(sum(len(b) ** 2 * ((V[b] - V[b].mean(0)) ** 2).sum(1).mean() for b in blocks))


@least.register
def _(sampler: Poisson, v: np.ndarray) -> float:
    p = sampler.probabilities(len(v))
    return float(v[p == 1].sum() + np.minimum(v[p < 1] / p[p < 1], 0.0).sum())


@spread.register
def _(sampler: Poisson, V: np.ndarray) -> float:
    p = sampler.probabilities(len(V))
    return float(((1 - p) / p * (V * V).sum(1)).sum())


def mu_as(sampler: Sampler | int | float | None, mu_i: np.ndarray, weights: np.ndarray | None = None) -> float:
    """mu_AS of a sampler (or a cohort size, ...) for strong convexity constants mu_i (n,); weights: None is 1/n each."""
    mu = np.asarray(mu_i, dtype=float)
    return least(as_sampler(sampler), mu / len(mu) if weights is None else mu * np.asarray(weights))


def sigma2_as(sampler: Sampler | int | float | None, gradients: np.ndarray, weights: np.ndarray | None = None) -> float:
    """sigma2_AS of a sampler for the clients' gradients at x*, (n, d); weights: None is 1/n each."""
    G = np.asarray(gradients, dtype=float)
    return spread(as_sampler(sampler), G / len(G) if weights is None else G * np.asarray(weights)[:, None])


def constants(problem: Constants | Problem, sampler: Sampler | int | float | None) -> tuple[float, float]:
    """(mu_AS, sigma2_AS) of a sampler on a problem whose mu_i and x_star are known."""
    w, mu_i, x_star = problem.weights.numpy(), problem.mu_i, problem.x_star
    if mu_i is None or x_star is None:
        raise UnknownConstant("The problem does not know its mu_i and x_star: give gamma as a number.")
    return mu_as(sampler, mu_i, w), sigma2_as(sampler, problem.grad(x_star).double().numpy(), w)


def neighbourhood(gamma: float, mu: float, sigma2: float) -> float:
    """What is left of E|x_t - x*|^2 with exact proxes: gamma sigma2/(gamma mu^2 + 2 mu)."""
    return gamma * sigma2 / (gamma * mu * mu + 2 * mu)


def gamma_for(eps: float, mu: float, sigma2: float) -> float:
    """The largest gamma whose neighbourhood is at most eps/2, the shortest way to E|x_t - x*|^2 <= eps.

    If no gamma is too large (sigma2/mu^2 <= eps/2), 1e6/mu: a single step then takes off a factor of 1e12.
    """
    if not mu > 0:
        raise UnknownConstant(
            f"mu_AS = {mu:.3g}: some cohort that can come has no strong convexity (Poisson cohorts may be empty), so no "
            f"gamma follows from theory. Give gamma as a number."
        )
    room = sigma2 - eps / 2 * mu * mu
    return min(eps * mu / room, 1e6 / mu) if room > 0 else 1e6 / mu


def exchanges(eps: float, start: float, gamma: float, mu: float) -> int:
    """Cohorts T after which the first term, (1 + gamma mu)^(-2T) start, is at most eps/2."""
    return max(1, math.ceil(math.log(max(2 * start / eps, 1.0)) / (2 * math.log1p(gamma * mu))))
