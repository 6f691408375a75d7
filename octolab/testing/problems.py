"""Where and how a method is tried: small problems that fit it, and runs on them."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from octolab import methods, problems
from octolab.arguments import METHOD, PROBLEM, expects, whole
from octolab.errors import AssumptionWarning, OutsideAssumptions, UnknownConstant
from octolab.experiment import Run
from octolab.experiment.launch import prepare
from octolab.methods import Method, Theory
from octolab.params import params
from octolab.problems import Problem

ROUNDS = 6


class NotApplicable(Exception):
    """A promise does not concern this method on this problem; the message says why."""


@expects(method=METHOD, n=whole(1), d=whole(1))
def home(method: Method, n: int = 6, d: int = 12) -> Problem:
    """A small problem on which the method's assumptions hold."""
    if "homogeneous" in method.needs:
        return problems.Tridiagonal(d=d, n=n, noise=0.01)
    if "positive losses" in method.needs:
        return problems.classification("breast-cancer", clients=n)
    return problems.quadratics(n=n, d=d, L=10, mu=1)


def logistic(method: Method) -> Problem:
    """Logistic regression on breast-cancer, six clients."""
    return problems.classification("breast-cancer", clients=6)


def network(method: Method) -> Problem:
    """A small network on digits, six clients; its constants are unknown."""
    return problems.classification("digits", model="mlp", hidden=(8,), clients=6, dtype="float64")


STANDARD: dict[str, Callable[[Method], Problem]] = {"quadratics": home, "logistic": logistic, "network": network}
"""The three standard problems; on the first, the method's theory holds."""


@expects(method=METHOD, problem=PROBLEM)
def fitted(method: Method, problem: Problem) -> Method:
    """The method, with a number for every `Theory()` if the problem's constants are unknown.

    Raises `NotApplicable` if the method refuses the problem.
    """
    try:
        with quiet():
            method.resolve(problem)
        return method
    except OutsideAssumptions as refusal:
        raise NotApplicable(f"refused: {refusal}") from None
    except UnknownConstant:
        numbers = {}
        for name, p in params(type(method)).items():
            if isinstance(getattr(method, name), Theory):
                numbers[name] = 2 if p.whole else 0.05 if name == "lr" else 0.5
        return dataclasses.replace(method, **numbers)


def start(method: Method, problem: Problem, rounds: int = ROUNDS, **settings: Any) -> Run:
    with quiet():
        return prepare(fitted(method, problem), problem, rounds=rounds, **settings)


def run_of(method: Method, problem: Problem, rounds: int = ROUNDS, **settings: Any) -> Run:
    run = start(method, problem, rounds, **settings)
    with quiet():
        run.finish()
    assert run.status != "diverged", f"the run diverged: {run.error}"
    return run


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def with_attributes(problem: Problem, **attributes: object) -> Problem:
    """A copy of a problem that answers otherwise: `with_attributes(p, chunk=16)`."""
    twin = copy.copy(problem)
    for name in attributes:
        twin.__dict__.pop(name, None)
    twin.__class__ = type(type(problem).__name__, (type(problem),), attributes)
    return twin


def cannot_rebuild(run: Run) -> dict[str, Any]:
    """What a spec or a run file does not hold: a problem of given arrays, a method outside the catalogue."""
    known = run.given.slug in methods.slugs() and methods.get(run.given.slug) is type(run.given)
    mine = {} if known else {"method": run.given}
    return mine | ({"problem": run.problem} if "given" in run.problem.spec else {})
