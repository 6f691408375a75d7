"""What differs from seed to seed: `seeds=` says which, `vary=` says what."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from octolab.arguments import SEED
from octolab.randomness import Randomness
from octolab.rooms import nearest

if TYPE_CHECKING:
    from octolab.experiment.run import Run
    from octolab.problems import Problem

VARIES = ("algorithm", "split", "start", "fleet")
"""algorithm: all draws of the run itself: batches, cohorts, compressors, and the fleet's delays and drop-outs; fleet: only
these last. split: the problem is made anew with this seed: who holds which samples, a network's first weights, random
quadratics. start: x0."""


def seeds_of(seeds: int | Iterable[int]) -> list[int]:
    """Different whole numbers; ValueError for anything else."""
    out: list[int] = list(seeds) if isinstance(seeds, Iterable) else [seeds]
    if not out or not all(map(SEED.fits, out)) or len(set(out)) != len(out):
        raise ValueError(f"seeds={seeds!r}: give different whole numbers, such as (0, 1, 2).")
    return out


def check_vary(vary: str | Collection[str]) -> tuple[str, ...]:
    """The parts that differ from seed to seed; ValueError for what cannot."""
    given = (vary,) if isinstance(vary, str) or not isinstance(vary, Collection) else tuple(vary)
    if "algorithm" in given:
        given = tuple(v for v in given if v != "fleet")  # its draws follow the algorithm's
    wrong = [v for v in given if v not in VARIES]
    if wrong or not given:
        near = nearest(str(wrong[0]), VARIES) if wrong else ""
        raise ValueError(f"vary={vary!r}: choose from {', '.join(map(repr, VARIES))}.{near}")
    return given


def varied(problem: Problem, seed: int, first: int, vary: Sequence[str]) -> tuple[Problem, dict[str, Any]]:
    """The problem and the settings (seed, x0) of one seed; `first` is the seed of what does not vary."""
    settings: dict[str, Any] = {"seed": seed if "algorithm" in vary else first}
    if "fleet" in vary:
        settings["fleet_seed"] = seed
    if "split" in vary:
        problem = _made_again(problem, seed)
    if "start" in vary:
        draw = Randomness(seed).draws([0]).normal(problem.d, "start")[0].to(problem.dtype)
        scale = float(problem.x0.std()) if problem.d > 1 and float(problem.x0.std()) > 0 else 1.0
        settings["x0"] = (problem.x0 + scale * draw).to(torch.float64).numpy()
    return problem, settings


def _made_again(problem: Problem, seed: int) -> Problem:
    from octolab import problems

    spec = problem.spec
    if "given" in spec or "seed" not in spec:
        raise ValueError(
            f"vary='split': {problem.name} cannot be made anew with another seed, because it was made from given arrays or "
            f"draws nothing. Make one problem per seed, and run each."
        )
    return problems.from_spec({**spec, "seed": seed})


def identical(runs: Sequence[Run]) -> bool:
    """Whether several seeds gave one and the same run."""
    tables = [run.recorder.snapshot() for run in runs]
    rows = [(t.rows[: t.length], t.newest("loss")) for t in tables]
    return len(runs) > 1 and rows[0][0] != [] and all(r == rows[0] for r in rows[1:])


def note_on(runs: Sequence[Run]) -> str:
    """A sentence where several seeds gave one run: nothing random was left; else ""."""
    if not identical(runs):
        return ""
    fleet = ", vary=('fleet',)" if runs[0].settings.fleet is not None and runs[0].settings.fleet_seed is None else ""
    return (
        f"All {len(runs)} seeds gave the same run of {runs[0].name}: nothing random was left in it. Vary something else, "
        f"vary=('split',){fleet} or vary=('start',), or show one run."
    )
