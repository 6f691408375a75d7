"""Every rule against every attack: what a defence is worth where it is worst."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from octolab.arguments import SEED, expects, text, whole
from octolab.experiment.launch import run as run_now
from octolab.experiment.run import Run
from octolab.faces import face
from octolab.metrics import greater_is_better

if TYPE_CHECKING:
    import pandas as pd

    from octolab.federation.attack import Attack
    from octolab.methods import Method
    from octolab.problems import Problem


class WorstCase(NamedTuple):
    """table: one row per method and rule, one column per heterogeneity and attack, and the worst of each row. runs: by
    (method, rule, heterogeneity, attack). metric: what the cells hold."""

    table: pd.DataFrame
    runs: dict[tuple[str, str, str, str], Run]
    metric: str

    def figure(self) -> Any:
        """A plotly heatmap of the cells; `curves(...)` opens one."""
        return face("worst_case.figure")(self)

    def curves(self, method: str, rule: str, heterogeneity: str, attack: str) -> Any:
        """The run behind a cell, as a plotly figure."""
        return self.runs[method, rule, heterogeneity, attack].figure()


@expects(rounds=whole(1), metric=text("a column of the history"), seed=SEED)
def worst_case(
    methods: Mapping[str, Callable[..., Method]],
    aggregators: Mapping[str, Any],
    attacks: Mapping[str, Attack | None],
    heterogeneity: Mapping[str, Problem] | Problem,
    *,
    rounds: int = 50,
    metric: str = "accuracy",
    seed: int = 0,
) -> WorstCase:
    """Run every method with every rule under every attack, on every problem, and set the worst beside the rest.

    methods: name -> a function of aggregator= that makes the method (`lambda aggregator: FedAvg(lr=0.1,
    aggregator=aggregator)`). heterogeneity: one problem, or name -> problem. metric: a recorded column.

    The table is a worst case over these attacks alone: an attack that nobody tried may be worse.
    """
    import pandas as pd

    problems = heterogeneity if isinstance(heterogeneity, Mapping) else {heterogeneity.name: heterogeneity}
    given = {"methods": methods, "aggregators": aggregators, "attacks": attacks, "heterogeneity": problems}
    for name, choice in given.items():
        if not isinstance(choice, Mapping) or not choice:
            raise ValueError(f"worst_case: {name}={choice!r}: give a dict of names, with at least one entry.")
    runs: dict[tuple[str, str, str, str], Run] = {}
    cells: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for method, make in methods.items():
        for rule, aggregator in aggregators.items():
            row = cells.setdefault((method, rule), {})
            for place, problem in problems.items():
                for lie, attack in attacks.items():
                    one = run_now(
                        make(aggregator=aggregator), problem, rounds=rounds, seed=seed, attack=attack,
                        evaluate_every=rounds, live=False,
                    )  # fmt: skip
                    if metric not in one.last:
                        raise ValueError(
                            f"worst_case: metric={metric!r}: these runs record {', '.join(sorted(one.last))}."
                        )
                    runs[method, rule, place, lie], row[place, lie] = one, float(one.last[metric])
    table = pd.DataFrame(cells).T
    table.index.names, table.columns.names = ["method", "rule"], ["heterogeneity", "attack"]
    worst = table.min(axis=1) if greater_is_better(metric) else table.max(axis=1)
    table["", "worst"] = worst
    return WorstCase(table, runs, metric)


__all__: Sequence[str] = ["WorstCase", "worst_case"]
