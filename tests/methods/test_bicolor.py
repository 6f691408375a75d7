"""BiCoLoR (reconstructed) against its algorithm box, its theorem, and what it saves in both directions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.compressors import Identity, Natural, RandK, TopK
from octolab.errors import AssumptionWarning, OutsideAssumptions
from octolab.experiment.launch import prepare
from tests.methods.by_hand import close, gradients, permutations, rand
from tests.methods.racing import race

BiCoLoR, LoCoDL = ol.methods.BiCoLoR, ol.methods.LoCoDL
COINS = [0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1]


def test_the_algorithm_box_with_given_coins_and_permutations():
    n, d, lr, rho, eta, p, b, s = 3, 6, 0.05, 0.2, 0.3, 0.4, 0.7, 0.25
    problem = ol.problems.quadratics(n=n, d=d, L=8, seed=3)
    grad, given = gradients(problem), permutations(COINS.count(1), n, d)
    own = permutations(COINS.count(1), 1, d, seed=7)
    use = zip(given, own, strict=True)
    x, u = [np.zeros(d)] * n, [np.zeros(d)] * n
    xs = us = y = v = np.zeros(d)
    path = [y]
    for coin in COINS:
        x = [x[i] - lr * (grad[i](x[i]) - s * (1 + b) * x[i]) + lr * u[i] for i in range(n)]
        xs, y = xs - lr * s * xs + lr * us, y - lr * s * y + lr * v
        if coin:
            pi, server = next(use)  # the server's draw is its own
            up, down = [rand(x[i] - y, 2, pi[i]) for i in range(n)], rand(xs - y, 3, server[0])
            x = [x[i] - rho * (x[i] - y - down) for i in range(n)]
            xs = xs - rho * ((1 + b) * (xs - y) - sum(up) / n)
            y = y + rho * down
            u = [u[i] - eta * (up[i] - down) for i in range(n)]
            us, v = us - eta * ((1 + b) * down - sum(up) / n), v + eta * down
        path.append(y)
    method = BiCoLoR(compressor=RandK(2), downlink=RandK(3), b=b, ridge=s, lr=lr, rho=rho, eta=eta, p=p)
    script_of = {"permutation": given, "server/permutation": own}
    script = {"rounds": len(COINS), "keep": "x", "live": False}
    run = ol.run(method, problem, randomness=ol.Scripted(coins=COINS, permutations=script_of), **script)
    close(run.iterates, path)
    close(run.federation.memory.x, x)
    close(run.federation.memory.u, u)
    close(torch.stack([run.state.y, run.state.v, run.state.xs, run.state.us]), [y, v, xs, us])  # the last coin was 1


@pytest.mark.parametrize("fleet", [None, ol.Fleet(dropout=0.3)], ids=["everybody", "drop-outs"])
@pytest.mark.parametrize("weights", [None, [1, 2, 3, 4, 5, 6]], ids=["uniform", "weighted"])
def test_the_shifts_always_balance_also_when_devices_drop_out_and_the_limit_stays_exact(fleet, weights):
    """mean u_i + us + b v = 0."""
    q = ol.problems.quadratics(n=6, d=8, L=20)
    problem = ol.problems.Quadratics(q.A.numpy(), q.b.numpy(), weights=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        run = ol.run(BiCoLoR(), problem, rounds=800, fleet=fleet, evaluate_every=800, live=False)
    u, s = run.federation.memory.u, run.state
    balance = problem.weights @ u + s.us + run.method.b * s.v
    assert float(balance.abs().max()) < 1e-12 * float(u.abs().max())
    close(run.x, problem.x_star, 1e-6)


def lyapunov(m: ol.Method, problem, x, u, s) -> float:
    """Psi of the theorem at clients' x, u (n, d) and a server state whose y and xs are of now."""
    star, far = problem.x_star, lambda z: (z**2).sum(-1)
    own = problem.grad(star) - m.ridge * (1 + m.b) * star
    primal = far(x - star).mean() + far(s.xs - star) + m.b * far(s.y - star)
    return float(primal / m.lr + (far(u - own).mean() + m.b * far(s.v - m.ridge * star)) / (m.p * m.eta))


@pytest.mark.parametrize("both", [Identity(), Natural(), RandK(3)], ids=repr)
def test_the_lyapunov_function_contracts_as_our_theorem_says(both):
    """E Psi_t <= tau^t Psi_0: a mean of 15 seeds; 1.3 for chance. Uncompressed: linear to x* at the stated rate."""
    problem = ol.problems.quadratics(n=4, d=6, L=30, mu=1, seed=5)
    T, ends = 60, []
    for seed in range(15):
        run = prepare(BiCoLoR(both, both, steps="theory"), problem, rounds=T, seed=seed, evaluate_every=T).advance(1)
        m, s = run.method, run.state
        start = lyapunov(m, problem, run.federation.memory.x, run.federation.memory.u, s)
        s = run.advance(T).state
        now = s._replace(y=m.coast(s.y, s.v, s.k), xs=m.coast(s.xs, s.us, s.k))
        ends.append(lyapunov(m, problem, run.federation.memory.x, run.federation.memory.u, now))
    assert np.mean(ends) <= 1.3 * m.rate(problem) ** T * start


def test_the_theory_values():
    problem, b = ol.problems.quadratics(n=10, d=30, L=500), 0.5
    m = BiCoLoR(RandK(3), RandK(10), steps="theory").resolve(problem)
    B, Bp = 2 + b + 3 * (2 + 0.9), 1 + 3 * (9 + 2)
    assert m.ridge == pytest.approx(1 / 2.5)  # f_i, f_s and g are then all 0.4-strongly convex
    assert m.lr == pytest.approx(2 / (500 - 1.5 * 0.4 + 0.4)) and m.rho == pytest.approx(1 / B)
    assert m.p == pytest.approx(min(1, np.sqrt(B * Bp * (1 - (1 - 0.4 * m.lr) ** 2))))
    assert m.eta == pytest.approx(m.p / (m.lr * B * Bp))
    practical = BiCoLoR().resolve(problem)
    assert practical.rho == pytest.approx(1 / 2.5) and practical.rate(problem) is None
    assert BiCoLoR(Identity(), Identity()).resolve(problem).rate(problem) == pytest.approx((1 - 0.4 * m.lr) ** 2)


def test_both_directions_cost_the_compressors_bits_on_coin_one_and_x0_once():
    problem = ol.problems.quadratics(n=4, d=40)
    method = BiCoLoR(compressor=RandK(5), downlink=Natural(), p=0.4)
    run = ol.run(method, problem, rounds=len(COINS), keep="x", live=False, randomness=ol.Scripted(coins=COINS))
    assert (run.history.bits_up == 160 * np.cumsum([0, *COINS])).all()
    assert (run.history.bits_down == 32 * 40 + 360 * np.cumsum([0, *COINS])).all()
    moves = run.iterates.diff(dim=0).abs().sum(1) > 0
    assert moves.tolist() == [t >= 4 for t in range(12)]  # y hears of the clients through xs: from the second coin 1 on


def totals(problem, limit: int) -> dict[str, tuple[float, float]]:
    methods = {
        "practical": BiCoLoR(),
        "theory": BiCoLoR(steps="theory"),
        "locodl practical": LoCoDL(steps="practical"),
        "locodl theory": LoCoDL(),
        "locodl identity": LoCoDL(compressor=Identity()),
    }
    return {name: race(m, problem, 1e-6, limit)[1:] for name, m in methods.items()}


def check_totals(bits: dict[str, tuple[float, float]], ratio: float) -> None:
    total = {name: sum(pair) for name, pair in bits.items()}
    assert total["practical"] < total["locodl practical"] < total["locodl identity"]
    assert bits["locodl practical"][1] / bits["practical"][1] > ratio  # the downlink alone
    assert total["theory"] == pytest.approx(total["locodl theory"], rel=0.35)  # a tie


def test_it_saves_downlink_and_total_bits_with_practical_steps_and_ties_with_theoretical_ones():
    check_totals(totals(ol.problems.quadratics(n=10, d=30, L=100, seed=0), 4000), ratio=1.2)


@pytest.mark.slow
def test_the_bits_of_the_specification():
    """kappa 500: 138k, 157k, 251k, ties of 190k and 192k there, on another draw of the problem: to a third."""
    bits = totals(ol.problems.quadratics(n=10, d=30, L=500, seed=0), 10000)
    check_totals(bits, ratio=1.5)
    wanted = {"practical": 138, "locodl practical": 157, "locodl identity": 251, "theory": 190, "locodl theory": 192}
    for name, kbit in wanted.items():
        assert sum(bits[name]) / 1e3 == pytest.approx(kbit, rel=1 / 3), name


def test_what_it_refuses_and_what_it_warns_of():
    problem = ol.problems.quadratics()
    for biased in (BiCoLoR(compressor=TopK(1)), BiCoLoR(downlink=TopK(1))):
        with pytest.raises(OutsideAssumptions, match="biased"):
            biased.resolve(problem)
    network = ol.problems.classification("digits", model="mlp", clients=5, hidden=(16,), split=ol.data.Dirichlet(0.3))
    with pytest.warns(AssumptionWarning, match="strong convexity"), pytest.raises(ValueError, match="Give lr="):
        BiCoLoR().resolve(network)
    with pytest.warns(AssumptionWarning):
        run = ol.run(BiCoLoR(lr=0.2, batch_size=32), network, rounds=400, live=False, evaluate_every=400)
    assert run.metrics()["accuracy"] > 0.6
    assert "reconstructed" in BiCoLoR().card.summary and "exact published update" in BiCoLoR().card.unconfirmed
