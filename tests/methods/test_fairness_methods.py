"""q-FFL, AFL and bounded group loss: identities, trajectories against plain NumPy, and what each is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.problems.groups import group_losses


def samples(seed: int = 0, n: int = 5, d: int = 4):
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(m, d)) for m in (7, 9, 5, 12, 6)[:n]]
    return X, [np.sign(x @ rng.normal(size=d) + 0.3 * rng.normal(size=len(x))) for x in X]


def logistic(weights=None) -> ol.problems.Problem:
    return ol.problems.Logistic(*samples(), l2=0.05, weights=weights)


def iterates(method, p, rounds: int = 20, **settings) -> torch.Tensor:
    return ol.run(method, p, rounds=rounds, live=False, keep="x", **settings).iterates


def equal(a, b, atol: float = 1e-10) -> bool:
    return torch.allclose(a, b, rtol=0, atol=atol)


# -- q-FFL --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("weights", [None, "examples"])
def test_q_zero_is_gradient_descent(weights):
    p = logistic(weights)
    assert equal(iterates(ol.methods.QFFL(q=0.0, lr=0.5), p), iterates(ol.methods.GD(lr=0.5), p))


def test_q_ffl_against_plain_numpy():
    p, lr, q = logistic("examples"), 0.4, 2.0
    x, expected = np.zeros(4), [np.zeros(4)]
    w = p.weights.numpy()
    for _ in range(6):
        y = np.tile(x, (5, 1))
        for _ in range(3):
            y = y - lr * p.grad(torch.from_numpy(y)).numpy()
        f, v = p.loss(torch.from_numpy(x)).numpy(), (x - y) / lr
        h = q * f ** (q - 1) * (v**2).sum(1) + f**q / lr
        x = x - ((w * f**q) @ v) / (w @ h)
        expected.append(x)
    assert equal(iterates(ol.methods.QFFL(q=q, lr=lr, local_steps=3), p, 6), torch.from_numpy(np.array(expected)))


def test_a_larger_q_is_fairer_and_worse_on_average():
    p, spread = logistic(), {}
    for q in (0.0, 1.0, 5.0):
        run = ol.run(ol.methods.QFFL(q=q), p, rounds=800, live=False)
        spread[q] = ol.trust.evenness(run.client_metrics()["loss"])
    assert spread[0]["mean"] < spread[1]["mean"] < spread[5]["mean"]
    assert spread[0]["worst"] > spread[1]["worst"] > spread[5]["worst"]
    assert spread[0]["variance"] > spread[1]["variance"] > spread[5]["variance"]


def test_q_ffl_refuses_losses_that_may_be_negative():
    with pytest.raises(ol.errors.OutsideAssumptions, match="may be negative: use a classification"):
        ol.run(ol.methods.QFFL(), ol.problems.quadratics(n=3, d=4), rounds=1, live=False)


# -- AFL ----------------------------------------------------------------------------------------------------------------
def project(v: np.ndarray) -> np.ndarray:
    """By bisection on the threshold."""
    low, high = v.min() - 1, v.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(v - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(v - low, 0)


def test_afl_against_plain_numpy():
    p, lr, step = logistic("examples"), 0.3, 0.2
    x, lam, seen = np.zeros(4), p.weights.numpy().copy(), []
    for _ in range(15):
        f, g = p.loss(torch.from_numpy(x)).numpy(), p.grad(torch.from_numpy(x)).numpy()
        x, lam = x - lr * lam @ g, project(lam + step * f)
        seen.append(x)
    got = iterates(ol.methods.AFL(lr=lr, lr_lambda=step), p, 15)
    averages = np.cumsum(seen, axis=0) / np.arange(1, 16)[:, None]
    assert equal(got[1:], torch.from_numpy(averages))


def test_afl_has_the_best_worst_client():
    p = logistic()
    worst = {
        name: float(ol.run(method, p, rounds=1500, live=False).client_metrics()["loss"].max())
        for name, method in {"afl": ol.methods.AFL(lr_lambda=0.05), "gd": ol.methods.GD()}.items()
    }
    assert worst["afl"] < worst["gd"]


# -- bounded group loss -------------------------------------------------------------------------------------------------
def grouped() -> ol.problems.Problem:
    """Twelve clients, three groups of 85, 7.5 and 7.5 %, each with a model of its own."""
    rng = np.random.default_rng(1)
    group = rng.choice(3, size=(12, 40), p=[0.85, 0.075, 0.075])
    truth = rng.normal(size=(3, 8))
    X = rng.normal(size=(12, 40, 8))
    y = np.sign(np.einsum("imd,imd->im", X, truth[group]) + 0.3 * rng.normal(size=(12, 40)))
    p = ol.problems.Logistic(list(X), list(y), l2=0.01)
    p.groups, p.group_names = list(group), ("most", "few", "others")
    return p


def test_a_bound_of_zero_is_gradient_descent_on_the_pooled_loss():
    p = grouped()
    got = ol.run(ol.methods.BoundedGroupLoss(B=0.0, lr=0.3), p, rounds=15, live=False).state.x
    assert equal(got, ol.run(ol.methods.GD(lr=0.3), p, rounds=15, live=False).x)


def test_group_losses_are_pooled_over_the_network_and_not_means_of_means():
    p, x = grouped(), torch.linspace(-0.5, 0.5, 8, dtype=torch.float64)
    X = np.stack([p.data.client(i) for i in range(12)])  # rows are y a
    each, group = np.logaddexp(0, -X @ x.numpy()), np.stack(p.groups)
    losses, counts = group_losses(p, x)
    assert np.allclose(losses, [each[group == a].mean() for a in range(3)], rtol=0, atol=1e-12)
    assert counts.tolist() == [(group == a).sum() for a in range(3)]


def test_bounded_group_loss_against_plain_numpy():
    p, lr, step, B, cap = grouped(), 0.3, 0.5, 5.0, 0.5
    X, group = np.stack([p.data.client(i) for i in range(12)]), np.stack(p.groups)
    sizes = np.array([(group == a).sum() for a in range(3)])
    x, theta = np.zeros(8), np.zeros(3)
    for _ in range(8):
        lam = B * np.exp(theta) / (1 + np.exp(theta).sum())
        weight = 12 * (1 / group.size + lam / sizes)[group]
        r = np.array([np.logaddexp(0, -X @ x)[group == a].mean() for a in range(3)])
        y = np.tile(x, (12, 1))
        for _ in range(2):
            slope = -1 / (1 + np.exp(np.einsum("imd,id->im", X, y)))
            y = y - lr * (np.einsum("im,imd->id", weight * slope, X) + 0.01 * y)
        x, theta = x + (y - x).mean(0), theta + step * (r - cap)
    method = ol.methods.BoundedGroupLoss(cap=cap, B=B, lr=lr, lr_theta=step, local_steps=2)
    assert equal(ol.run(method, p, rounds=8, live=False).state.x, torch.from_numpy(x))


def test_caps_are_held_where_the_plain_model_breaks_them():
    p = grouped()
    plain = ol.trust.groups(ol.run(ol.methods.GD(), p, rounds=500, live=False))["loss"]
    cap = float(plain.max()) * 0.8
    run = ol.run(ol.methods.BoundedGroupLoss(cap=cap, lr=0.3), p, rounds=1500, live=False, evaluate_every=100)
    held = ol.trust.groups(run)["loss"]
    assert plain.max() > cap and held.max() < cap * 1.01
    assert run.history["saturation"].iloc[-1] < 0.95


def test_a_cap_that_no_model_reaches_saturates_the_multipliers():
    run = ol.run(
        ol.methods.BoundedGroupLoss(cap=0.05, lr_theta=1.0), grouped(), rounds=400, live=False, evaluate_every=100
    )
    assert run.history["saturation"].iloc[-1] > 0.95


def test_small_groups_are_hidden():
    p = grouped()
    p.groups = [np.where(np.arange(40) < 3, 1, 0) if i == 0 else np.zeros(40, int) for i in range(12)]
    p.group_names = ("many", "three")
    table = ol.trust.groups(ol.run(ol.methods.GD(), p, rounds=2, live=False))
    assert np.isfinite(table["loss"][0]) and np.isnan(table["loss"][1])


def test_one_cap_per_group_or_one_for_all():
    with pytest.raises(ValueError, match="give one number, or 3 of them, one per group"):
        ol.run(ol.methods.BoundedGroupLoss(cap=(0.5, 0.5)), grouped(), rounds=1, live=False)


def test_measures_of_evenness():
    even = ol.trust.evenness(np.arange(1.0, 21.0))
    assert even["worst"] == 20 and even["worst_tenth"] == 19.5 and even["gap"] == 19
    assert ol.trust.evenness(np.arange(1.0, 21.0), greater_is_better=True)["worst_tenth"] == 1.5
    assert ol.trust.jain([3, 3]) == 1 and ol.trust.jain([1, 0, 0, 0]) == 0.25
    with pytest.raises(ValueError, match="give at least one number, and no NaN"):
        ol.trust.evenness([1.0, np.nan])
