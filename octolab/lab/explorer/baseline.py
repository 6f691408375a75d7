"""What is drawn beside a method: something simpler, on the same problem, with the same randomness of gradients."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from octolab.experiment.launch import prepare
from octolab.experiment.record import COUNTED
from octolab.experiment.tuning import quiet
from octolab.methods import Method, Theory, get
from octolab.problems import Problem

if TYPE_CHECKING:
    from octolab.lab.explorer.state import ExplorerState

SHARED = ("batch_size", "cohort", "local_steps", "local_epochs")
"""Fields that a baseline takes over where it has them: they decide what a round costs."""


def choose(state: ExplorerState) -> Method | None:
    """The baseline, ready; None if the method is the simplest there is, or none is wanted.

    Its step: `plan.baseline_lr`, by default its own theorem's, where the problem's constants are known; else the very
    number that the method uses, or 0.05. `explain` says which.
    """
    slug: str | None = state.plan.baseline
    if slug == "none":
        return None
    method = state.method
    if slug == "auto":
        slug = usual(method)
    if slug is None or slug not in _known():
        return None
    cls = get(slug)
    shared = {n: getattr(method, n) for n in SHARED if n in _fields(cls) and n in _fields(type(method))}
    step = state.plan.baseline_lr
    made = cls(**shared, **({"lr": step} if "lr" in _fields(cls) and step != Theory() else {}))
    if slug == method.slug:
        return None if made == method else made
    return fitted(made, state.problem, getattr(method, "lr", None))


def usual(method: Method) -> str | None:
    """The slug of the natural baseline, from the fields of the method: local steps against FedAvg, minibatches
    against SGD, exact gradients against GD.
    """
    stage = method.own_stage()
    if stage is not None and stage.baseline != "auto":
        return stage.baseline
    has = _fields(type(method))
    steps = {"local_steps", "local_epochs"} & set(has)
    if method.slug == "gd":
        return None
    if steps and method.slug != "fedavg":
        return "fedavg"
    if getattr(method, "batch_size", None) is not None and method.slug != "sgd":
        return "sgd"
    return "gd"


def fitted(made: Method, problem: Problem, lr: float | Theory | None) -> Method:
    from octolab.errors import OctolabError, UnknownConstant

    try:
        with quiet():
            made.resolve(problem)
        return made
    except UnknownConstant:
        number = lr if isinstance(lr, float) else 0.05
        theory = {n: 0.5 for n in _fields(type(made)) if isinstance(getattr(made, n), Theory)}
        return dataclasses.replace(made, **{**theory, "lr": number})
    except OctolabError:
        return made


def rounds(state: ExplorerState, made: Method) -> int:
    """How many steps the baseline takes: as many as the method, or fewer, so that both spend the same bits or virtual time
    where that is the axis on which the method's point is seen. Measured on a few steps of each, then prolonged.
    """
    cost = axis(state.method)
    if cost == "round":
        return state.plan.rounds
    few = 8 if cost == "bits_up" else min(60, 3 * state.n)
    mine, theirs = (_spent(state, method, cost, few) for method in (state.method, made))
    if mine is None or theirs is None:
        return state.plan.rounds
    budget = mine[0] + mine[1] * state.plan.rounds
    return max(1, min(state.plan.rounds, round((budget - theirs[0]) / theirs[1])))


def _spent(state: ExplorerState, method: Method, cost: str, few: int) -> tuple[float, float] | None:
    """What the start costs and what a step costs, from the first `few` steps; None if that is nothing."""
    with quiet():
        run = prepare(method, state.problem, **state.arguments() | {"rounds": few})
        run.advance(few + 1)
    at = COUNTED.index(cost)
    spent = [row[at] for row in run.recorder.rows]
    if len(spent) < 2 or not spent[-1] > spent[0]:
        return None
    return spent[0], (spent[-1] - spent[0]) / (len(spent) - 1)


def axis(method: Method) -> str:
    """The horizontal axis on which a method's point is seen: bits where it compresses, time where nobody waits."""
    stage = method.own_stage()
    if stage is not None and stage.axis:
        return stage.axis
    tags = " ".join(method.tags) + " " + method.card.family
    if "asynchronous" in tags:
        return "time"
    return "bits_up" if "compression" in tags else "round"


def label(run: Any) -> str:
    """How a baseline's line is called."""
    return f"{run.name} (baseline)"


def explain(state: ExplorerState) -> str:
    """What is compared with what, for those who look at the chart: steps and budget. Empty without a baseline."""
    made = choose(state)
    if made is None:
        return ""
    mine, theirs = step_of(state.method), step_of(made)
    steps = (
        f"both at their {mine}"
        if mine == theirs == "theory step"
        else f"{state.method.card.name}: {mine}; {made.card.name}: {theirs}"
    )
    spent = {"bits_up": ", the same bits for both", "time": ", the same virtual time for both"}.get(
        axis(state.method), ""
    )
    said = f"Beside it {made.card.name}; {steps}{spent}."
    if mine == theirs == "theory step":
        said += " Theory steps are safe, not fast."
    if state.tuned:
        from octolab.lab import stages

        said = f"{stages.verdict(state.slug)} {said}"
    return said.strip()


def step_of(method: Method) -> str:
    """A step size in words: `theory step`, `4 × theory step`, `lr 0.1`."""
    lr = getattr(method, "lr", None)
    if lr is None:
        return "its own steps"
    if not isinstance(lr, Theory):
        return f"lr {lr:g}"
    return "theory step" if lr.multiplier == 1 else f"{lr.multiplier:g} × theory step"


def _fields(cls: type) -> list[str]:
    return [f.name for f in dataclasses.fields(cls)]


def _known() -> list[str]:
    from octolab.methods import slugs

    return slugs()
