"""Private methods: identities, trajectories with the noise given, and claims that an audit cannot disprove."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.errors import AssumptionWarning

INF = float("inf")


def problem(n: int = 5, d: int = 4) -> ol.problems.Problem:
    return ol.problems.quadratics(n=n, d=d, L=4, mu=1, seed=1)


def logistic(n: int = 10, d: int = 6, seed: int = 0) -> ol.problems.Problem:
    """Heterogeneous: every client has its own separator."""
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(20, d)) + rng.normal(size=d) for _ in range(n)]
    y = [np.sign(x @ rng.normal(size=d) + 0.1) for x in X]
    return ol.problems.Logistic(X, y, l2=0.05)


def run(method, p, rounds: int = 20, **settings):
    return ol.run(method, p, rounds=rounds, live=False, keep="x", **settings)


def equal(a, b, atol: float = 1e-10) -> bool:
    return torch.allclose(a, b, rtol=0, atol=atol)


def grads(p, x) -> np.ndarray:
    return p.grad(torch.from_numpy(np.asarray(x))).numpy()


# -- DP-FedAvg ----------------------------------------------------------------------------------------------------------
def test_without_clip_and_noise_it_is_fedavg_of_everybody():
    private = ol.methods.DPFedAvg(clip=INF, noise_multiplier=0.0, cohort=None, lr=0.05, local_steps=3)
    assert equal(run(private, problem()).iterates, run(ol.methods.FedAvg(lr=0.05, local_steps=3), problem()).iterates)


def test_a_trajectory_with_the_noise_given():
    p, C, z, lr = problem(), 0.3, 1.5, 0.1
    noise, cohorts = np.random.default_rng(0).normal(size=(4, 4)), [[0, 3], [], [1, 2, 4], [0]]
    x, expected = np.zeros(4), [np.zeros(4)]
    for given, cohort in zip(noise, cohorts, strict=True):
        change = -lr * grads(p, x)[cohort]
        lengths = np.maximum(np.linalg.norm(change, axis=1, keepdims=True), 1e-300)
        x = x + ((change * np.minimum(1, C / lengths)).sum(0) + z * C * given) / (0.4 * 5)  # the denominator is q n
        expected.append(x)
    method = ol.methods.DPFedAvg(clip=C, noise_multiplier=z, cohort=ol.federation.Poisson(0.4), lr=lr, local_steps=1)
    script = ol.Scripted(noise={"server/noise": list(noise[:, None])}, cohorts=cohorts)
    got = run(method, p, 4, randomness=script)
    assert equal(got.iterates, torch.from_numpy(np.array(expected)))
    assert int(got.state.releases) == 4  # the empty round was one, too


def test_the_clip_adapts_by_the_share_of_updates_below_it():
    p = problem()
    for start, factor in ((1e-6, math.exp(0.2 * 0.5)), (1e6, math.exp(-0.2 * 0.5))):
        method = ol.methods.DPFedAvg(
            clip=start, noise_multiplier=0.0, cohort=None, quantile=0.5, lr=0.05, local_steps=1
        )
        found = run(method, p, 3)
        assert float(found.state.clip) == pytest.approx(start * factor**3)


def test_updates_and_bits_together_cost_one_release():
    method = ol.methods.DPFedAvg(noise_multiplier=1.0, quantile=0.5, bit_noise=2.0)
    z = method.on_updates(n=100)
    assert z > 1 and 1 / z**2 + 1 / (2 * 2.0) ** 2 == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"bit_noise=0.5 must be above noise_multiplier/2 = 1"):
        run(ol.methods.DPFedAvg(noise_multiplier=2.0, quantile=0.5, bit_noise=0.5), problem(), 1)


def test_local_noise_is_root_m_times_worse_than_a_trusted_servers():
    p = ol.problems.quadratics(n=50, d=40, L=1, mu=1, spread=0.0, seed=0)
    noise = {}
    for trust in ("central", "distributed", "local"):
        method = ol.methods.DPFedAvg(
            clip=1.0, noise_multiplier=2.0, cohort=None, lr=1e-12, local_steps=1, trust=trust, survivors=50
        )
        steps = run(method, p, 20).iterates.diff(dim=0)
        noise[trust] = float(steps.std())
    assert noise["central"] == pytest.approx(2 / 50, rel=0.1) and noise["distributed"] == pytest.approx(2 / 50, rel=0.1)
    assert noise["local"] == pytest.approx(2 / math.sqrt(50), rel=0.1)


def test_its_guarantee_is_of_rounds_that_happened():
    p = problem(n=100)
    half = run(ol.methods.DPFedAvg(cohort=ol.federation.Poisson(0.1), noise_multiplier=2.0, lr=0.01), p, 50)
    claim = half.guarantee(delta=1e-5)
    assert claim.steps == 50 and claim.epsilon == ol.trust.accounting.epsilon(2.0, 0.1, 50, 1e-5)
    assert half.advance(50).guarantee(delta=1e-5).epsilon == pytest.approx(2.3374, rel=1e-3)
    assert "adding" not in repr(claim) and "add-or-remove-one" in repr(claim)


def test_fixed_cohorts_and_strange_samplers_are_kept_apart():
    p = problem(n=100)
    fixed = run(ol.methods.DPFedAvg(cohort=10, noise_multiplier=4.0, lr=0.01), p, 100).guarantee(delta=1e-5)
    assert fixed.sampling == "fixed-size" and fixed.epsilon == pytest.approx(5.379, rel=1e-3)
    strange = run(ol.methods.DPFedAvg(cohort=ol.federation.Cyclic(10), lr=0.01), p, 2).guarantee()
    assert strange.epsilon is None and "no accountant here covers it" in repr(strange) and not strange.holds


def test_a_sum_with_too_little_noise_is_not_opened():
    method = ol.methods.DPFedAvg(cohort=None, trust="distributed", survivors=4, noise_multiplier=1.0, lr=0.01)
    found = run(method, problem(), 30, fleet=ol.Fleet(dropout=0.4))
    reports = 5 - found.history["dropped"].fillna(0).iloc[1:]
    assert int(found.state.releases) == int((reports >= 4).sum()) < 30


def test_noise_in_units_of_no_bound_is_refused():
    unbounded = [
        ol.methods.DPFedAvg(clip=INF),
        ol.methods.DPSGD(clip=INF),
        ol.methods.PMTL(clip=INF),
        ol.methods.DPClip21(tau=INF),
    ]
    for method in unbounded:
        with pytest.raises(ValueError, match=r"=inf with noise_multiplier=.*give a finite one"):
            run(method, problem(), 1)


def test_what_is_sent_bare_at_the_start_leaves_no_guarantee():
    bare = run(ol.methods.NormEC(start="gradient", noise_multiplier=1.0, lr=0.01), problem(), 2).guarantee()
    assert bare.epsilon is None and "use start='zero'" in repr(bare)


def test_the_servers_copy_is_off_by_the_sum_of_the_noise():
    p, noise = problem(), np.random.default_rng(0).normal(size=(6, 4))
    method = ol.methods.NormEC(noise_multiplier=2.0, beta=0.3, lr=0.01)
    found = run(method, p, 6, randomness=ol.Scripted(noise={"server/noise": list(noise[:, None])}))
    off = found.state.v - found.federation.memory.v.mean(0)
    assert equal(off, torch.from_numpy(0.3 / 5 * 2.0 * noise.sum(0)))


def test_no_noise_is_no_privacy_and_a_method_without_noise_makes_no_claim():
    for method in (
        ol.methods.DPFedAvg(noise_multiplier=0.0, cohort=None, lr=0.01),
        ol.methods.DPSGD(noise_multiplier=0.0, lr=0.01),
        ol.methods.DPClip21(noise_multiplier=0.0, lr=0.01),
        ol.methods.NormEC(lr=0.01),
        ol.methods.PMTL(noise_multiplier=0.0, lr=0.01),
    ):
        silent = run(method, problem(), 3).guarantee()
        assert silent.epsilon == INF and silent.steps == 3 and not silent.holds
    with pytest.raises(ValueError, match="makes no claim on privacy: private methods are DPFedAvg"):
        run(ol.methods.GD(lr=0.1), problem(), 1).guarantee()
    with pytest.warns(AssumptionWarning, match="is not below 1/n"):
        run(ol.methods.DPFedAvg(lr=0.01), problem(), 1).guarantee(delta=0.5)


# -- Clip21 -------------------------------------------------------------------------------------------------------------
def test_without_a_limit_it_is_gradient_descent():
    for method in (ol.methods.Clip21(tau=1e9, lr=0.1), ol.methods.NormEC(alpha=1e9, beta=1e9, normalize=False, lr=0.1)):
        assert equal(run(method, problem()).iterates, run(ol.methods.GD(lr=0.1), problem()).iterates, 1e-6)


def test_fixed_vectors_are_reached_in_finite_time():
    """|a_i - v_i^k| = (|a_i| - (k+1) tau)_+, to machine precision."""
    p = problem()
    a, tau = p.grad(p.x0), 0.25
    found = run(ol.methods.Clip21(tau=tau, lr=1e-300), p, 30)
    for k in (0, 3, 29):
        v = run(ol.methods.Clip21(tau=tau, lr=1e-300), p, k + 1).federation.memory.v
        assert equal((a - v).norm(dim=1), (a.norm(dim=1) - (k + 1) * tau).clamp(min=0), 1e-12)
    assert equal(found.state.v, found.federation.mean_of("v"), 1e-14)


def test_clipped_gradient_descent_stalls_where_clip21_converges():
    """f1 = (x - 3)^2/2, f2 = (x + 1)^2/2, tau = 1: clipping alone is frozen on [0, 2], the minimiser is 1."""
    p = ol.problems.Quadratics([np.eye(1)] * 2, [np.array([3.0]), np.array([-1.0])])
    assert float(run(ol.methods.Clip21(tau=1.0, lr=0.5), p, 200).x) == pytest.approx(1.0, abs=1e-12)
    limited = ol.methods.DPFedAvg(clip=1.0, noise_multiplier=0.0, cohort=None, lr=1.0, local_steps=1, server_lr=0.1)
    x0 = torch.tensor([0.25], dtype=torch.float64)
    assert float(run(limited, p, 200, x0=x0).x) == pytest.approx(0.25, abs=1e-12)


def test_the_derived_step_is_safe_and_after_the_last_clip_it_is_gradient_descent():
    p = logistic()
    method = ol.methods.Clip21(tau=0.1).resolve(p)
    found = run(method, p, 400)
    D = max(0.0, float(p.grad(p.x0).norm(dim=1).max()) - 0.1)
    last = math.ceil(2 * D / 0.1) + 1
    x = found.iterates[last]
    follow = run(ol.methods.GD(lr=float(method.lr)), p, 50, x0=x).iterates
    assert equal(found.iterates[last : last + 51], follow, 1e-12)


def test_noise_in_the_state_is_fresh_and_outside_it_a_random_walk():
    p = problem(n=6, d=30)
    error = {}
    for kept in (True, False):
        method = ol.methods.DPClip21(tau=5.0, noise_multiplier=0.02, noise_in_state=kept, lr=0.1)
        found = run(method, p, 400)
        error[kept] = float((found.state.v - p.grad(found.iterates[-2]).mean(0)).norm())
    assert error[False] > 8 * error[True]


def test_sgd2m_without_momentum_is_clip21_one_iterate_later():
    p = logistic()
    later = run(ol.methods.Clip21SGD2M(tau=0.3, lr=0.2, beta=1.0, weight=1.0), p, 30).iterates
    assert equal(later[1], p.x0) and equal(later[1:], run(ol.methods.Clip21(tau=0.3, lr=0.2), p, 29).iterates)


# -- alpha-NormEC -------------------------------------------------------------------------------------------------------
def test_a_normalised_step_has_its_length_and_messages_are_shorter_than_one():
    p = logistic()
    found = run(ol.methods.NormEC(lr=0.05, alpha=0.1), p, 25)
    assert equal(found.iterates.diff(dim=0)[1:].norm(dim=1), torch.full((24,), 0.05, dtype=torch.float64))
    sent = ol.Federation(p)
    method = ol.methods.NormEC(lr=0.05, alpha=0.1).resolve(p)
    method.init(sent)
    assert float(sent.call(method.client, p.x0).stack().norm(dim=1).max()) < 1


def test_with_everybody_and_one_step_the_federated_form_is_the_plain_one():
    p, same = logistic(), {"alpha": 0.1, "beta": 0.3, "lr": 0.02}
    fed = ol.methods.FedNormEC(cohort=None, local_steps=1, **same)
    assert equal(run(fed, p).iterates, run(ol.methods.NormEC(**same), p).iterates)


def test_the_theorems_bound_on_the_gradient_holds():
    p, K = logistic(), 300
    method = ol.methods.NormEC(alpha=0.5, beta=0.5).resolve(p)
    found, R = run(method, p, K), method.R(p)
    smallest = min(float(p.grad(x).mean(0).norm()) for x in found.iterates)
    h = float(method.lr)
    gap = float(p.value(p.x0)) - p.f_star
    assert smallest <= gap / (h * (K + 1)) + 2 * R + p.L * h / 2


# -- PMTL ---------------------------------------------------------------------------------------------------------------
def test_without_clip_and_noise_pmtl_solves_its_linear_system():
    """w_i = (A_i + lam I)^-1 (b_i + lam wbar), wbar = mean w_i."""
    p, lam = problem(n=4, d=3), 0.7
    method = ol.methods.PMTL(lam=lam, clip=INF, noise_multiplier=0.0, cohort=None, lr=0.15, local_steps=5)
    found = run(method, p, 800)
    zero = torch.zeros(3, dtype=torch.float64)
    b, A = -p.grad(zero), p.hessian(zero)
    w = found.federation.memory.w
    for i in range(4):
        assert equal(
            torch.linalg.solve(A[i] + lam * torch.eye(3, dtype=torch.float64), b[i] + lam * found.x), w[i], 1e-9
        )
    assert equal(found.x, w.mean(0), 1e-9)


def test_without_a_leash_everybody_trains_alone():
    p = problem()
    free = ol.methods.PMTL(lam=0.0, clip=INF, noise_multiplier=0.0, cohort=None, lr=0.05, local_steps=3)
    alone = ol.methods.LocalOnly(lr=0.05, local_steps=3)
    assert torch.equal(run(free, p).federation.memory.w, run(alone, p).federation.memory.x)


# -- DP-SGD -------------------------------------------------------------------------------------------------------------
def test_with_all_examples_no_clip_and_no_noise_it_is_gradient_descent():
    p = logistic()
    method = ol.methods.DPSGD(clip=INF, noise_multiplier=0.0, sample_rate=1.0, lr=0.2)
    assert equal(run(method, p).iterates, run(ol.methods.GD(lr=0.2), p).iterates)


def test_every_examples_gradient_is_clipped_by_itself():
    p, C, lr = logistic(n=2), 0.2, 0.3
    rows = [p.data.client(i) for i in range(2)]  # y a
    x, expected = np.zeros(6), [np.zeros(6)]
    for _ in range(4):
        moves = []
        for B in rows:
            g = -B / (1 + np.exp(B @ x))[:, None] + 0.05 * x
            g *= np.minimum(1, C / np.linalg.norm(g, axis=1, keepdims=True))
            moves.append(-lr * g.mean(0))
        x = x + np.mean(moves, axis=0)
        expected.append(x)
    method = ol.methods.DPSGD(clip=C, noise_multiplier=0.0, sample_rate=1.0, lr=lr)
    assert equal(run(method, p, 4).iterates, torch.from_numpy(np.array(expected)))


def test_its_guarantee_is_of_an_example_over_all_local_steps():
    method = ol.methods.DPSGD(sample_rate=0.1, noise_multiplier=2.0, local_steps=5, lr=0.1)
    claim = run(method, logistic(), 20).guarantee(delta=1e-5)
    assert claim.steps == 100 and claim.unit == "example" and claim.epsilon == pytest.approx(2.3374, rel=1e-3)


# -- the claims are attacked --------------------------------------------------------------------------------------------
class HalfTheNoise(ol.methods.DPFedAvg):
    """Broken: it claims z and adds z/2."""

    def on_updates(self, n: int) -> float:
        return super().on_updates(n) / 2


class OwnDenominator(ol.methods.DPFedAvg):
    """Broken: it divides by how many came, which depends on the data."""

    def step(self, fed, s):
        moved = super().step(fed, s)
        return moved._replace(x=s.x + (moved.x - s.x) * 4 / fed.n)  # the public m is 4


def audited(method, z: float, games: int) -> float:
    """What the distinguishing game disproves of one noisy sum: three clients, and a canary that is there or not."""
    others, canary = [np.array([1.0, 0.0])] * 3, np.array([-1.0, 0.0])
    worlds = [ol.problems.Quadratics([np.eye(2)] * len(b), b) for b in ([*others, canary], others)]
    made = method(clip=1.0, noise_multiplier=z, cohort=ol.federation.Poisson(1.0), lr=1.0, local_steps=1)
    scores = []
    for world in worlds:
        scale = 4 / world.n if method is not OwnDenominator else 1.0  # m = q n follows n: put back to the public 4
        moved = [ol.run(made, world, rounds=1, live=False, seed=s, evaluate_every=9).x[0] / scale for s in range(games)]
        scores.append([float(x) for x in moved])
    return ol.trust.audit.gaussian_lower_bound(*scores, delta=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("z, games", [(1.0, 1500), (2.0, 4000)])
def test_an_audit_stays_below_the_claim_and_comes_within_half_of_it(z: float, games: int):
    claim = ol.trust.accounting.epsilon(z, delta=1e-5)
    assert claim / 2 <= audited(ol.methods.DPFedAvg, z, games) <= claim


@pytest.mark.slow
@pytest.mark.parametrize("broken", [HalfTheNoise, OwnDenominator])
def test_an_audit_catches_a_broken_mechanism(broken):
    assert audited(broken, 1.0, 800) > 1.2 * ol.trust.accounting.epsilon(1.0, delta=1e-5)


def test_an_audit_of_equal_worlds_disproves_nothing():
    scores = np.random.default_rng(0).normal(size=(2, 400))
    assert ol.trust.audit.lower_bound(*scores) == 0.0 and ol.trust.audit.gaussian_lower_bound(*scores) < 0.5
    with pytest.raises(ValueError, match="an audit needs at least 20 of each"):
        ol.trust.audit.lower_bound([0.0], [1.0])


def test_an_audit_without_assumptions_disproves_what_is_not_private_at_all():
    rng = np.random.default_rng(1)
    assert ol.trust.audit.lower_bound(rng.normal(size=2000), 9 + rng.normal(size=2000)) > 4
