"""Successive halving: several variants of a method on equal budgets of virtual time or bits; the better half goes on.

It asks which k is worth its bits, for the price of a few runs: deterministic, explainable, and its cost is charged.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import torch

from octolab.arguments import NAMED, PROBLEM, expects, sequence, whole
from octolab.compressors import Chain, Compressor
from octolab.experiment.launch import prepare
from octolab.experiment.run import FOREVER, Run
from octolab.experiment.tuning import quiet
from octolab.methods import Method, get

if TYPE_CHECKING:
    import pandas as pd

    from octolab.problems import Problem

SPENT = {"seconds": "time", "bits": "bits_up"}
MOST_ROUNDS = 100_000
"""Rounds after which an arm that spends next to nothing is taken to have used up its budget."""


@dataclass(eq=False, repr=False)
class Halving:
    """What `halving` returns. best: the method that won; run: its run, which can go on; arms: the runs by name.

    table: one row per arm and rung: budget, loss at the end of it, rounds, whether it went on.
    seconds, bits: what the search itself cost, all arms together (bits per client, up).
    """

    best: Method
    name: str
    run: Run
    arms: dict[str, Run]
    rows: list[dict[str, Any]]
    seconds: float
    bits: float

    @property
    def table(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(self.rows)

    def __repr__(self) -> str:
        cost = f"the search cost {self.seconds:,.4g} s and {self.bits:,.0f} bits up per client"
        return f"best: {self.name} = {self.best!r}; {cost}\n{self.table.to_string(index=False)}"

    def _repr_html_(self) -> str:
        head, _, _ = repr(self).partition("\n")
        return f"<div>{escape(head)}{self.table.to_html(index=False, border=0)}</div>"


@expects(arms=sequence("at least one method, or a dict name -> method", least=1), problem=PROBLEM)
def halving(
    arms: Mapping[str, Method] | Sequence[Method],
    problem: Problem,
    *,
    budget: float,
    by: str = "seconds",
    seed: int = 0,
    **settings: Any,
) -> Halving:
    """Run all arms from the same start with the same seed until each has spent `budget`; keep the better half by loss;
    double the budget; and so on until one is left.

    by: "seconds" of virtual time (links decide: give a fleet) or "bits" sent up per client. Budgets count from each arm's
    own start, so a surviving arm goes on where it stood. An arm's loss is that of its last round within the budget, so
    that one with long rounds is not given more: let the first budget hold a few rounds of the dearest arm, or it cannot
    show what it is worth. Ties go to the arm named first. Diverged arms lose.
    settings: those of `octolab.run`, such as fleet=.
    """
    if by not in SPENT:
        raise ValueError(f"halving(by={by!r}): choose 'seconds' or 'bits'.")
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 < budget < math.inf:
        raise ValueError(f"halving(budget={budget!r}): give a number of {by} > 0.")
    refused = {"rounds", "until", "checkpoint", "randomness"} & set(settings)
    if refused:
        given = ", ".join(f"{name}={settings[name]!r}" for name in sorted(refused))
        raise ValueError(f"halving({given}): the budget alone decides how long an arm runs: leave it out.")
    named = dict(arms) if isinstance(arms, Mapping) else {repr(m): m for m in arms}
    if not named or any(not isinstance(m, Method) for m in named.values()):
        raise ValueError(f"halving(arms={arms!r}): give at least one method, or a dict name -> method.")
    with quiet():
        runners = {name: _Arm(prepare(m, problem, rounds=FOREVER, seed=seed, **settings)) for name, m in named.items()}
        alive, rows, rung = list(runners), list[dict[str, Any]](), 0
        while True:
            for name in alive:
                runners[name].spend(budget, SPENT[by])
            order = sorted(alive, key=lambda name: runners[name].loss)
            kept = set(order[: max(1, len(order) // 2)])
            rows += [runners[name].row(rung, name, budget, by) | {"goes_on": name in kept} for name in alive]
            alive, budget, rung = [name for name in alive if name in kept], 2 * budget, rung + 1
            if len(alive) == 1:
                break
    best = runners[alive[0]].run
    spent = [arm.run.federation for arm in runners.values()]
    return Halving(
        named[alive[0]],
        alive[0],
        best,
        {name: arm.run for name, arm in runners.items()},
        rows,
        seconds=sum(fed.now for fed in spent),
        bits=sum(fed.ledger.bits_up for fed in spent),
    )


@expects(method=NAMED, problem=PROBLEM, least=whole(1))
def tune_k(
    method: Method | str,
    problem: Problem,
    *,
    budget: float,
    by: str = "seconds",
    seed: int = 0,
    least: int = 1,
    **settings: Any,
) -> Halving:
    """Choose k of a method's compressor by `halving` over k = d, d/2, d/4, ..., `least`, all at their own theory steps.

    The compressor is TopK, RandK or a chain that starts with one. The winner's run goes on with `result.run.advance(...)`.

    >>> import octolab as ol
    >>> found = tune_k(ol.methods.EF21(lr=0.05), ol.problems.quadratics(n=4, d=8), budget=5_000, by="bits")
    >>> found.best.compressor.k in (1, 2, 4, 8)
    True
    """
    made = get(method)() if isinstance(method, str) else method
    compressor = getattr(made, "compressor", None)
    if compressor is None or _with_k(compressor, 1) is None:
        raise ValueError(
            f"tune_k({made!r}): the method's compressor has no k to choose. Use TopK, RandK, or a chain that starts with one."
        )
    if not 1 <= least <= problem.d:
        raise ValueError(f"tune_k(least={least!r}): give 1 to {problem.d}.")
    ks = sorted({max(least, problem.d >> j) for j in range(problem.d.bit_length())}, reverse=True)
    arms = {f"k={k}": dataclasses.replace(made, **{"compressor": _with_k(compressor, k)}) for k in ks}
    return halving(arms, problem, budget=budget, by=by, seed=seed, **settings)


def _with_k(compressor: Compressor, k: int) -> Compressor | None:
    """The compressor with another k; None if it has none."""
    if isinstance(compressor, Chain):
        first = _with_k(compressor.first, k)
        return None if first is None else dataclasses.replace(compressor, first=first)
    return dataclasses.replace(compressor, k=k) if hasattr(compressor, "k") else None  # type: ignore[call-arg]


class _Arm:
    """A run that stops at budgets, and its model at the last round's end within the budget."""

    def __init__(self, run: Run):
        self.run = run
        self.x: torch.Tensor | None = None  # within the budget so far; None: not even the start was
        self.rounds, self.over = -1, False

    def spend(self, budget: float, column: str) -> None:
        run = self.run
        if self.over and run.recorder.last[column] <= budget:
            self._stand()
        while run.status == "new" and run.round < MOST_ROUNDS and not self.over:
            run.advance()
            if run.status != "new":
                return
            if run.recorder.last[column] > budget:
                self.over = True
            else:
                self._stand()

    def _stand(self) -> None:
        self.x, self.rounds, self.over = self.run.x, self.run.round, False

    @property
    def loss(self) -> float:
        problem = self.run.problem
        if self.run.status != "new":
            return math.inf
        value = problem.value(problem.check_x0(self.run.settings.x0) if self.x is None else self.x)
        return value if math.isfinite(value) else math.inf

    def row(self, rung: int, name: str, budget: float, by: str) -> dict[str, Any]:
        state = "diverged" if self.run.status == "diverged" else self.run.status.replace("new", "runs")
        return {
            "rung": rung,
            "arm": name,
            by: budget,
            "loss": self.loss,
            "rounds": max(self.rounds, 0),
            "status": state,
        }
