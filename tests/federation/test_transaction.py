"""A step is a transaction: an error or an interrupt in the middle leaves everything as it was, and the run goes on."""

import json

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.errors import HalfWritten
from octolab.experiment.checkpoint import snapshot
from octolab.experiment.launch import prepare
from octolab.federation import Federation, Fleet, transaction

M = ol.methods
FLEET = Fleet(seconds=np.linspace(1, 3, 6), up=1e3, latency=0.1, dropout=0.2, timeout=20.0)


class Failing:
    """A problem whose gradients raise once, at call number `at`."""

    def __init__(self, problem, error):
        self.problem, self.error, self.left = problem, error, -1

    def __getattr__(self, name):
        return getattr(self.problem, name)

    def begun(self, x0):
        return self

    def grad(self, *arguments):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.problem.grad(*arguments)


def everything(run):
    """All that a run file would hold, and the timeline, as comparable values."""
    body, tensors = snapshot(run)
    body.pop("status")
    return json.dumps(body), {k: v.clone() for k, v in tensors.items()}, run.federation.timeline.segments().tolist()


def same(a, b):
    return a[0] == b[0] and a[2] == b[2] and all(torch.equal(a[1][k], b[1][k]) for k in a[1])


METHODS = {
    "ef21": (M.EF21(compressor=ol.compressors.TopK(0.5), lr=0.05), {}),
    "ef21, drop-outs": (M.EF21(compressor=ol.compressors.TopK(0.5), lr=0.05), {"fleet": FLEET}),
    "cohorts": (M.EF21PP(compressor=ol.compressors.TopK(0.5), lr=0.05, cohort=4), {"fleet": FLEET}),
    "marina": (M.MARINA(lr=0.05, p=0.5), {"fleet": FLEET}),
    "asgd": (M.ASGD(lr=0.01), {"fleet": FLEET}),
    "ringmaster": (M.Ringmaster(lr=0.01, R=2, variant="stop"), {"fleet": FLEET}),
}


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("name", METHODS)
def test_a_step_that_breaks_off_is_undone_and_the_run_goes_on_as_if_nothing_had_happened(name, error, recwarn):
    method, settings = METHODS[name]
    problem = Failing(ol.problems.quadratics(n=6, d=8, L=10, mu=1, seed=0), error)
    settings = settings | {"rounds": 12, "executor": 2}
    whole = prepare(method, problem, **settings)
    whole.advance(13)
    run = prepare(method, problem, **settings)
    broken = 0
    for at in [1, 2, 3, 1, 2]:
        run.advance(1)
        before = everything(run)
        problem.left = at
        try:
            run.advance(1)
        except type(error):
            broken += 1
            assert same(everything(run), before)
        problem.left = -1
    run.advance(12 - run.round)
    assert broken >= 2
    assert same(everything(run), everything(whole))


def test_a_metric_that_raises_undoes_the_step_too():
    class Odd(type(ol.problems.quadratics(n=2, d=2, seed=0))):
        broken = False

        def evaluate(self, x):
            if self.broken:
                raise ZeroDivisionError
            return super().evaluate(x)

    problem = ol.problems.quadratics(n=3, d=4, L=10, mu=1, seed=0)
    problem.__class__ = Odd
    run = prepare("gd", problem, rounds=9)
    run.advance(4)
    before = everything(run)
    Odd.broken = True
    with pytest.raises(ZeroDivisionError):
        run.advance(1)
    Odd.broken = False
    assert same(everything(run), before)


def test_scripts_are_rewound():
    fed = Federation(
        ol.problems.quadratics(n=3, d=4, seed=0), randomness=ol.Scripted(coins=[1, 0, 1], cohorts=[[0], [1]])
    )
    assert fed.coin(0.5)
    with pytest.raises(ZeroDivisionError), fed.transaction():
        assert not fed.coin(0.5)
        fed.sample(1)
        raise ZeroDivisionError
    assert not fed.coin(0.5)
    assert fed.sample(1).tolist() == [0]


def test_what_is_too_large_to_take_back_makes_the_run_unusable_and_never_overwrites_a_good_file(tmp_path, monkeypatch):
    monkeypatch.setattr(transaction, "LIMIT", 100)
    problem = Failing(ol.problems.quadratics(n=6, d=8, L=10, mu=1, seed=0), RuntimeError("a bug"))
    run = prepare(M.EF21(compressor=ol.compressors.TopK(0.5), lr=0.05), problem, rounds=9, executor=2)
    run.federation._step._room = 100
    run.advance(3)
    file = run.save(tmp_path / "good.octo")
    good = (tmp_path / "good.octo").read_bytes()
    problem.left = 2
    with pytest.raises(RuntimeError, match="a bug"):
        run.advance(1)
    for use in (lambda: run.advance(1), lambda: run.save(file), run.fork):
        with pytest.raises(HalfWritten, match=r"a bug.*cannot be\s+taken back.*Go on from the last run file"):
            use()
    assert (tmp_path / "good.octo").read_bytes() == good


def test_an_error_before_anything_was_written_costs_nothing_even_at_that_size(monkeypatch):
    monkeypatch.setattr(transaction, "LIMIT", 100)
    problem = Failing(ol.problems.quadratics(n=6, d=8, L=10, mu=1, seed=0), RuntimeError("a bug"))
    run = prepare(M.EF21(compressor=ol.compressors.TopK(0.5), lr=0.05), problem, rounds=9, executor=2)
    run.federation._step._room = 100
    run.advance(3)
    problem.left = 1
    with pytest.raises(RuntimeError, match="a bug"):
        run.advance(1)
    assert run.advance(1).round == 3
