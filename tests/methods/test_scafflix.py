"""Scafflix against its algorithm box; sqrt(kappa) communications, and steps of each client's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from tests.methods.by_hand import close, gradients, iterates
from tests.methods.local_by_hand import weighted
from tests.methods.personal_by_hand import bowls, mixture, models, optima, quietly

Scafflix, FLIX = ol.methods.Scafflix, ol.methods.FLIX
COINS = [0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1]
ALPHA, LR = (0.3, 1.0, 0.7, 0.5), (0.05, 0.1, 0.02, 0.08)


@pytest.mark.parametrize("w", [(0.25, 0.25, 0.25, 0.25), (0.4, 0.3, 0.2, 0.1)])
def test_the_algorithm_box_with_a_share_and_a_step_for_each_client(w):
    p, prob = weighted(bowls(), w), 0.3
    grad, own = gradients(p), optima(p)
    x, h, server = [np.zeros(5)] * 4, [np.zeros(5)] * 4, np.zeros(5)
    c = np.array(w) * np.array(ALPHA) ** 2 / np.array(LR)
    path = [server]
    for coin in COINS:
        g = [grad[i](ALPHA[i] * x[i] + (1 - ALPHA[i]) * own[i]) for i in range(4)]
        z = [x[i] - LR[i] / ALPHA[i] * (g[i] - h[i]) for i in range(4)]
        if coin:
            server = sum(c[i] * z[i] for i in range(4)) / c.sum()
            h = [h[i] + prob * ALPHA[i] / LR[i] * (server - z[i]) for i in range(4)]
            x = [server] * 4
        else:
            x = z
        path.append(server)
    method, script = Scafflix(alpha=ALPHA, lr=LR, p=prob), lambda: ol.Scripted(coins=COINS)
    close(iterates(method, p, len(COINS), randomness=script()), path)
    run = quietly(method, p, len(COINS), randomness=script())
    close(run.federation.memory.h, h)
    close(models(run), [a * x[i] + (1 - a) * own[i] for i, a in enumerate(ALPHA)])


def test_without_personal_models_and_with_one_step_for_all_it_is_scaffnew():
    """To rounding: Scaffnew's updates are fused."""
    p = bowls()
    ours, theirs = (
        ol.run(m, p, rounds=60, seed=5, keep="x", live=False)
        for m in (Scafflix(alpha=1.0, lr=0.1, p=0.3), ol.methods.Scaffnew(lr=0.1, p=0.3))
    )
    close(ours.iterates, theirs.iterates, 1e-14)
    for name in ("x", "h"):
        close(ours.federation.memory[name], theirs.federation.memory[name], 1e-14)
    for column in ("bits_up", "bits_down", "gradients"):
        assert (ours.history[column] == theirs.history[column]).all()


@pytest.mark.parametrize("alpha", [0.4, ALPHA])
def test_communicating_always_it_is_flix(alpha):
    """With lr_i = 1/L_i its step is exactly FLIX's, 1/mean(alpha^2 L)."""
    for p in (bowls(), weighted(bowls(), [0.4, 0.3, 0.2, 0.1])):
        close(iterates(Scafflix(alpha=alpha, p=1.0), p, 40), iterates(FLIX(alpha=alpha), p, 40), 1e-12)


@pytest.mark.filterwarnings("ignore::octolab.errors.AssumptionWarning")
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_the_sum_of_alpha_h_stays_zero_and_the_plain_sum_does_not(dropout: float):
    p = bowls()
    run = quietly(Scafflix(alpha=ALPHA, p=0.3), p, 300, fleet=ol.Fleet(dropout=dropout))
    h = run.federation.memory.h
    assert float((torch.tensor(ALPHA, dtype=h.dtype) @ h).abs().max()) < 1e-12 * float(h.abs().max())
    assert float(h.sum(0).abs().max()) > 1e-3 * float(h.abs().max())


def test_it_ends_at_the_optimum_of_the_mixture_with_any_shares_steps_and_weights():
    p = weighted(bowls(), [0.4, 0.3, 0.2, 0.1])
    a, A, own = np.array(ALPHA), p.A.numpy(), optima(p)
    H = np.einsum("i,ijk->jk", [0.4, 0.3, 0.2, 0.1] * a**2, A)  # sum w_i alpha_i A_i (alpha_i x - alpha_i own_i) = 0
    star = np.linalg.solve(H, np.einsum("i,ijk,ik->j", [0.4, 0.3, 0.2, 0.1] * a**2, A, own))
    run = quietly(Scafflix(alpha=ALPHA, lr=LR, p=0.3), p, 4000)
    close(run.x, star, 1e-8)
    close(models(run), a[:, None] * star + (1 - a[:, None]) * own, 1e-8)


@pytest.mark.filterwarnings("ignore::octolab.errors.AssumptionWarning")
def test_it_stays_exact_when_devices_drop_out_and_a_round_without_replies_changes_nothing():
    p = bowls()
    calm = quietly(Scafflix(alpha=0.5), p, 1500)
    rough = quietly(Scafflix(alpha=0.5), p, 2500, fleet=ol.Fleet(dropout=0.2))
    close(rough.x, calm.x, 1e-8)
    nobody = quietly(Scafflix(alpha=ALPHA, p=1.0), p, 3, x0=np.ones(5), fleet=ol.Fleet(dropout=1.0))
    assert (nobody.x == 1).all()


def test_the_lyapunov_function_contracts_as_the_theorem_says():
    """E Psi_t <= (1 - zeta)^t Psi_0: a mean of 40 seeds (20 % for chance)."""
    p, T, seeds, a = bowls(n=3, d=4, L=30, L_spread=10), 60, 40, 0.6
    method = Scafflix(alpha=a).resolve(p)
    zeta = min(np.min(np.array(method.lr) * p.mu_i), method.p**2)
    assert method.rate(p) == pytest.approx(1 - zeta) and method.p == pytest.approx(1 / np.sqrt(max(p.L_i / p.mu_i)))
    H, own, lr = p.A.sum(0).numpy(), torch.from_numpy(optima(p)), torch.tensor(method.lr)
    star = a * torch.from_numpy(np.linalg.solve(H, np.einsum("ijk,ik->j", p.A.numpy(), optima(p)))) + (1 - a) * own
    shift = p.grad(star)

    def psi(x, h) -> float:
        first = (lr.min() / lr * ((a * x + (1 - a) * own - star) ** 2).sum(1)).mean()
        return float(first + lr.min() / method.p**2 * (lr * ((h - shift) ** 2).sum(1)).mean())

    memories = [quietly(method, p, T, seed=seed).federation.memory for seed in range(seeds)]
    start = psi(p.x0.expand(3, -1), torch.zeros(3, 4, dtype=torch.float64))
    assert np.mean([psi(m.x, m.h) for m in memories]) <= 1.2 * (1 - zeta) ** T * start


def logistic() -> ol.problems.Logistic:
    """n = 8, N = 100, d = 20, lambda = 0.0025, largest condition number 171."""
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(100, 20)) * np.geomspace(1, 0.3, 20) for _ in range(8)]
    truths = rng.normal(size=20) + 0.5 * rng.normal(size=(8, 20))
    y = [np.where(rng.random(100) < 1 / (1 + np.exp(-3 * x @ t)), 1, -1) for x, t in zip(X, truths, strict=True)]
    top = max(np.linalg.eigvalsh(x.T @ x / 100)[-1] for x in X) / 4
    return ol.problems.Logistic([x * np.sqrt(170 * 0.0025 / top) for x in X], y, l2=0.0025)


def vectors(run, near) -> int:
    """How many vectors a client has sent until `near` is true of an iterate."""
    there = next(t for t, x in enumerate(run.iterates) if near(x))
    return int(run.history.bits_up[there] // (32 * run.problem.d))


@pytest.mark.slow
def test_smaller_shares_take_fewer_communications_and_sqrt_kappa_fewer_than_flix():
    """The specification: 19/15/9/4 for alpha 1/.5/.1/.01, FLIX 174/164/121/41, to a gap of 1e-6. Here the means of 3 seeds."""
    p, ours, theirs = logistic(), [], []
    own = quietly(ol.methods.LocalOnly(solver="exact"), p, 1).federation.memory.x
    for alpha in (1.0, 0.5, 0.1, 0.01):
        loss = mixture(p, alpha, own)
        goal = loss(quietly(FLIX(alpha=alpha), p, 2500).x) + 1e-6
        runs = [quietly(Scafflix(alpha=alpha), p, 700, keep="x", seed=seed) for seed in range(3)]
        ours.append(np.mean([vectors(run, lambda x: loss(x) <= goal) for run in runs]))  # noqa: B023
        theirs.append(vectors(quietly(FLIX(alpha=alpha), p, 250, keep="x"), lambda x: loss(x) <= goal))  # noqa: B023
    assert max(p.L_i / p.mu_i) == pytest.approx(171)
    assert ours == sorted(ours, reverse=True) and theirs == sorted(theirs, reverse=True)
    assert ours[3] < ours[0] / 3 and theirs[3] < theirs[0] / 3
    for few, many in zip(ours, theirs, strict=True):
        assert np.sqrt(171) / 2.6 <= many / few <= 2.6 * np.sqrt(171)


@pytest.mark.slow
def test_steps_of_ones_own_pay_where_scales_differ():
    """The specification: every kappa_i = 100, L_i spread 100 times: i-Scaffnew 45 communications, 461 steps; Scaffnew with
    1/L_max 169 and 17649. The condition number 100 stands for 10,000: sqrt(100) communications saved, 100 times the steps.
    """
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    A = np.geomspace(1, 100, 6)[:, None, None] * (Q @ np.diag(np.geomspace(1, 100, 8)) @ Q.T)
    p = ol.problems.Quadratics((A + A.transpose(0, 2, 1)) / 2, np.einsum("ijk,ik->ij", A, rng.normal(size=(6, 8))))
    assert p.L_i / p.mu_i == pytest.approx(np.full(6, 100.0))
    near = lambda x: float(((x - p.x_star) ** 2).sum()) <= 1e-6 * float((p.x_star**2).sum())  # noqa: E731
    ours, theirs = (
        quietly(m, p, rounds, keep="x") for m, rounds in ((Scafflix(alpha=1.0), 1500), (ol.methods.Scaffnew(), 30_000))
    )
    steps = [next(t for t, x in enumerate(run.iterates) if near(x)) for run in (ours, theirs)]
    sent = [vectors(run, near) for run in (ours, theirs)]
    assert 2.5 <= sent[1] / sent[0] <= 8 and 20 <= steps[1] / steps[0] <= 80


def test_what_it_sends():
    p = bowls()
    run = ol.run(Scafflix(alpha=ALPHA, lr=LR, p=0.3), p, rounds=12, live=False, randomness=ol.Scripted(coins=COINS))
    assert (run.history.bits_up == 32 + 160 * np.cumsum([0, *COINS])).all()  # c_i once
    assert (run.history.bits_down == 160 * np.cumsum([1, *COINS])).all()  # x0 once
    assert (run.history.gradients.diff().iloc[1:] == 1).all() and run.history.own_gradients[0] > 0


def test_values_of_theory_and_what_they_look_like():
    p = bowls(L_spread=20)
    method = Scafflix().resolve(p)
    close(method.lr, 1 / p.L_i, 1e-15)
    assert f"{method.lr:.3g}" == f"{min(method.lr):.3g} to {max(method.lr):.3g}"
    close(Scafflix(lr=ol.Theory(2.0)).resolve(p).lr, 2 / p.L_i, 1e-15)
    assert Scafflix(lr=ol.Theory(2.0)).resolve(p).rate(p) is None and Scafflix(lr=0.1, batch_size=1).rate(p) is None
    tuned = ol.compare([Scafflix(alpha=0.5)], p, rounds=5, tune=[0.5, 1.0])
    assert "to" in tuned.steps["Scafflix"]


def test_numbers_of_each_clients_own_survive_json_and_run_files(tmp_path):
    p = bowls()
    run = ol.run(Scafflix(alpha=list(ALPHA), lr=np.array(LR)), p, rounds=8, live=False)
    assert torch.equal(ol.from_spec(run.spec).finish().x, run.x)
    ol.run(Scafflix(alpha=ALPHA, lr=LR), p, rounds=5, live=False).save(tmp_path / "run.octo")
    assert torch.equal(ol.resume(tmp_path / "run.octo", rounds=8).x, run.x)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"alpha": 0}, r"alpha=0: give a number in \(0, 1\].*use local-only"),
        ({"alpha": (0.5, 1.2, 1, 1)}, "alpha=1.2 for client 1"),
        ({"lr": (0.5, 0.2)}, "lr has 2 entries and there are 4 clients"),
        ({"lr": (0.5, 0.2, -1, 0.1)}, "lr=-1.0 for client 2"),
        ({"p": 0}, r"p=0: give a number in \(0, 1\]"),
    ],
)
def test_bad_input_gets_a_sentence(given: dict, words: str):
    with pytest.raises(ValueError, match=words):
        Scafflix(**given).resolve(bowls())


def test_without_strong_convexity_it_warns_and_takes_the_practical_p():
    p = ol.problems.classification("breast-cancer", clients=4, l2=0.0)
    with pytest.warns(ol.errors.AssumptionWarning, match="strong convexity"):
        method = Scafflix().resolve(p)
    assert method.p == 0.1 and method.solver == "sgd" and method.rate(p) is None
