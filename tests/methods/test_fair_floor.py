"""FairFloor: a hard floor on participation that survives drop-outs, checkpoints and forks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.errors import AssumptionWarning
from octolab.federation.sampling import ParticipationFloor
from tests.methods.by_hand import close, gradients, iterates

FairFloor, FedAvg = ol.methods.FairFloor, ol.methods.FedAvg
PROBLEM = ol.problems.quadratics(n=6, d=4, L=8)
FAVOURITES = [1e9] * 3 + [1.0] * 17  # three clients whom the free places always go to


def counted(run) -> list[int]:
    return run.federation.ledger.per_client("replies").astype(int).tolist()


def test_seventeen_devices_get_their_ten_rounds_and_three_favourites_the_rest():
    """n=20, m=3, T=100, k=10: the specification counts 43, 44, 43 and 17 times 10."""
    p = ol.problems.quadratics(n=20, d=2)
    run = ol.run(FairFloor(cohort=3, at_least=10, window=100, q=FAVOURITES, lr=0.01), p, rounds=100, live=False)
    counts = counted(run)
    assert sorted(counts[:3]) == [43, 43, 44] and counts[3:] == [10] * 17
    assert run.history.least.max() == 10 and run.history.forced[1:44].max() == 0


def test_the_rule_by_hand():
    """The algorithm box in words of one syllable, on the cohorts of a run."""
    n, m, k, T = 6, 2, 3, 10
    run = ol.run(FairFloor(cohort=m, at_least=k, window=T, lr=0.01), PROBLEM, rounds=0, live=False)
    counts = np.zeros(n, dtype=int)
    for t in range(T):
        need = np.maximum(0, k - counts)
        must = {i for i in range(n) if need[i] > 0 and need[i] >= T - t}
        for i in sorted(range(n), key=lambda i: (-need[i], i)):
            if need.sum() - len(must) <= m * (T - t - 1) and len(must) >= (need >= T - t).sum() * (need.max() > 0):
                break
            must.add(i)
        before = np.array(counted(run))
        run.advance()
        came = set(np.flatnonzero(np.array(counted(run)) - before).tolist())
        assert must <= came and len(came) == m
        counts[list(came)] += 1
    assert counts.min() >= k


def test_it_is_fedavg_on_the_chosen_cohorts():
    """Ratio weights: the weighted mean of the updates; the same timetable serves FedAvg as a sampler."""
    p = ol.problems.Quadratics(PROBLEM.A, PROBLEM.b, [1, 2, 3, 4, 5, 6])
    given, lr, w = [[0, 3], [2, 5], [1, 4]], 0.05, p.weights.numpy()
    grad, x, path = gradients(p), np.zeros(4), [np.zeros(4)]
    for members in given:
        moves = []
        for i in members:
            y = x
            for _ in range(2):
                y = y - lr * grad[i](y)
            moves.append(y - x)
        x = x + sum(w[i] * v for i, v in zip(members, moves, strict=True)) / w[members].sum()
        path.append(x)
    method = FairFloor(cohort=2, at_least=1, window=6, lr=lr, local_steps=2)
    close(iterates(method, p, 3, randomness=ol.Scripted(cohorts=given)), path)
    sampler = ParticipationFloor(2, at_least=3, rounds=12)
    ours = FairFloor(cohort=2, at_least=3, window=12, lr=lr, local_steps=2)
    close(iterates(ours, p, 30), iterates(FedAvg(cohort=sampler, lr=lr, local_steps=2), p, 30), 1e-14)


def test_unbiased_weights_are_conditionally_unbiased_by_enumeration():
    """One client must come (it is owed), the other place is free: all 5 cohorts, each with probability 1/5."""
    p, lr, x0 = ol.problems.Quadratics(PROBLEM.A, PROBLEM.b, [1, 2, 3, 4, 5, 6]), 0.05, np.ones(4)
    target = iterates(FedAvg(lr=lr, local_steps=1), p, 1, x0=x0)[1]
    method = FairFloor(cohort=2, at_least=1, window=3, weighting="unbiased", lr=lr, local_steps=1)
    mean = np.zeros(4)
    for members in combinations(range(6), 2):  # 6 owed in 3 rounds of 2: two must come in the first
        run = ol.run(method, p, rounds=0, x0=x0, live=False, randomness=ol.Scripted(cohorts=[list(members)]))
        run.state = run.state._replace(counts=torch.tensor([1, 1, 1, 1, 0, 1]), place=2)  # but 4 alone is owed now
        if 4 in members:
            mean += np.asarray(run.advance().x) / 5
    close(mean, target, 1e-12)


def test_a_round_that_the_floor_fills_cannot_be_unbiased_and_says_so():
    method = FairFloor(cohort=2, at_least=1, window=3, weighting="unbiased", lr=0.01)
    with pytest.warns(AssumptionWarning, match="could not be drawn"):
        ol.run(method, PROBLEM, rounds=1, live=False)


def test_a_window_ends_and_the_next_one_begins():
    run = ol.run(FairFloor(cohort=2, at_least=3, window=9, lr=0.01), PROBLEM, rounds=9, live=False)
    assert counted(run) == [3] * 6 and run.state.place == 0 and int(run.state.counts.sum()) == 0
    assert counted(run.advance(9)) == [6] * 6


def test_only_answers_count_and_a_device_that_did_not_answer_is_asked_again():
    """Half of one device's answers are lost. A timetable made in advance does not notice; this method does."""
    lossy = ol.Fleet(dropout=np.array([0.5, 0, 0, 0, 0, 0]))
    noticed = planned = 0
    for seed in range(6):
        world = {"rounds": 39, "seed": seed, "fleet": lossy, "live": False, "evaluate_every": 39}
        run = ol.run(FairFloor(cohort=2, at_least=10, window=40, lr=0.01), PROBLEM, **world)
        assert run.state.counts.tolist() == counted(run) and min(counted(run)[1:]) >= 9
        noticed += counted(run)[0]
        sampler = ParticipationFloor(2, at_least=10, rounds=40)
        planned += counted(ol.run(FedAvg(cohort=sampler, lr=0.01, local_steps=1), PROBLEM, **world))[0]
    assert noticed > planned


@pytest.mark.parametrize("at", [1, 7, 11])
def test_saved_and_resumed_the_counts_go_on_bit_for_bit(at: int, tmp_path):
    method = FairFloor(cohort=2, at_least=3, window=10, lr=0.05)
    whole = ol.run(method, PROBLEM, rounds=20, live=False)
    part = ol.run(method, PROBLEM, rounds=at, live=False)
    part.save(tmp_path / "run.octo")
    again = ol.resume(tmp_path / "run.octo", rounds=20)
    assert torch.equal(whole.x, again.x) and torch.equal(whole.state.counts, again.state.counts)
    assert counted(whole) == counted(again)


def test_as_a_sampler_the_timetable_needs_no_memory_to_go_on():
    """A fork with a fresh sampler, which has seen nothing, draws the same cohorts as the run that was not interrupted."""
    make = lambda: ParticipationFloor(2, at_least=3, rounds=10)  # noqa: E731
    method = ol.methods.SCAFFOLD(cohort=make(), lr=0.02)
    whole, part = (ol.run(method, PROBLEM, rounds=r, live=False) for r in (20, 7))
    fork = part.fork(cohort=make(), rounds=20).finish()
    assert torch.equal(whole.x, fork.x) and counted(whole) == counted(fork)
    assert min(counted(whole)) >= 6


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: FairFloor(cohort=2, at_least=4, window=10).resolve(PROBLEM), "promised 0 to 3"),
        (lambda: FairFloor(cohort=6, at_least=4, window=3).resolve(PROBLEM), "promised 0 to 3"),
        (lambda: FairFloor(cohort=7).resolve(PROBLEM), "only 6 clients"),
        (lambda: FairFloor(q=[1.0, 2.0]).resolve(PROBLEM), "6 weights > 0"),
        (lambda: FairFloor(q=[1.0] * 6, weighting="unbiased").resolve(PROBLEM), "needs q=None"),
        (lambda: FairFloor(window=0), r"window=0: give a number in \[1"),
        (lambda: FairFloor(at_least=-1), r"at_least=-1"),
    ],
)
def test_bad_input_gets_a_sentence(make, words: str):
    with pytest.raises(ValueError, match=words):
        make()
