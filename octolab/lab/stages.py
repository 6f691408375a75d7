"""Each method on its stage: itself and its baseline, both tuned over one grid, and whether the paper's claim holds.

What was computed is kept in `stages.json` beside this file, so that the explorer opens with both tuned alike at once.
`python -m benchmarks.stages` computes it again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from octolab.experiment.curves import x_values
from octolab.experiment.run import Run
from octolab.lab.explorer import baseline
from octolab.lab.explorer.state import ExplorerState
from octolab.lab.explorer.tuning import Tuning
from octolab.methods import Theory, get

FILE = Path(__file__).parent / "stages.json"
GRID = (0.25, 1.0, 4.0, 16.0, 64.0)
"""Multiples of each side's theory step."""


@dataclass(frozen=True)
class Outcome:
    """What a stage gave. lr, baseline_lr: {"times": m} for m theory steps, or a number. target: the least loss that both
    reach; mine, theirs: what it cost, on the axis; margin: theirs over mine, above 1 where the method wins.
    """

    slug: str
    claim: str
    baseline: str
    axis: str
    problem: str
    lr: dict[str, float] | float | None
    baseline_lr: dict[str, float] | float | None
    target: float | None
    mine: float | None
    theirs: float | None
    runs: int

    @property
    def margin(self) -> float | None:
        if self.mine is None or self.theirs is None or self.mine <= 0:
            return None
        return self.theirs / self.mine

    @property
    def holds(self) -> bool | None:
        """Whether the method reached the target at less cost; None without a baseline."""
        return None if self.margin is None else self.margin > 1


def compute(slug: str) -> Outcome:
    """Tune both sides of a method's stage over the same grid, run them, and compare at the least loss that both reach."""
    state = ExplorerState(slug, tuned=False)
    made, axis = baseline.choose(state), baseline.axis(state.method)
    tuning = Tuning(state, lambda best: None, GRID)
    best = tuning.best() if hasattr(state.method, "lr") else {}
    for path, value in best.items():
        state.turn(path, value)
    main, beside = state.prepare().finish(), state.beside()
    target = mine = theirs = None
    if beside is not None:
        beside.finish()
        target = max(_least(main), _least(beside))
        mine, theirs = _cost(main, axis, target), _cost(beside, axis, target)
    return Outcome(
        slug, claim(slug), "" if made is None else made.slug, axis, main.problem.name, _plain(best.get("method.lr")),
        _plain(best.get("run.baseline_lr")), target, mine, theirs, tuning.done,
    )  # fmt: skip


def claim(slug: str) -> str:
    """The sentence that the page declares; "" if it declares none."""
    stage = get(slug).own_stage()
    return "" if stage is None else stage.claim


def _least(run: Run) -> float:
    losses = run.recorder.sparse.get("loss", ([], []))[1]
    finite = [v for v in losses if np.isfinite(v)]
    return min(finite) if finite and run.status != "diverged" else float("inf")


def _cost(run: Run, axis: str, target: float) -> float | None:
    table = run.history
    hit = np.flatnonzero(table.loss.to_numpy(dtype=float) <= target)
    return float(x_values(table, axis)[hit[0]]) if len(hit) else None


def _plain(value: Any) -> dict[str, float] | float | None:
    return {"times": value.multiplier} if isinstance(value, Theory) else value


# -- kept --------------------------------------------------------------------------------------------------------------
@cache
def kept() -> dict[str, Outcome]:
    """The outcomes in `stages.json`, by slug; empty where there is no such file."""
    if not FILE.exists():
        return {}
    return {slug: Outcome(**entry) for slug, entry in json.loads(FILE.read_text(encoding="utf-8")).items()}


def write(outcomes: dict[str, Outcome]) -> None:
    """Keep outcomes in `stages.json`."""
    text = {slug: asdict(outcomes[slug]) for slug in sorted(outcomes)}
    FILE.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    kept.cache_clear()


def steps(slug: str) -> dict[str, Any]:
    """The tuned steps of a method's stage, as values of knobs; empty if it was never computed."""
    found = kept().get(slug)
    if found is None:
        return {}
    both = {"method.lr": found.lr, "run.baseline_lr": found.baseline_lr}
    return {
        path: Theory(value["times"]) if isinstance(value, dict) else value
        for path, value in both.items()
        if value is not None
    }


def verdict(slug: str) -> str:
    """What the stage gave, in one sentence; empty if it was never computed."""
    found = kept().get(slug)
    if found is None or found.margin is None:
        return ""
    other = get(found.baseline).describe().name
    what = {"bits_up": "bits", "time": "virtual time", "round": "rounds", "gradients": "gradients"}.get(
        found.axis, "cost"
    )
    if found.margin > 1:
        return f"On this stage it needs {found.margin:.3g} times less {what} than {other}, both tuned over one grid."
    return f"On this stage it is shown losing: {1 / found.margin:.3g} times the {what} of {other}, both tuned over one grid."
