"""LoCoDL against its algorithm box, Scaffnew, its theorem, and its bits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.compressors import QSGD, Identity, Natural, PermK, RandK, TopK
from octolab.errors import AssumptionWarning, OutsideAssumptions
from octolab.experiment.launch import prepare
from tests.methods.by_hand import close, gradients, iterates, permutations, rand
from tests.methods.racing import race

LoCoDL = ol.methods.LoCoDL
COINS = [0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1, 0]


def test_the_algorithm_box_with_given_coins_and_permutations():
    n, d, lr, rho, chi, p, c = 3, 6, 0.05, 0.6, 0.5, 0.3, 0.4
    problem = ol.problems.quadratics(n=n, d=d, L=8, seed=3)
    grad, given, omega = gradients(problem), permutations(COINS.count(1), n, d), d / 2 - 1
    pull, use = p * chi / (lr * (1 + 2 * omega)), iter(given)
    x, u, y, v = [np.zeros(d)] * n, [np.zeros(d)] * n, np.zeros(d), np.zeros(d)
    path = [y]
    for coin in COINS:
        x = [x[i] - lr * (grad[i](x[i]) - c * x[i]) + lr * u[i] for i in range(n)]
        y = y - lr * c * y + lr * v
        if coin:
            pi = next(use)
            sent = [rand(x[i] - y, 2, pi[i]) for i in range(n)]
            dbar = sum(sent) / (2 * n)  # not 1/n: y counts as much as all clients
            x = [(1 - rho) * x[i] + rho * (y + dbar) for i in range(n)]
            y = y + rho * dbar
            u = [u[i] + pull * (dbar - sent[i]) for i in range(n)]
            v = v + pull * dbar
        path.append(y)
    method = LoCoDL(compressor=RandK(2), ridge=c, lr=lr, rho=rho, chi=chi, p=p)
    script = {"rounds": len(COINS), "keep": "x", "live": False}
    run = ol.run(method, problem, randomness=ol.Scripted(coins=COINS, permutations=given), **script)
    close(run.iterates, path)
    close(run.federation.memory.x, x)
    close(run.federation.memory.u, u)
    close(run.state.v, v)


def test_uncompressed_and_always_communicating_it_is_gradient_descent_with_half_the_step():
    problem = ol.problems.quadratics(n=4, d=5)
    ours = iterates(LoCoDL(compressor=Identity(), lr=0.1, p=1), problem, 40)
    close(ours, iterates(ol.methods.GD(lr=0.05), problem, 40), 1e-12)


def test_uncompressed_it_is_scaffnew_on_twice_as_many_clients_half_of_them_holding_g():
    n, d, c = 4, 5, 0.3
    problem = ol.problems.quadratics(n=n, d=d, L=20, seed=2)
    A, b, ridge = problem.A.numpy(), problem.b.numpy(), np.stack([c * np.eye(d)] * n)
    virtual = ol.problems.Quadratics(np.concatenate([A - ridge, ridge]), np.concatenate([b, 0 * b]))
    given = {"rounds": len(COINS), "live": False}
    ours = ol.run(
        LoCoDL(compressor=Identity(), ridge=c, lr=0.06, p=0.4), problem, randomness=ol.Scripted(coins=COINS), **given
    )
    his = ol.run(ol.methods.Scaffnew(lr=0.06, p=0.4), virtual, randomness=ol.Scripted(coins=COINS), **given)
    mine, theirs = ours.federation.memory, his.federation.memory
    close(mine.x, theirs.x[:n], 1e-12)
    close(mine.u, theirs.h[:n], 1e-12)
    close(ours.x, theirs.x[n], 1e-12)
    close(ours.state.v, theirs.h[n], 1e-12)


@pytest.mark.parametrize("fleet", [None, ol.Fleet(dropout=0.3)], ids=["everybody", "drop-outs"])
@pytest.mark.parametrize("weights", [None, [1, 2, 3, 4, 5, 6]], ids=["uniform", "weighted"])
def test_the_shifts_always_balance_also_when_devices_drop_out_and_the_limit_stays_exact(fleet, weights):
    q = ol.problems.quadratics(n=6, d=8, L=20)
    problem = ol.problems.Quadratics(q.A.numpy(), q.b.numpy(), weights=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        run = ol.run(LoCoDL(), problem, rounds=600, fleet=fleet, evaluate_every=600, live=False)
    u = run.federation.memory.u
    balance = problem.weights @ u + run.state.v
    assert float(balance.abs().max()) < 1e-12 * float(u.abs().max())
    close(run.x, problem.x_star, 1e-6)


def test_everybody_holds_the_same_y_and_v_bit_for_bit():
    problem = ol.problems.quadratics(n=6, d=8, L=20)
    run = prepare(LoCoDL(compressor=RandK(2)), problem, rounds=200).advance(201)
    for name in ("y", "v"):
        assert all(torch.equal(row, getattr(run.state, name)) for row in run.federation.memory[name + "_here"])
    assert run.federation.memory.k.tolist() == [run.state.k] * 6


def test_bits_change_on_coin_one_only_and_the_model_moves_in_every_step():
    problem = ol.problems.quadratics(n=4, d=40)
    method, coins = LoCoDL(compressor=RandK(5), p=0.4), [1, *COINS]
    run = ol.run(method, problem, rounds=len(coins), keep="x", live=False, randomness=ol.Scripted(coins=coins))
    assert (run.history.bits_up == 160 * np.cumsum([0, *coins])).all()
    assert (run.history.bits_down == 1280 * np.cumsum([1, *coins])).all()  # and x0 once
    assert bool((run.iterates.diff(dim=0).abs().sum(1) > 0).all())


def test_the_theory_values():
    problem = ol.problems.quadratics(n=10, d=30, L=500)
    m = LoCoDL(compressor=RandK(3)).resolve(problem)
    omega, av = 9.0, 0.9
    assert (m.ridge, m.lr) == (pytest.approx(0.5), pytest.approx(2 / 500))  # L + mu = 499.5 + 0.5
    assert m.rho == pytest.approx(m.chi) == pytest.approx(1 / (1 + av))
    assert m.p == pytest.approx(np.sqrt((1 + 2 * omega) * (1 + av) * (1 - (1 - 0.5 * m.lr) ** 2)))
    assert m.rate(problem) == pytest.approx(0.996, abs=1e-5)
    assert LoCoDL(compressor=PermK(10)).resolve(problem).rho == pytest.approx(1 / 2)  # joint variance 1
    practical = LoCoDL(steps="practical").resolve(problem)
    assert practical.rho == practical.chi == 1 and practical.p == LoCoDL(compressor=Identity()).resolve(problem).p
    assert practical.rate(problem) is None and LoCoDL(lr=1.0).resolve(problem).rate(problem) is None


def lyapunov(m: ol.Method, problem, x, y, u, v) -> float:
    """Psi of the theorem, x and u (n, d), y and v (d,)."""
    star, n = problem.x_star, problem.n
    scale = m.lr * (1 + 2 * m.compressor.omega(problem.d)) / (m.p**2 * m.chi)
    primal = ((x - star) ** 2).sum() + n * ((y - star) ** 2).sum()
    own = ((u - problem.grad(star) + m.ridge * star) ** 2).sum()
    return float(primal / m.lr + scale * (own + n * ((v - m.ridge * star) ** 2).sum()))


@pytest.mark.parametrize("compressor", [Natural(), RandK(2), QSGD(2)], ids=repr)
def test_the_lyapunov_function_contracts_as_the_theorem_says(compressor):
    """E Psi_t <= tau^t Psi_0: a mean of 15 seeds; 1.3 for chance."""
    problem = ol.problems.quadratics(n=4, d=6, L=30, mu=1, seed=5)
    T, ends = 60, []
    for seed in range(15):
        run = ol.run(LoCoDL(compressor=compressor), problem, rounds=T, seed=seed, live=False, evaluate_every=T)
        memory = run.federation.memory
        ends.append(lyapunov(run.method, problem, memory.x, run.x, memory.u, run.state.v))
    zero = torch.zeros(4, 6, dtype=torch.float64)
    start = lyapunov(run.method, problem, zero, zero[0], zero, zero[0])
    assert np.mean(ends) <= 1.3 * run.method.rate(problem) ** T * start


def bits_up(problem, limit):
    to = lambda method: race(method, problem, 1e-6, limit).up  # noqa: E731
    return {
        "plain": to(LoCoDL(compressor=Identity(), p=1.0)),
        "local": to(LoCoDL(compressor=Identity())),
        "compressed": to(LoCoDL(compressor=RandK(3), p=1.0)),
        "both": to(LoCoDL(compressor=RandK(3))),
        "natural": to(LoCoDL()),
    }


def test_local_steps_and_compression_each_save_uplink_and_together_most():
    """Uplink bits to 1e-6. Local steps save about 1/p* (from theory), Rand-3 of 30 about 10, natural coding 32/9 more."""
    problem = ol.problems.quadratics(n=10, d=30, L=100, seed=0)
    b = bits_up(problem, 4000)
    assert b["natural"] < b["both"] < b["local"] < b["plain"] and b["both"] < b["compressed"] < b["plain"]
    assert 0.6 / LoCoDL(compressor=Identity()).resolve(problem).p < b["plain"] / b["local"] < 1.5 / 0.14
    assert 8 < b["plain"] / b["compressed"] < 12
    assert b["local"] / b["natural"] > 0.7 * 32 / 9


@pytest.mark.slow
def test_the_bits_of_the_specification():
    """kappa 500: 2.01 Mbit, 125, 225, 99 and 37.5 kbit there, on another draw of the problem: to a third."""
    b = bits_up(ol.problems.quadratics(n=10, d=30, L=500, seed=0), 10000)
    for name, kbit in {"plain": 2010, "local": 125, "compressed": 225, "both": 99, "natural": 37.5}.items():
        assert b[name] / 1e3 == pytest.approx(kbit, rel=1 / 3), name


def test_what_it_refuses_and_what_it_warns_of():
    with pytest.raises(OutsideAssumptions, match="biased"):
        LoCoDL(compressor=TopK(1)).resolve(ol.problems.quadratics())
    flat = ol.problems.Logistic([[[1.0, 2.0]], [[0.5, -1.0]]], [[1], [-1]])
    with pytest.warns(AssumptionWarning, match="strong convexity"):
        m = LoCoDL().resolve(flat)
    assert (m.ridge, m.p, m.lr) == (0, 0.1, pytest.approx(1 / flat.L_max)) and m.rate(flat) is None
    uneven = ol.problems.Quadratics([np.diag([1.0, 0.0]), np.diag([1.0, 4.0])], np.ones((2, 2)))
    with pytest.warns(AssumptionWarning, match="of every f_i"):
        assert LoCoDL().resolve(uneven).ridge == 0


def test_on_a_network_it_is_a_heuristic_that_needs_a_number_for_lr():
    problem = ol.problems.classification("digits", model="mlp", clients=5, hidden=(16,), split=ol.data.Dirichlet(0.3))
    with pytest.warns(AssumptionWarning, match="strong convexity"), pytest.raises(ValueError, match="Give lr="):
        LoCoDL().resolve(problem)
    with pytest.warns(AssumptionWarning):
        run = ol.run(LoCoDL(lr=0.2, batch_size=32), problem, rounds=300, live=False, evaluate_every=300)
    assert run.metrics()["accuracy"] > 0.7
