"""The promises about what a run does."""

from __future__ import annotations

import json
import os
import tempfile

import numpy as np
import torch

from octolab.experiment import from_spec, resume
from octolab.federation import Fleet
from octolab.methods import Method
from octolab.problems import Problem
from octolab.testing.problems import (
    ROUNDS,
    cannot_rebuild,
    home,
    quiet,
    run_of,
    start,
    with_attributes,
)
from octolab.testing.sameness import difference, tensors_of
from octolab.testing.wire import Wire


def runs(method: Method, problem: Problem) -> str | None:
    """A method runs with its defaults: all rounds, finite numbers, a history with a row per round."""
    run = run_of(method, problem)
    assert run.status == "finished" and run.round == ROUNDS, f"it ended {run.status} at round {run.round}: {run.error}"
    assert run.x.shape == (problem.d,), f"model(state) has shape {tuple(run.x.shape)}, not ({problem.d},)."
    assert run.x.dtype == problem.dtype, f"the model is {run.x.dtype}, the problem {problem.dtype}."
    table = run.history
    assert list(table["round"]) == list(range(ROUNDS + 1)), "the history lacks rounds."
    assert bool(table[["loss", "grad_norm_sq", "bits_up", "time"]].notna().all().all()), "the history has holes."
    assert bool((table[["time", "bits_up", "bits_down", "gradients"]].diff().iloc[1:] >= 0).all().all()), (
        "time, bits or work went down."
    )
    return None


def repeats(method: Method, problem: Problem) -> str | None:
    """The same seed gives bitwise the same run."""
    found = difference(run_of(method, problem, seed=3), run_of(method, problem, seed=3))
    assert not found, f"two runs with seed 3 are not the same: {found}."
    return None


def one_by_one(method: Method, problem: Problem) -> str | None:
    """All clients in one pass, one at a time and four at a time are the same run to 1e-10 in float64."""
    twin = problem if problem.dtype == torch.float64 else problem.with_dtype(torch.float64)
    whole = run_of(method, twin, executor="stacked")
    for executor in ("loop", 4):
        found = difference(whole, run_of(method, twin, executor=executor), tol=1e-10)
        assert not found, f"executor={executor!r} is not executor='stacked': {found}."
    return None


def threads(method: Method, problem: Problem) -> str | None:
    """The number of threads does not change a bit."""
    big = home(method, n=60, d=8)
    big = with_attributes(big, chunk=16)  # several passes, so that threads have something to share
    found = difference(run_of(method, big, threads=1), run_of(method, big, threads=3))
    assert not found, f"threads=3 is not threads=1: {found}."
    return None


def resumes(method: Method, problem: Problem) -> str | None:
    """Saved, loaded and resumed after any step, a run is bitwise the uninterrupted one."""
    whole, part = run_of(method, problem), start(method, problem)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.octo")
        for k in range(ROUNDS):
            part.advance()
            part.save(path)
            with quiet():
                again = resume(path, **cannot_rebuild(part))
            found = difference(whole, again)
            assert not found, f"saved after step {k} and resumed, the run is another: {found}."
    return None


def stops(method: Method, problem: Problem) -> str | None:
    """Stopped after every single round and taken up again, a run is bitwise the uninterrupted one."""
    whole, run = run_of(method, problem), start(method, problem)
    with quiet():
        for _ in range(ROUNDS + 2):
            run.finish(progress=lambda r: r.stop())
    assert run.status == "finished", f"finish() does not take up a stopped run: it stands at round {run.round}."
    found = difference(whole, run)
    assert not found, f"stopped and taken up again, the run is another: {found}."
    return None


def forks(method: Method, problem: Problem) -> str | None:
    """A fork goes its own way: what it does leaves the original alone, and without changes both end alike."""
    whole, run = run_of(method, problem), start(method, problem).advance(ROUNDS // 2 + 1)
    with quiet():
        twin, other = run.fork().finish(), run.fork(seed=77).finish()
        run.finish()
    for name, one in (("the fork", twin), ("the original, after its fork ran,", run)):
        found = difference(whole, one)
        assert not found, f"{name} is not the uninterrupted run: {found}."
    assert other.settings.seed == 77, "fork(seed=77) kept the old seed."
    return None


def bits(method: Method, problem: Problem) -> str | None:
    """Every bit in the ledger was sent: messages encode to those bytes and decode to what the server used."""
    run = start(method, problem)
    wire = Wire(run.federation)
    with quiet():
        run.finish()
    ledger = run.federation.ledger
    for column, sent in (("up", wire.arrived()), ("down", wire.down)):
        charged = (
            ledger.per_client("up") if column == "up" else ledger.per_client("down") + ledger.per_client("broadcast")
        )
        gap = np.abs(charged - sent)
        if column == "down" and wire.jobs:
            continue  # a worker that holds the point already is not sent it again
        assert gap.max() == 0, (
            f"client {gap.argmax()}: {charged[gap.argmax()]:.0f} bits {column} are charged, "
            f"{sent[gap.argmax()]:.0f} were sent."
        )
    return f"{wire.messages} messages" if wire.messages else f"nothing was sent up in {ROUNDS} rounds, nothing charged"


def drop_outs(method: Method, problem: Problem) -> str | None:
    """Devices that drop out lose nothing: they keep their memory, and the server's sums stay true."""
    run = run_of(method, problem, rounds=15, fleet=Fleet(dropout=0.4))
    alone = run.federation.asynchronous  # asynchronous: those who drop out are gone for good
    assert run.status == "finished" or (alone and run.status == "stalled"), f"the run ended {run.status}: {run.error}"
    fed, state = run.federation, tensors_of(run.state)
    relations = run.method.relations(fed, run.state)
    memory = dict(fed.memory.items())
    shared = [name for name in memory if name != "x" and name in state and state[name].shape == memory[name].shape[1:]]
    if not relations:  # what a page does not say is taken to be the usual: the server's sum is the mean of the clients'
        relations = {
            f"the server's {name} is the mean of the clients' {name}": fed.mean_of(name) - state[name]
            for name in shared
        }
    largest = max((float(v.abs().max()) for v in memory.values() if v.is_floating_point()), default=1.0)
    for sentence, gap in relations.items():
        far = float(gap.abs().max()) if gap.numel() else 0.0
        assert far <= 1e-10 * max(1.0, largest), (
            f"after drop-outs it is not true that {sentence}: {far:.3g} apart. (What is true instead, `relations` says.)"
        )
    gone = np.zeros(problem.n)
    gone[0] = 1.0
    absent = start(method, problem, rounds=8, fleet=Fleet(dropout=gone))
    absent.advance(1)
    before = {k: v[0].clone() for k, v in absent.federation.memory.items()}
    with quiet():
        absent.finish()
    for name, value in before.items():
        assert torch.equal(value, absent.federation.memory[name][0]), f"client 0 never replied, but its {name} changed."
    return "; ".join(relations) or None


def descends(method: Method, problem: Problem) -> str | None:
    """Where its theory holds, the default step brings the loss down."""
    p = home(method)
    run = run_of(method, p, rounds=100)
    first, last = p.value(p.x0), p.value(run.x)
    assert last < first, f"the loss went from {first:.4g} to {last:.4g} in 100 rounds on {p.name}."
    return f"{first:.3g} to {last:.3g} in 100 rounds"


def spec(method: Method, problem: Problem) -> str | None:
    """The run's JSON spec makes bitwise the same run."""
    run = run_of(method, problem)
    text = json.dumps(run.spec)
    with quiet():
        again = from_spec(json.loads(text), **cannot_rebuild(run)).finish()
    found = difference(run, again)
    assert not found, f"from_spec(run.spec) makes another run: {found}."
    assert again.spec["hash"] == run.spec["hash"], "the spec's hash changes on the way through JSON."
    return None
