"""Every problem: gradients, Hessians, cohorts, personal models and batches agree with first principles."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.problems import Batch
from octolab.randomness import Randomness


def close(a, b, tol=1e-12):
    assert a.shape == b.shape
    assert float((a - b).abs().max()) <= tol * max(1.0, float(b.abs().max()))


def personal(problem, seed=5):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(problem.n, problem.d))) / 2


def test_gradients_are_the_slopes_of_the_losses(problem, point, slope):
    close(problem.grad(point), slope(problem.loss, point), 1e-7)


def test_hessians_are_the_slopes_of_the_gradients(problem, point, slope):
    if not problem.has_hessian:
        with pytest.raises(ValueError, match="gives no Hessians"):
            problem.hessian(point)
        return
    H = problem.hessian(point)
    close(H, slope(problem.grad, point), 1e-7)
    assert torch.equal(H, H.mT) or float((H - H.mT).abs().max()) < 1e-14
    v = personal(problem, 6)
    close(problem.hvp(point, v), (H @ v[..., None])[..., 0])
    close(problem.hvp(point, v[0]), H @ v[0])


def test_hessians_at_personal_models_are_those_of_each_client_alone(problem):
    if problem.has_hessian:
        x = personal(problem)
        alone = torch.cat([problem.hessian(x[i], slice(i, i + 1)) for i in range(problem.n)])
        close(problem.hessian(x), alone)


def test_a_cohort_is_its_clients_one_by_one(problem, point):
    x = personal(problem)
    for function in (problem.grad, problem.loss):
        alone = torch.cat([function(point, slice(i, i + 1)) for i in range(problem.n)])
        own = torch.cat([function(x[i : i + 1], slice(i, i + 1)) for i in range(problem.n)])
        close(function(point), alone)
        close(function(x), own)
        for cohort in (slice(1, 3), torch.tensor([1, 2]), torch.tensor([3, 0]), torch.tensor([2])):
            ids = torch.arange(problem.n)[cohort]
            close(function(point, cohort), alone[ids])
            close(function(x[ids], cohort), own[ids])


def test_the_objective_is_the_weighted_mean_of_its_clients(problem, point):
    w = problem.weights
    assert abs(float(w.sum()) - 1) < 1e-15
    assert problem.value(point) == pytest.approx(float(w @ problem.loss(point)), rel=1e-13)
    close(problem.gradient(point), w @ problem.grad(point), 1e-13)
    seen = problem.evaluate(point)
    assert seen["loss"] == pytest.approx(problem.value(point), rel=1e-13)
    assert seen["grad_norm_sq"] == pytest.approx(float(problem.gradient(point).square().sum()), rel=1e-11)


def test_a_result_can_be_written_to(problem, point):
    for m in (1, problem.n):
        g = problem.grad(point, slice(0, m))
        g += 1
        close(problem.grad(point, slice(0, m)) + 1, g)


def test_batches_average_their_unmasked_samples_and_the_regulariser(sampled, at):
    problem, point = sampled, at(sampled)
    every = [torch.cat([one(problem, point, i, j) for j in range(s)]) for i, s in enumerate(problem.sizes)]
    batch = problem.as_batch([[0], [1, 0], [3, 1, 2], [1]])
    picked = [every[i][j].mean(0) for i, j in enumerate([[0], [1, 0], [3, 1, 2], [1]])]
    close(problem.grad(point, None, batch), torch.stack(picked))
    full = problem.as_batch([np.arange(s)[::-1] for s in problem.sizes])
    close(problem.grad(point, None, full), problem.grad(point))
    close(problem.loss(point, None, full), problem.loss(point))
    close(torch.stack([e.mean(0) for e in every]), problem.grad(point))


def one(problem, x, client, sample):
    return problem.grad(x, slice(client, client + 1), Batch(torch.tensor([[sample]]), None, None))


def test_drawn_batches_hold_distinct_samples_and_all_of_them_when_asked(sampled):
    problem = sampled
    for size in (2, 1000, torch.tensor([1, 2, 3, 4])):
        batch = problem.draw_batch(size, None, Randomness(0).draws(problem.n))
        mask = torch.ones_like(batch.index, dtype=torch.bool) if batch.mask is None else batch.mask
        wanted = np.minimum(np.broadcast_to(np.asarray(size), (problem.n,)), problem.sizes)
        for i in range(problem.n):
            got = batch.index[i][mask[i]].tolist()
            assert len(got) == len(set(got)) == wanted[i]
            assert set(got) <= set(range(problem.sizes[i]))


def test_draws_of_a_client_do_not_depend_on_who_else_is_there(sampled):
    problem = sampled
    source = Randomness(3)
    whole = problem.draw_batch(2, None, source.draws(problem.n))
    for i in range(problem.n):
        part = problem.draw_batch(2, slice(i, i + 1), source.draws([i]))
        held = min(2, problem.sizes[i])
        assert torch.equal(part.index[0, :held], whole.index[i, :held])


def test_single_precision_agrees_with_double(problem, point):
    twin = problem.with_dtype(torch.float32)
    g, exact = twin.grad(point.float()), problem.grad(point)
    assert g.dtype == torch.float32 and twin.x0.dtype == torch.float32
    close(g.double(), exact, 1e-5)
    assert twin.value(point.float()) == pytest.approx(problem.value(point), rel=1e-5)
    assert problem.grad(point).dtype == torch.float64


def test_layers_are_views(problem, point):
    flat, stacked = problem.layers(point), problem.layers(point.expand(3, -1).clone())
    assert list(flat) == list(stacked) == [layer.name for layer in problem.layout]
    for layer in problem.layout:
        assert flat[layer.name].shape == layer.shape and stacked[layer.name].shape == (3, *layer.shape)
        assert flat[layer.name].data_ptr() == point[layer.start :].data_ptr()
    assert problem.layout[-1].stop == problem.d


def test_the_repr_says_what_it_is(problem):
    text = repr(problem)
    assert f"n={problem.n}" in text and f"d={problem.d}" in text


def test_starting_points_are_checked(problem):
    assert torch.equal(problem.check_x0(None), problem.x0)
    x = problem.check_x0([1] * problem.d)
    assert x.dtype == problem.dtype and x.shape == (problem.d,)
    with pytest.raises(ValueError, match="needs"):
        problem.check_x0(np.zeros(problem.d + 1))
    with pytest.raises(ValueError, match="inf or nan"):
        problem.check_x0([np.nan] * problem.d)
    with pytest.raises(ValueError, match="real numbers"):
        problem.check_x0(torch.ones(problem.d, dtype=torch.bool))


def test_saturated_margins_are_quiet_and_right():
    """exp(800) overflows on the way to a slope of zero; on the other side the slope is one."""
    problem = ol.problems.Logistic([[[800.0]], [[-800.0]]], [[1], [1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slopes = problem.grad(torch.ones(1, dtype=torch.float64))
        assert slopes.flatten().tolist() == [0.0, 800.0]
        assert problem.gradient(torch.ones(1, dtype=torch.float64)).tolist() == [400.0]


def test_nobodys_gradients_are_no_rows_also_where_sizes_differ():
    rng = np.random.default_rng(0)
    sizes = (3, 40, 5)
    problem = ol.problems.Logistic([rng.normal(size=(m, 4)) for m in sizes], [np.ones(m) for m in sizes])
    nobody = torch.zeros(0, dtype=torch.int64)
    assert problem.grad(torch.zeros(4, dtype=torch.float64), nobody).shape == (0, 4)
