"""Local training is what its definition says, on every problem and every tier."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.problems import Batch

OPTIONS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "prox": {"prox": 0.7},
    "correction": {"correction": True},
    "own steps": {"lr": True},
    "everything": {"momentum": 0.5, "prox": 0.7, "correction": True, "lr": True},
}


def by_hand(problem, x, ids, lr, steps, batch=None, momentum=0.0, prox=0.0, correction=None):
    """One client after the other, one step after the other."""
    out = []
    for k, i in enumerate(ids):
        start = x if x.dim() == 1 else x[k]
        y, v, rate = start, 0, lr if isinstance(lr, float) else float(lr[k])
        for t in range(steps):
            b = None
            if batch is not None:
                index = batch.index[t, k] if batch.mask is None else batch.index[t, k][batch.mask[t, k]]
                if len(index) == 0:
                    continue
                b = Batch(index[None], None, None)
            g = problem.grad(y, slice(i, i + 1), b)[0]
            v = momentum * v + g + (0 if correction is None else correction[k])
            y = y - rate * (v + prox * (y - start))
        out.append(y)
    return torch.stack(out)


def arguments(problem, name, m):
    rng = np.random.default_rng(7)
    given = dict(OPTIONS[name])
    if given.get("correction"):
        given["correction"] = torch.from_numpy(rng.normal(size=(m, problem.d)))
    given["lr"] = torch.from_numpy(rng.uniform(0.01, 0.1, m)) if given.get("lr") else 0.05
    return given


def schedule(problem, ids, steps, kind):
    """Batches of 3: all whole, the last short, or clients that rest at first, in between and at the end."""
    rng = np.random.default_rng(8)
    index = torch.from_numpy(rng.integers(0, problem.sizes[ids][None, :, None], (steps, len(ids), 3)))
    if kind == "whole":
        return Batch(index, None, None)
    mask = torch.ones(steps, len(ids), 3, dtype=torch.bool)
    mask[-1, :, 2] = False
    if kind == "resting":
        mask[2:, 0], mask[1, 1], mask[0, 2] = False, False, False
        mask[1, 2, 1:] = False
    return Batch(index * mask, mask, None)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("cohort", [None, slice(1, 4), torch.tensor([2, 0, 3])])
def test_full_batches(problem, point, name, cohort):
    ids = torch.arange(problem.n)[slice(None) if cohort is None else cohort].tolist()
    given = arguments(problem, name, len(ids))
    y = problem.local_sgd(point, cohort, steps=4, **given)
    assert torch.allclose(y, by_hand(problem, point, ids, steps=4, **given), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("batches", ["whole", "short", "resting"])
def test_minibatches(sampled, name, batches):
    problem, ids = sampled, [2, 0, 3]
    x = torch.from_numpy(np.random.default_rng(4).normal(size=(3, problem.d)))
    given = arguments(problem, name, 3)
    batch = schedule(problem, ids, 5, batches)
    y = problem.local_sgd(x, torch.tensor(ids), steps=5, batch=batch, **given)
    assert torch.allclose(y, by_hand(problem, x, ids, steps=5, batch=batch, **given), rtol=1e-12, atol=1e-13)


def test_the_start_is_left_alone(problem, point):
    before = point.clone()
    problem.local_sgd(point, None, lr=0.1, steps=2, momentum=0.5)
    assert torch.equal(point, before)


def test_no_step_is_no_move(problem, point):
    assert torch.equal(problem.local_sgd(point, None, lr=0.1, steps=0), point.expand(problem.n, -1))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("cohort", [None, torch.tensor([2, 0, 3])])
def test_full_batches_with_an_own_number_of_steps_for_each_client(problem, point, name, cohort):
    ids = torch.arange(problem.n)[slice(None) if cohort is None else cohort].tolist()
    stop, given = torch.tensor([3, 0, 4, 1])[: len(ids)], arguments(problem, name, len(ids))
    y = problem.local_sgd(point, cohort, steps=4, stop=stop, **given)
    for k, i in enumerate(ids):
        one = {q: v[k : k + 1] if isinstance(v, torch.Tensor) else v for q, v in given.items()}
        alone = by_hand(problem, point, [i], steps=int(stop[k]), **one)
        assert torch.allclose(y[k], alone[0], rtol=1e-12, atol=1e-13)


def cohort_of(problem, ids, randomness=None):
    ids, fed = np.asarray(ids), ol.federation.Federation(problem, randomness=randomness or 5)
    return ol.federation.Cohort(problem, fed.memory, fed.randomness, ids, torch.from_numpy(ids), event=3)


@pytest.mark.parametrize("plan", [{"steps": 6}, {"epochs": 3}])
def test_partial_work_is_the_beginning_of_the_whole_and_nobody_elses_business(sampled, plan):
    """A client that stops early has used the batches with which the others go on."""
    ids, stop, size = [3, 0, 2], torch.tensor([1, 4, 2]), 2
    cohort = cohort_of(sampled, ids)
    y = cohort.local_sgd(sampled.x0, lr=0.1, batch_size=size, stop=stop, **plan)
    taken = cohort_of(sampled, ids).local_steps(plan.get("steps"), plan.get("epochs"), size, stop)
    assert (torch.as_tensor(cohort.gradients) == taken).all() and bool((taken <= stop).all())
    for k, i in enumerate(ids):
        whole = cohort_of(sampled, [i])
        _, batch = whole.schedule(plan.get("steps"), plan.get("epochs"), size)
        n = int(taken[k])
        first = Batch(batch.index[:n], None if batch.mask is None else batch.mask[:n], None)
        alone = by_hand(sampled, sampled.x0, [i], lr=0.1, steps=n, batch=first)
        assert torch.allclose(y[k], alone[0], rtol=1e-12, atol=1e-13)


def test_stopping_after_the_whole_plan_changes_nothing(sampled):
    more = torch.full((3,), 99)
    one, two = (
        cohort_of(sampled, [0, 1, 3]).local_sgd(sampled.x0, lr=0.1, epochs=2, batch_size=3, stop=s)
        for s in (None, more)
    )
    assert torch.equal(one, two)


def test_full_batches_charge_each_client_its_own_steps():
    p = ol.problems.quadratics(n=4, d=3)
    cohort = cohort_of(p, [1, 3])
    cohort.local_sgd(p.x0, lr=0.1, steps=5, stop=torch.tensor([2, 9]))
    assert cohort.gradients.tolist() == [2, 5]


@pytest.mark.parametrize("bad", [torch.tensor([1, 2, 3]), torch.tensor([1.0, 2.0]), torch.tensor([1, -1])])
def test_bad_numbers_of_steps_are_refused_in_words(bad):
    p = ol.problems.quadratics(n=4, d=3)
    with pytest.raises(ValueError, match="give 2 whole numbers >= 0, one for each client"):
        cohort_of(p, [1, 3]).local_sgd(p.x0, lr=0.1, steps=5, stop=bad)


@pytest.mark.parametrize("kind", ["scalar", "iid"])
def test_where_there_are_no_samples_every_local_step_has_fresh_noise(kind):
    """As many draws as a loop of gradients over `cohort.batch` makes, and the same ones."""
    p = ol.problems.quadratics(n=4, d=3, noise=2.0, noise_kind=kind)
    y, cohort = p.x0.expand(2, -1), cohort_of(p, [1, 3])
    for _ in range(4):
        y = y - 0.1 * cohort.grad(y, cohort.batch(5))
    twin = cohort_of(p, [1, 3])
    assert torch.equal(twin.local_sgd(p.x0, lr=0.1, steps=4, batch_size=5), y)
    assert (twin.gradients, twin.samples) == (cohort.gradients, cohort.samples)
    exact = cohort_of(p, [1, 3]).local_sgd(p.x0, lr=0.1, steps=4)
    assert float((y - exact).abs().min()) > 1e-3


def test_noise_ends_with_a_clients_last_step_and_depends_on_nobody_else():
    p = ol.problems.quadratics(n=4, d=3, noise=2.0)
    both = cohort_of(p, [1, 3]).local_sgd(p.x0, lr=0.1, steps=4, batch_size=1, stop=torch.tensor([4, 2]))
    alone = cohort_of(p, [3]).local_sgd(p.x0, lr=0.1, steps=2, batch_size=1)
    assert torch.allclose(both[1], alone[0], rtol=1e-12)


def test_the_pooled_gradient_of_a_batch_is_the_weighted_mean_of_the_clients(sampled):
    draws = ol.federation.Randomness(2).draws(sampled.n)
    batch = sampled.draw_batch(2, None, draws)
    expected = sampled.weights @ sampled.grad(sampled.x0, None, batch)
    assert torch.allclose(sampled.pooled_gradient(sampled.x0, batch), expected, rtol=1e-12, atol=1e-14)
