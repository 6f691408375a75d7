"""The promise about theorems: what a method takes from theory holds for any weights of the clients."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np

from octolab.errors import AssumptionWarning, OutsideAssumptions, UnknownConstant
from octolab.experiment.launch import prepare
from octolab.methods import Method, Theory
from octolab.problems import Problem, Quadratics, quadratics
from octolab.testing.problems import NotApplicable, quiet

N, D = 12, 6
SIZES = np.arange(1.0, N + 1)
WEIGHTS = {
    "one of a half": np.where(np.arange(N) == N - 1, 0.5, 0.5 / (N - 1)),
    "proportional to sizes": SIZES / SIZES.sum(),
    "over two orders of magnitude": np.geomspace(1.0, 100.0, N),
}
"""Unequal weights; the heaviest client is the steepest one, where a theorem for equal weights fails first."""
STEPS = 300
SLACK = 10.0  # the rate is that of a Lyapunov function, which is within a constant of the squared distance


def weighted(weights: np.ndarray) -> Problem:
    """Strongly convex quadratics, the later clients steeper, with these weights (n,)."""
    p = quadratics(n=N, d=D, L=4, mu=1, seed=5)
    steepness = np.linspace(0.5, 2.0, N)
    return Quadratics(p.A.numpy() * steepness[:, None, None], p.b.numpy(), weights=weights, x0=np.full(D, 10.0))


def theory(method: Method, problem: Problem) -> str | None:
    """With its theory values it converges whatever the clients' weights, at its rate where it states one, or it refuses."""
    if not any(isinstance(getattr(method, f.name), Theory) for f in dataclasses.fields(method)):
        raise NotApplicable("it takes nothing from theory.")
    said = []
    for name, weights in WEIGHTS.items():
        where = weighted(weights)
        if not speaks(method, where):
            said.append(_kept(method, where, f"weights {name}"))
    return "; ".join(said) or "it warns of weights, or refuses them"


def speaks(method: Method, problem: Problem) -> bool:
    """Whether the method refuses the problem, or says that its theory does not cover it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            method.resolve(problem)
        except (OutsideAssumptions, UnknownConstant):
            return True
    return any(issubclass(w.category, AssumptionWarning) for w in caught)


def _kept(method: Method, problem: Problem, where: str) -> str:
    resolved = method.resolve(problem)
    rate = resolved.proved_rate(problem)
    assert rate is None or 0 < rate < 1, f"{where}: rate() is {rate}, which is no factor in (0, 1)."
    steps = STEPS // 6 if rate is None else min(STEPS, max(20, math.ceil(math.log(1e-16) / math.log(rate))))
    with quiet():
        run = prepare(resolved, problem, rounds=10 * STEPS, evaluate_every=10 * STEPS)
        early = run.advance(steps // 10).x
        late = run.advance(steps - steps // 10).x
        assert run.status != "diverged", f"{where}: {resolved!r} diverges: {run.error}"
        at = run.advance(2 * steps).x if "personalisation" in method.tags else problem.x_star
    assert at is not None
    if rate is None:
        first, last = problem.value(problem.x0), problem.value(late)
        assert last < first, f"{where}: the loss went from {first:.4g} to {last:.4g} in {steps} rounds, {resolved!r}."
        return f"{where}: no rate stated"
    before, after = (float(((x - at) ** 2).sum()) for x in (early, late))
    span, rounding = steps - steps // 10, 1e-22 * float(at @ at)
    allowed = SLACK * before * math.exp(0.98 * span * math.log(rate))  # 2 % of the exponent
    measured = (max(after, rounding) / max(before, rounding)) ** (1 / span)
    assert after <= max(allowed, rounding), f"{where}: rate() is {rate:.5g} and the run's {measured:.5g}, {resolved!r}."
    return f"{where}: {measured:.4g} <= {rate:.4g}"
