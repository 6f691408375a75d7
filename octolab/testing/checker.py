"""`check_method`: every promise asked of one method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from octolab.arguments import PROBLEM, expects
from octolab.methods import Method
from octolab.problems import Problem
from octolab.testing import behaviour, declarations
from octolab.testing import theory as theorems
from octolab.testing.problems import STANDARD, NotApplicable

Promise = Callable[[Method, Problem], "str | None"]
_ALL: tuple[Promise, ...] = (
    behaviour.runs,
    behaviour.repeats,
    behaviour.one_by_one,
    behaviour.threads,
    behaviour.resumes,
    behaviour.stops,
    behaviour.forks,
    behaviour.bits,
    behaviour.drop_outs,
    behaviour.descends,
    behaviour.spec,
    declarations.refuses_bad_values,
    declarations.keeps_to_assumptions,
    declarations.card,
    declarations.page,
    theorems.theory,
)
PROMISES: dict[str, Promise] = {promise.__name__: promise for promise in _ALL}
"""Every promise by name: a function (method, problem) -> remark."""
ONCE = ("threads", "descends", "refuses_bad_values", "keeps_to_assumptions", "card", "page", "theory")
"""Promises that need no problem, or bring their own."""


@dataclass(frozen=True)
class Report:
    """What `check_method` found: one line (problem, promise, "kept" or "not applicable", remark) each."""

    method: str
    lines: tuple[tuple[str, str, str, str], ...]

    def __str__(self) -> str:
        body = [f"  {where:<11} {name:<22} {what}{': ' + why if why else ''}" for where, name, what, why in self.lines]
        return "\n".join([f"{self.method} keeps its promises", *body])

    __repr__ = __str__


@expects(problem=PROBLEM)
def check_method(method: Method, problem: Problem | None = None) -> Report:
    """Ask every promise of `PROMISES` of a method, on its three standard problems or on `problem`.

    Raises AssertionError with one sentence per broken promise; else returns the `Report`. A few seconds.

    >>> import octolab as ol
    >>> report = check_method(ol.methods.GD(), ol.problems.quadratics(n=4, d=3))
    """
    if not isinstance(method, Method):
        raise ValueError(f"check_method({method!r}): give a method, that is, an instance such as MyMethod(lr=0.1).")
    chosen = {name: make(method) for name, make in STANDARD.items()} if problem is None else {problem.name: problem}
    lines, broken = [], []
    for k, (where, p) in enumerate(chosen.items()):
        for name, promise in PROMISES.items():
            if k and name in ONCE:
                continue
            try:
                lines.append((where, name, "kept", promise(method, p) or ""))
            except NotApplicable as reason:
                lines.append((where, name, "not applicable", str(reason)))
            except Exception as error:  # a crash breaks a promise too
                kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
                sentence = " ".join((promise.__doc__ or name).split())
                broken.append(f"{type(method).__name__} on {where} breaks {name!r} ({sentence}) {kind}{error}")
    assert not broken, "\n".join(broken)
    return Report(repr(method), tuple(lines))
