"""The front door: `run` blocks and draws, `start` returns at once."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from numpy.typing import ArrayLike
from torch import nn

from octolab.arguments import expects, switch
from octolab.experiment.callbacks.callback import Callback
from octolab.experiment.run import FOREVER, Run, Settings, Until
from octolab.experiment.world import World
from octolab.federation import Attack, Fleet, Randomness
from octolab.methods import Method
from octolab.metrics import Given
from octolab.rooms import nearest

if TYPE_CHECKING:
    from octolab.problems import Problem

SETTINGS = tuple(f.name for f in dataclasses.fields(Settings))


def prepare(
    method: Method | str,
    problem: Problem,
    *,
    rounds: int | None = None,
    until: Until | Mapping[str, float] | None = None,
    randomness: Randomness | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Run:
    """A run that has not started: the arguments of `run`."""
    for name in settings:
        if name not in SETTINGS:
            known = (*SETTINGS, "randomness", "callbacks", "live")
            raise ValueError(
                f"{name}=...: a run has no such argument.{nearest(name, known)} It has {', '.join(known)}."
            )
    if isinstance(until, Mapping):
        until = Until(**dict[str, Any](until))
    if rounds is None:
        rounds = 100 if until is None else FOREVER
    if randomness is not None and not isinstance(randomness, Randomness):
        raise ValueError(f"randomness={randomness!r}: give ol.Scripted(...) or ol.Randomness(seed), or use seed=.")
    seed = settings.get("seed", 0)
    if isinstance(seed, (list, tuple)):
        raise ValueError(f"seed={seed!r}: a run has one seed. For several, use ol.repeat(..., seeds={list(seed)!r}).")
    return Run(method, problem, Settings(rounds=rounds, until=until, **settings), randomness, callbacks)


@expects(live=switch())
def run(
    method: Method | str,
    problem: Problem,
    *,
    rounds: int | None = None,
    until: Until | Mapping[str, float] | None = None,
    fleet: Fleet | None = None,
    seed: int = 0,
    x0: ArrayLike | Mapping[str, torch.Tensor] | nn.Module | None = None,
    dtype: str | None = None,
    randomness: Randomness | None = None,
    keep: str | tuple[str, ...] | None = None,
    deadline: float | None = None,
    attack: Attack | None = None,
    fleet_seed: int | None = None,
    evaluate_every: int | None = None,
    metrics: Given | Iterable[Given] | None = None,
    executor: str | int = "auto",
    threads: int | None = None,
    on: World | str | None = None,
    checkpoint: str | None = None,
    checkpoint_every: int | None = None,
    deterministic: str | None = None,
    callbacks: Sequence[Callback] = (),
    live: bool | None = None,
) -> Run:
    """Run a method on a problem and return the `Run`.

    method: a method, or its slug for the defaults. problem: from `ol.problems`. rounds: steps (default 100), or
    until=dict(loss=..., grad_norm_sq=..., bits=..., seconds=..., accuracy=...), whichever comes first. fleet: devices' speeds and
    links. seed: everything random follows from it. x0: the start: (d,), a module or its
    state_dict. dtype: "float32" or "float64". randomness:
    `ol.Scripted(...)` replays given draws. keep="x" keeps every iterate in `run.iterates`, "best" the best
    validated model in `run.best`. deadline: seconds after
    which a round stops waiting. attack: who lies. fleet_seed: a seed
    of their own for the devices' delays and drop-outs. evaluate_every: rounds between evaluations of the objective.
    metrics: names ("f1", "auroc", ...) or functions f(labels, scores), on the test samples: see `octolab.metrics`.
    executor: "auto", "stacked", "loop". on: where clients run: None (here), "flower", "flower-simulation", or
    ol.flower.SuperLink(...): see `octolab.flower`. checkpoint, checkpoint_every: write a run file. deterministic:
    "portable" gives the same bits on every instruction set (`octolab.portable`; convex problems). callbacks: what
    listens, such as `ol.EarlyStopping("accuracy")` or `ol.callbacks.JSONL("run.jsonl")`: see `ol.callbacks`. live: draw while
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
        fleet_seed=fleet_seed,
        evaluate_every=evaluate_every,
        metrics=metrics,
        executor=executor,
        threads=threads,
        on=on,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        deterministic=deterministic,
        callbacks=callbacks,
    )
    return watch(prepared, live)


F = TypeVar("F", bound=Callable[..., Any])


def shows_settings(function: F) -> F:
    """A decorator: the signature, which tab completion reads, names the settings of `run` in place of **settings."""
    own = inspect.signature(function)
    named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    settings = [p for p in inspect.signature(run).parameters.values() if p.kind is p.KEYWORD_ONLY]
    taken = {*own.parameters, "seed"} if "seeds" in own.parameters else set(own.parameters)
    more = [p for p in settings if p.name not in taken]
    function.__signature__ = own.replace(parameters=[*named, *more])  # type: ignore[attr-defined]
    return function


@shows_settings
def start(method: Method | str, problem: Problem, **arguments: Any) -> Run:
    """Like `run`, but returns at once: the run goes on in a worker thread.

    `run.pause()`, `run.resume()`, `run.stop()`, `run.result()` (waits), `await run.wait()`.
    """
    arguments.pop("live", None)
    return prepare(method, problem, **arguments).launch()
