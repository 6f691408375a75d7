"""A schedule where a method takes lr: the steps taken are its values, theory is resolved in it, and resumes go on with it."""

from __future__ import annotations

import copy
import json

import pytest
import torch

import octolab as ol
from octolab.experiment.launch import prepare
from octolab.schedules import Cosine, InverseSqrt, Step, Warmup

PROBLEM = ol.problems.quadratics(n=4, d=5, L=10, mu=1, seed=2)


def steps_of(run):
    """The step sizes that gradient descent took, from its iterates."""
    xs = run.iterates
    return [float(((xs[t + 1] - xs[t]) / -PROBLEM.gradient(xs[t])).mean()) for t in range(len(xs) - 1)]


def test_gradient_descent_takes_the_schedules_steps():
    schedule = Warmup(Cosine(0.08, rounds=6, floor=0.01), rounds=2)
    run = ol.run(ol.methods.GD(lr=schedule), PROBLEM, rounds=8, keep="x", live=False)
    assert steps_of(run) == pytest.approx([schedule(t) for t in range(8)], rel=1e-9)


def test_a_plain_function_of_the_round_is_a_schedule():
    run = ol.run(ol.methods.GD(lr=lambda t: 0.08 / (t + 1)), PROBLEM, rounds=4, keep="x", live=False)
    assert steps_of(run) == pytest.approx([0.08 / (t + 1) for t in range(4)], rel=1e-9)


def test_theory_in_a_schedule_is_this_problems_step():
    theory = ol.methods.GD().resolve(PROBLEM).lr
    run = ol.run(ol.methods.GD(lr=InverseSqrt(ol.Theory(0.5))), PROBLEM, rounds=4, keep="x", live=False)
    assert steps_of(run) == pytest.approx([0.5 * theory / (t + 1) ** 0.5 for t in range(4)], rel=1e-9)
    assert run.method.proved_rate(PROBLEM) is not None  # of one round; the schedule itself has none
    assert ol.methods.GD(lr=InverseSqrt(0.1)).resolve(PROBLEM).proved_rate(PROBLEM) is None


@pytest.mark.parametrize("slug", ["ef21", "scaffnew", "fedavg", "asgd", "diana"])
def test_a_resumed_run_goes_on_with_the_schedule_bit_for_bit(slug, tmp_path):
    problem = ol.problems.Tridiagonal(d=6, n=4, noise=0.01) if slug == "asgd" else PROBLEM
    method = ol.methods.get(slug)(lr=Step(ol.Theory(), every=3, factor=0.5))
    whole = ol.run(method, PROBLEM, rounds=10, seed=3, live=False)
    part = prepare(method, PROBLEM, rounds=10, seed=3).advance(5)
    part.save(tmp_path / "run.octo")
    again = ol.resume(tmp_path / "run.octo", **({} if "given" not in problem.spec else {"problem": problem})).finish()
    assert torch.equal(whole.x, again.x)


def test_its_spec_is_json_and_makes_the_same_run():
    run = ol.run(ol.methods.GD(lr=Warmup(Cosine(ol.Theory(), rounds=9), rounds=2)), PROBLEM, rounds=5, live=False)
    again = ol.from_spec(json.loads(json.dumps(run.spec)), problem=PROBLEM).finish()
    assert torch.equal(run.x, again.x) and run.spec["hash"] == again.spec["hash"]


def test_a_round_without_a_step_is_refused_before_any_work():
    with pytest.raises(ValueError, match=r"in round 3: a step size is a finite number > 0"):
        ol.run(ol.methods.GD(lr=lambda t: 0.1 * (3 - t)), PROBLEM, rounds=5, live=False)
    with pytest.raises(ValueError, match=r"in round 4.*Give a floor > 0"):
        ol.run(ol.methods.GD(lr=Cosine(0.1, rounds=4)), PROBLEM, rounds=6, live=False)


def test_local_optimisers_train_the_family_of_fedavg_and_keep_what_they_should():
    data = ol.problems.classification("digits", clients=5)
    fresh = ol.run(
        ol.methods.FedAvg(local=ol.local.Adam(), lr=0.01, cohort=2, batch_size=32), data, rounds=4, live=False
    )
    assert not list(fresh.federation.memory)
    kept = ol.run(
        ol.methods.FedAvg(local=ol.local.Adam(keep_state=True), lr=0.01, cohort=2, batch_size=32),
        data,
        rounds=4,
        live=False,
    )
    assert {"local_m", "local_v", "local_count"} == set(kept.federation.memory)
    heavy = [ol.methods.FedAvg(momentum=0.9, lr=0.05), ol.methods.FedAvg(local=ol.local.SGD(momentum=0.9), lr=0.05)]
    old, new = (ol.run(m, data, rounds=3, live=False).x for m in heavy)
    assert torch.equal(old, new)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ol.methods.FedAvg(local=ol.local.Adam(), momentum=0.5), "give the momentum to the optimiser"),
        (lambda: ol.methods.FedNova(local=ol.local.Adam()), "for SGD steps only"),
    ],
)
def test_what_does_not_go_together_gets_a_sentence(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert words in str(error.value)


def falling(t):
    return 0.1 / (t + 1)


class OwnSGD(torch.optim.SGD):
    """A class of one's own."""


def test_an_optimiser_of_torch_is_named_in_the_spec_and_made_again(tmp_path):
    local = ol.local.Torch(torch.optim.RMSprop, alpha=0.9, keep_state=True)
    run = ol.run(ol.methods.FedAvg(lr=0.01, local=local), PROBLEM, rounds=2, live=False)
    again = ol.from_spec(json.loads(json.dumps(run.spec)))
    assert again.given == run.given and torch.equal(again.finish().x, run.x)
    assert ol.resume(run.save(tmp_path / "a"), rounds=4).round == 4
    spec = copy.deepcopy(run.spec)
    spec["method"]["local"]["optimizer"] = "RMSprob"
    with pytest.raises(ValueError, match=r"torch\.optim has no optimiser 'RMSprob'\. Did you mean RMSprop"):
        ol.from_spec(spec)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (ol.methods.FedAvg(lr=falling), "'falling', a function of the round of your own"),
        (ol.methods.FedAvg(lr=0.1, local=ol.local.Torch(OwnSGD)), "'OwnSGD', a class of your own"),
    ],
)
def test_what_a_run_file_only_names_is_handed_over_again(tmp_path, method, words):
    run = ol.run(method, PROBLEM, rounds=4, checkpoint=str(tmp_path / "a"), live=False)  # nothing is lost at the end
    for make in (lambda: ol.load_run(tmp_path / "a"), lambda: ol.from_spec(run.spec)):
        with pytest.raises(ValueError, match=words):
            make()
    on = ol.resume(tmp_path / "a", rounds=6, method=method)
    whole = ol.run(method, PROBLEM, rounds=6, live=False)
    assert torch.equal(on.x, whole.x) and torch.equal(ol.from_spec(run.spec, method=method).finish().x, run.x)


def test_a_registered_function_of_the_round_is_found_by_its_name():
    ol.register("schedules")(falling)
    try:
        run = ol.run(ol.methods.FedAvg(lr=falling), PROBLEM, rounds=2, live=False)
        assert run.spec["method"]["lr"] == {"kind": "schedules.OfRound", "function": "falling"}
        assert torch.equal(ol.from_spec(run.spec).finish().x, run.x)
    finally:
        ol.rooms.forget("schedules", "falling")


@pytest.mark.flower
@pytest.mark.parametrize("slug", ["scaffnew", "fedavg"])
def test_on_flower_the_nodes_take_this_rounds_step(slug):
    method = ol.methods.get(slug)(lr=Step(0.02, every=2, factor=0.5))
    here = ol.run(method, PROBLEM, rounds=6, live=False)
    there = ol.run(method, PROBLEM, rounds=6, live=False, on=ol.flower.InProcess(wire="exact"))
    assert torch.equal(here.x, there.x)
