"""The front door: `run` blocks and draws, `start` returns at once."""

from __future__ import annotations

from typing import Any

from octolab.experiment.run import FOREVER, Run, Settings, Until
from octolab.federation import Attack, Fleet, Randomness
from octolab.methods import Method


def prepare(
    method: Method | str,
    problem: Any,
    *,
    rounds: int | None = None,
    until: Until | dict[str, float] | None = None,
    randomness: Randomness | None = None,
    **settings: Any,
) -> Run:
    """A run that has not started: the arguments of `run`."""
    if isinstance(until, dict):
        until = Until(**until)
    if rounds is None:
        rounds = 100 if until is None else FOREVER
    if randomness is not None and not isinstance(randomness, Randomness):
        raise ValueError(f"randomness={randomness!r}: give ol.Scripted(...) or ol.Randomness(seed), or use seed=.")
    seed = settings.get("seed", 0)
    if isinstance(seed, (list, tuple)):
        raise ValueError(f"seed={seed!r}: a run has one seed. For several, use ol.repeat(..., seeds={list(seed)!r}).")
    return Run(method, problem, Settings(rounds=rounds, until=until, **settings), randomness)


def run(
    method: Method | str,
    problem: Any,
    *,
    rounds: int | None = None,
    until: Until | dict[str, float] | None = None,
    fleet: Fleet | None = None,
    seed: int = 0,
    x0: Any = None,
    dtype: str | None = None,
    randomness: Randomness | None = None,
    keep: str | None = None,
    deadline: float | None = None,
    attack: Attack | None = None,
    evaluate_every: int | None = None,
    executor: str | int = "auto",
    threads: int | None = None,
    on: Any = None,
    checkpoint: str | None = None,
    checkpoint_every: int | None = None,
    live: bool | None = None,
) -> Run:
    """Run a method on a problem and return the `Run`.

    method: a method, or its slug for the defaults. problem: from `ol.problems`. rounds: steps (default 100), or
    until=dict(loss=..., grad_norm_sq=..., bits=..., seconds=...), whichever comes first. fleet: devices' speeds and
    links. seed: everything random follows from it. x0: (d,) start. dtype: "float32" or "float64". randomness:
    `ol.Scripted(...)` replays given draws. keep="x" keeps every iterate in `run.iterates`. deadline: seconds after
    which a round stops waiting. attack: who lies. evaluate_every: rounds between evaluations of the objective.
    executor: "auto", "stacked", "loop". on: where clients run: None (here), "flower", "flower-simulation", or
    ol.flower.SuperLink(...): see `octolab.flower`. checkpoint, checkpoint_every: write a run file. live: draw while
    running (None: in a notebook).

    Blocks. A progress bar appears after two seconds, a live chart in a notebook. An interrupt (Ctrl-C, or the kernel's
    stop button) ends the run at the round's end and returns what there is.

    >>> import octolab as ol
    >>> ol.run("gd", ol.problems.quadratics(n=4, d=3, L=10, mu=1, seed=0), rounds=5).round
    5
    """
    from octolab.experiment.progress import watch

    prepared = prepare(
        method,
        problem,
        rounds=rounds,
        until=until,
        fleet=fleet,
        seed=seed,
        x0=x0,
        dtype=dtype,
        randomness=randomness,
        keep=keep,
        deadline=deadline,
        attack=attack,
        evaluate_every=evaluate_every,
        executor=executor,
        threads=threads,
        on=on,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
    )
    return watch(prepared, live)


def start(method: Method | str, problem: Any, **arguments: Any) -> Run:
    """Like `run`, but returns at once: the run goes on in a worker thread.

    `run.pause()`, `run.resume()`, `run.stop()`, `run.result()` (waits), `await run.wait()`.
    """
    arguments.pop("live", None)
    return prepare(method, problem, **arguments).launch()
