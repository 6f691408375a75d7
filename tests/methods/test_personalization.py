"""FLIX, Scafflix, Ditto, pFedMe and APFL against their algorithm boxes, their identities and their headlines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.errors import OutsideAssumptions
from tests.methods.by_hand import close, gradients, iterates

COINS = [0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1]
ALPHA, LR = (0.3, 1.0, 0.7, 0.5), (0.05, 0.1, 0.02, 0.08)


def bowls(**changes) -> ol.problems.Quadratics:
    return ol.problems.quadratics(**{"n": 4, "d": 5, "L": 8, "seed": 3, **changes})


def optima(p) -> np.ndarray:
    return np.linalg.solve(p.A.numpy(), p.b.numpy()[:, :, None])[:, :, 0]


# -- FLIX ------------------------------------------------------------------------------------------------------------
def test_flix_by_hand():
    p, lr = bowls(), 0.1
    grad, own, x = gradients(p), optima(bowls()), np.zeros(5)
    path = [x]
    for _ in range(10):
        x = x - lr * sum(a * grad[i](a * x + (1 - a) * own[i]) for i, a in enumerate(ALPHA)) / 4
        path.append(x)
    close(iterates(ol.methods.FLIX(alpha=ALPHA, lr=lr), p, 10), path)


def test_flix_that_shares_everything_is_gradient_descent():
    p = bowls()
    close(iterates(ol.methods.FLIX(alpha=1.0, lr=0.1), p, 30), iterates(ol.methods.GD(lr=0.1), p, 30), 1e-12)


def test_the_step_of_flix_and_its_rate():
    p = bowls(L=40)
    method = ol.methods.FLIX(alpha=ALPHA).resolve(p)
    assert method.lr == pytest.approx(1 / np.mean(np.array(ALPHA) ** 2 * p.L_i))
    run, own, a = ol.run(method, p, rounds=400, live=False), optima(p), np.array(ALPHA)[:, None]
    mixed = lambda x: float(p.loss(torch.from_numpy(a * np.asarray(x) + (1 - a) * own)).mean())  # noqa: E731
    best, q = mixed(ol.run(method, p, rounds=8000, evaluate_every=8000, live=False).x), method.rate(p)
    assert mixed(run.x) - best <= q**400 * (mixed(p.x0) - best) * 1.01 + 1e-12


def test_smaller_shares_start_nearer_to_their_optimum():
    """The initial gap falls like alpha^2 when the own optima are far apart."""
    p, gaps = bowls(spread=1.0), []
    for alpha in (1.0, 0.1, 0.01):
        method = ol.methods.FLIX(alpha=alpha).resolve(p)
        long = ol.run(method, p, rounds=3000, evaluate_every=3000, live=False)
        start = ol.start(method, p, rounds=0).result()
        loss = lambda r: float(p.loss(r.method.personal(r.federation, r.state)).mean())  # noqa: E731
        gaps.append(loss(start) - loss(long))
    assert gaps[1] == pytest.approx(gaps[0] / 100, rel=0.5) and gaps[2] == pytest.approx(gaps[1] / 100, rel=0.5)


# -- Scafflix --------------------------------------------------------------------------------------------------------
def test_scafflix_by_hand_with_individual_shares_and_steps():
    p, prob = bowls(), 0.3
    grad, own = gradients(p), optima(bowls())
    x, h, server = [np.zeros(5)] * 4, [np.zeros(5)] * 4, np.zeros(5)
    c = np.array(ALPHA) ** 2 / np.array(LR)
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
    method = ol.methods.Scafflix(alpha=ALPHA, lr=LR, p=prob)
    close(iterates(method, p, len(COINS), randomness=ol.Scripted(coins=COINS)), path)


def test_without_personalisation_and_with_one_step_for_all_it_is_scaffnew():
    p = bowls()
    ours = iterates(ol.methods.Scafflix(alpha=1.0, lr=0.1, p=0.3), p, 60, seed=5)
    close(ours, iterates(ol.methods.Scaffnew(lr=0.1, p=0.3), p, 60, seed=5), 1e-12)


def test_communicating_always_it_is_flix():
    p = bowls()
    ours = iterates(ol.methods.Scafflix(alpha=0.4, p=1.0), p, 40)
    close(ours, iterates(ol.methods.FLIX(alpha=0.4), p, 40), 1e-10)


def test_the_weighted_shifts_always_sum_to_zero_and_plain_ones_do_not():
    p = bowls()
    run = ol.run(ol.methods.Scafflix(alpha=ALPHA, p=0.3), p, rounds=300, live=False)
    h = run.federation.memory.h
    assert float((torch.tensor(ALPHA, dtype=h.dtype)[:, None] * h).sum(0).abs().max()) < 1e-12 * float(h.abs().max())
    assert float(h.sum(0).abs().max()) > 1e-3 * float(h.abs().max())


def test_it_stays_exact_when_devices_drop_out():
    p = bowls()
    method = ol.methods.Scafflix(alpha=0.5)
    calm = ol.run(method, p, rounds=2500, evaluate_every=2500, live=False)
    rough = ol.run(method, p, rounds=4000, evaluate_every=4000, fleet=ol.Fleet(dropout=0.2), live=False)
    close(rough.x, calm.x, 1e-8)


def test_the_lyapunov_function_contracts_as_the_theorem_says():
    p, T, seeds = bowls(n=3, d=4, L=30, L_spread=10), 60, 40
    method = ol.methods.Scafflix(alpha=0.6).resolve(p)
    long = ol.run(method, p, rounds=20_000, evaluate_every=20_000, live=False)
    a, lr, own = 0.6, torch.tensor(method.lr), torch.from_numpy(optima(p))
    star = a * long.x + (1 - a) * own
    shift = p.grad(star)

    def psi(x, h) -> float:
        first = (lr.min() / lr * ((a * x + (1 - a) * own - star) ** 2).sum(1)).mean()
        return float(first + lr.min() / method.p**2 * (lr * ((h - shift) ** 2).sum(1)).mean())

    end = []
    for seed in range(seeds):
        memory = ol.run(method, p, rounds=T, seed=seed, evaluate_every=T, live=False).federation.memory
        end.append(psi(memory.x, memory.h))
    start = psi(p.x0.expand(3, -1), torch.zeros(3, 4, dtype=torch.float64))
    assert np.mean(end) <= 1.2 * method.rate(p) ** T * start


def communications(method, p, goal: float, loss, rounds: int = 30_000) -> int:
    run = ol.start(method, p, rounds=0, evaluate_every=10**6).result()
    while loss(run) > goal:
        run.advance(1)
        assert run.round < rounds
    return round(run.federation.ledger.per_client("up").mean() / (32 * p.d))


def test_fewer_communications_the_smaller_the_share_and_sqrt_kappa_below_flix():
    """The specification: Scafflix 19/15/9/4 for alpha 1/.5/.1/.01, FLIX 174/164/121/41, to a FLIX gap of 1e-6."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=20)
    X = [rng.normal(size=(100, 20)) * np.geomspace(1, 0.3, 20) for _ in range(8)]
    y = [np.sign(x @ (truth + 0.5 * rng.normal(size=20)) + 0.1 * rng.normal(size=100)) for x in X]
    p, ours, theirs = ol.problems.Logistic(X, y, l2=0.0025), [], []
    own = ol.run(ol.methods.LocalOnly(solver="exact"), p, rounds=1, live=False).federation.memory.x
    for alpha in (1.0, 0.5, 0.1, 0.01):
        flix, scafflix = ol.methods.FLIX(alpha=alpha), ol.methods.Scafflix(alpha=alpha)
        gap = lambda r, a=alpha: float(p.loss(a * r.x + (1 - a) * own).mean())  # noqa: E731
        best = gap(ol.run(flix, p, rounds=4000, evaluate_every=4000, live=False))
        ours.append(communications(scafflix, p, best + 1e-6, gap))
        theirs.append(communications(flix, p, best + 1e-6, gap))
    assert ours == sorted(ours, reverse=True) and ours[0] > ours[-1] and theirs[-1] < theirs[0] / 2
    assert all(few < many / 2 for few, many in zip(ours, theirs, strict=True))


def test_steps_of_ones_own_where_smoothness_differs():
    """The specification: i-Scaffnew 45 communications, Scaffnew with 1/L_max 169; every kappa_i = 100, L_i spread x100."""
    p = ol.problems.quadratics(n=6, d=8, L=10_000, mu=100, L_spread=100, seed=0)
    goal = 1e-6 * float(((p.x0 - p.x_star) ** 2).sum())
    gap = lambda r: float(((r.federation.memory.x - p.x_star) ** 2).sum(1).mean())  # noqa: E731
    individual = communications(ol.methods.Scafflix(alpha=1.0), p, goal, gap, 100_000)
    common = communications(ol.methods.Scaffnew(), p, goal, gap, 100_000)
    assert individual < common / 2


# -- Ditto -----------------------------------------------------------------------------------------------------------
def test_ditto_by_hand():
    p, lr, lam = bowls(), 0.05, 0.7
    grad, x, v = gradients(p), np.zeros(5), [np.zeros(5)] * 4
    for _ in range(6):
        ys = []
        for i in range(4):
            y, mine = x, v[i]
            for _ in range(3):
                y, mine = y - lr * grad[i](y), mine - lr * (grad[i](mine) + lam * (mine - x))
            ys.append(y)
            v[i] = mine
        x = sum(ys) / 4
    run = ol.run(ol.methods.Ditto(lr=lr, lam=lam, local_steps=3), p, rounds=6, live=False)
    close(run.x, x)
    close(run.federation.memory.v, v)


def test_dittos_common_model_is_fedavgs_to_the_last_batch():
    p = ol.problems.classification("digits", clients=5)
    same = {"lr": 0.1, "local_epochs": 2, "batch_size": 16, "cohort": 3}
    close(iterates(ol.methods.Ditto(**same), p, 4), iterates(ol.methods.FedAvg(**same), p, 4), 1e-12)


def test_without_a_leash_ditto_is_local_only_and_on_a_short_one_it_is_the_common_model():
    p = bowls()
    loose = ol.run(ol.methods.Ditto(lam=0.0, lr=0.1, local_steps=10), p, rounds=300, live=False)
    close(loose.federation.memory.v, optima(p), 1e-8)
    tight = ol.run(ol.methods.Ditto(lam=1000.0, local_steps=10), p, rounds=4000, evaluate_every=4000, live=False)
    assert float((tight.federation.memory.v - tight.x).norm(dim=1).max()) < 0.05


def test_ditto_ends_at_the_proximal_points_of_the_optimum():
    p, lam = bowls(), 2.0
    run = ol.run(ol.methods.Ditto(lam=lam, local_steps=1), p, rounds=3000, evaluate_every=3000, live=False)
    prox = np.linalg.solve(p.A.numpy() + lam * np.eye(5), (p.b.numpy() + lam * p.x_star.numpy())[:, :, None])[:, :, 0]
    close(run.federation.memory.v, prox, 1e-8)


# -- pFedMe ----------------------------------------------------------------------------------------------------------
def test_pfedme_by_hand():
    p, lam, eta, lr, beta = bowls(), 3.0, 0.1, 0.05, 1.5
    grad, x, theta = gradients(p), np.zeros(5), [np.zeros(5)] * 4
    path = [x]
    for _ in range(5):
        ws = []
        for i in range(4):
            w = x
            for _ in range(2):
                for _ in range(3):
                    theta[i] = theta[i] - lr * (grad[i](theta[i]) + lam * (theta[i] - w))
                w = w - eta * lam * (w - theta[i])
            ws.append(w)
        x = (1 - beta) * x + beta * sum(ws) / 4
        path.append(x)
    method = ol.methods.PFedMe(lam=lam, eta=eta, lr=lr, beta=beta, outer_steps=2, inner_steps=3)
    close(iterates(method, p, 5), path)


def test_one_exact_outer_step_is_an_exact_fedprox_round():
    p, lam = bowls(), 4.0
    ours = ol.methods.PFedMe(lam=lam, eta=1 / lam, outer_steps=1, solver="exact")
    close(iterates(ours, p, 10), iterates(ol.methods.FedProx(mu=lam, solver="exact"), p, 10), 1e-9)


def test_pfedme_ends_where_the_envelopes_gradients_cancel():
    p, lam = bowls(), 4.0
    run = ol.run(ol.methods.PFedMe(lam=lam, eta=0.05, outer_steps=1, solver="exact"), p, rounds=800, live=False)
    prox = np.linalg.solve(p.A.numpy() + lam * np.eye(5), (p.b.numpy() + lam * run.x.numpy())[:, :, None])[:, :, 0]
    assert np.abs(lam * (run.x.numpy() - prox).mean(0)).max() < 1e-8


# -- APFL ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("a", [0.0, 0.4, 1.0])
def test_apfls_common_model_is_fedavgs_for_any_mix(a: float):
    p = bowls()
    ours = ol.methods.APFL(a=a, lr=0.05, local_steps=4, adaptive=a == 0.4)
    close(iterates(ours, p, 20), iterates(ol.methods.FedAvg(lr=0.05, local_steps=4), p, 20), 1e-12)


def test_apfl_mixes_from_the_common_to_the_local_model():
    p = bowls()
    run = lambda a: ol.run(ol.methods.APFL(a=a, lr=0.05), p, rounds=400, live=False)  # noqa: E731
    own = lambda r: r.method.personal(r.federation, r.state)  # noqa: E731
    common, local = run(0.0), run(1.0)
    close(own(common), common.x.expand(4, -1))
    close(own(local), optima(p), 1e-8)


# -- all of them -----------------------------------------------------------------------------------------------------
ALL = [ol.methods.get(s) for s in ("flix", "scafflix", "ditto", "pfedme", "apfl", "local-only")]


@pytest.mark.parametrize("kind", ALL)
def test_personal_models_are_judged_on_each_clients_own_test_part(kind):
    p = ol.problems.classification("digits", clients=6, split=ol.data.Dirichlet(0.3), l2=0.01)
    run = ol.run(kind(), p, rounds=3, live=False)
    own = run.method.personal(run.federation, run.state)
    each = p.client_metrics(own)
    last = run.history.iloc[-1]
    assert own.shape == (6, p.d)
    assert last.personal_accuracy == pytest.approx(np.nanmean(each["accuracy"]))
    assert last.client_accuracy == pytest.approx(np.nanmean(p.client_metrics(run.x)["accuracy"]))
    assert last.personal_loss == pytest.approx(float(p.weights.numpy() @ each["loss"]))
    assert last.personal_accuracy_worst10 <= last.personal_accuracy


def test_methods_without_personal_models_record_none():
    run = ol.run("gd", bowls(), rounds=2, live=False)
    assert not [c for c in run.history if c.startswith("personal")]


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: ol.methods.FLIX(alpha=0), "use local-only"),
        (lambda: ol.methods.FLIX(alpha=1.5), r"alpha=1.5: give a number in \(0, 1\]"),
        (lambda: ol.methods.Scafflix(alpha=(0.5, 0.0, 1, 1)).resolve(bowls()), "use local-only"),
        (lambda: ol.methods.Scafflix(alpha=(0.5, 0.2)).resolve(bowls()), "2 entries and there are 4 clients"),
        (lambda: ol.methods.Scafflix(lr=(0.5, 0.2)).resolve(bowls()), "2 entries and there are 4 clients"),
        (lambda: ol.methods.Ditto(lam=-1), "lam=-1"),
        (lambda: ol.methods.PFedMe(outer_steps=0), "outer_steps=0"),
        (lambda: ol.methods.APFL(a=1.2), r"a=1.2: give a number in \[0, 1\]"),
    ],
)
def test_bad_input_gets_a_sentence(make, words: str):
    with pytest.raises(ValueError, match=words):
        make()


def test_exact_inner_solutions_need_hessians():
    p = ol.problems.classification("digits", model="mlp", clients=4)
    with pytest.raises(OutsideAssumptions, match="needs Hessians"):
        ol.methods.PFedMe(solver="exact", lr=0.1).resolve(p)
