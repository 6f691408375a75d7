"""What each attack sends, against its formula, and what attacks can be told of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.trust.attacks import ALIE, IPM, hidden

N, LIARS = 10, (1, 4, 7)
HONEST = [i for i in range(N) if i not in LIARS]


def problem() -> ol.problems.Problem:
    return ol.problems.quadratics(n=N, d=6, seed=0)


def sent(attack, to=None) -> tuple[torch.Tensor, torch.Tensor]:
    """What arrives, (r, d), and what everybody would have sent, (n, d)."""
    p = problem()
    fed = ol.Federation(p, attack=attack)
    replies = fed.call(lambda cohort, x: cohort.grad(x), p.x0, to=to)
    return replies.stack(), p.grad(p.x0)


def equal(a, b) -> bool:
    return torch.allclose(a, b, rtol=0, atol=1e-12)


def test_alie_is_the_honest_mean_less_z_deviations():
    arrived, honest = sent(ol.attacks.ALIE(clients=LIARS, z=0.5))
    good = honest[HONEST].numpy()
    assert equal(arrived[4], torch.from_numpy(good.mean(0) - 0.5 * good.std(0, ddof=1)))
    assert torch.equal(arrived[HONEST], honest[HONEST])


@pytest.mark.parametrize("n, f, z", [(20, 5, 0.2533), (25, 5, 0.2533), (50, 12, 0.3360)])
def test_alies_z_is_the_published_one(n: int, f: int, z: float):
    assert hidden(n, f) == pytest.approx(z, abs=5e-5)


def test_alie_among_a_majority_of_attackers_wants_a_z():
    with pytest.raises(ValueError, match="z is not defined for 4 attackers among 5 asked: give z yourself"):
        hidden(5, 4)


def test_ipm_turns_the_honest_mean_round():
    arrived, honest = sent(ol.attacks.IPM(clients=LIARS, epsilon=10.0))
    assert equal(arrived[1], -10 * honest[HONEST].mean(0))
    assert float(arrived.mean(0) @ honest[HONEST].mean(0)) < 0  # epsilon > honest/attackers


def test_mimics_all_send_one_honest_clients_message():
    arrived, honest = sent(ol.attacks.Mimic(clients=LIARS, target=5))
    assert all(torch.equal(arrived[i], honest[5]) for i in LIARS)
    arrived, honest = sent(ol.attacks.Mimic(clients=LIARS))
    assert any(torch.equal(arrived[1], honest[i]) for i in HONEST)


def test_noise_is_drawn_at_its_own_address():
    arrived, _ = sent(ol.attacks.GaussianNoise(clients=LIARS, sigma=2.0))
    again, _ = sent(ol.attacks.GaussianNoise(clients=LIARS, sigma=2.0), to=np.array([1, 2, 3]))
    assert torch.equal(arrived[1], again[0])
    assert not equal(arrived[1], arrived[4])


def test_shift_back_behaves_until_attackers_are_a_strict_majority_of_those_asked():
    arrived, honest = sent(ol.attacks.ShiftBack(clients=LIARS), to=np.array([1, 2]))
    assert equal(arrived[0], honest[HONEST].mean(0))  # one of two: it behaves, as the mean of all honest clients
    p = problem()
    method = ol.methods.SGD(lr=0.1, batch_size=None, cohort=3)
    cohorts = [[0, 2, 3], [1, 4, 7]]
    run = ol.run(
        method, p, rounds=2, live=False, keep="x", attack=ol.attacks.ShiftBack(clients=LIARS, scale=1 / 0.1),
        randomness=ol.Scripted(cohorts=cohorts),
    )  # fmt: skip
    assert not equal(run.iterates[1], p.x0)
    assert equal(run.iterates[2], p.x0)  # exactly onto the start


def test_shift_back_on_a_method_that_does_not_say_what_it_sends():
    with pytest.raises(ValueError, match=r"ShiftBack does not know whether .*client sends a gradient"):
        p = ol.problems.quadratics(n=3, d=4, seed=0)
        ol.run(ol.methods.EF21(), p, rounds=3, live=False, attack=ol.attacks.ShiftBack(clients=(0, 1)))


def test_a_sleeper_is_honest_until_its_round():
    p = problem()
    method = ol.methods.GD(lr=0.05)
    attack = ol.attacks.Sleeper(ol.attacks.SignFlip(clients=LIARS, scale=50.0), start=4)
    slept, honest = (ol.run(method, p, rounds=6, live=False, keep="x", attack=a) for a in (attack, None))
    assert equal(slept.iterates[:4], honest.iterates[:4])
    assert not equal(slept.iterates[4], honest.iterates[4])


@pytest.mark.parametrize("name", ["OptimizedALIE", "OptimizedIPM"])
def test_an_optimised_attack_hurts_its_rule_at_least_as_much_as_any_strength_it_tries(name: str):
    rule = ol.aggregators.CoordinateMedian()
    weights = torch.ones(N, dtype=torch.float64)
    arrived, honest = sent(getattr(ol.attacks, name)(clients=LIARS, rule=rule))
    target = honest[HONEST].mean(0)
    worst = float((rule(arrived, weights) - target).norm())
    for strength in (0.1, 1.0, 8.0):
        attack = ALIE(clients=LIARS, z=strength) if name.endswith("ALIE") else IPM(clients=LIARS, epsilon=strength)
        assert float((rule(sent(attack)[0], weights) - target).norm()) <= worst + 1e-12


# -- attacks on the data ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", ["logistic", "softmax", "mlp"])
def test_flipped_labels_are_trained_on_and_the_measure_stays_honest(model: str):
    rng = np.random.default_rng(0)
    X, classes = [rng.normal(size=(8, 5)) for _ in range(4)], 2 if model == "logistic" else 3
    y = [rng.integers(0, classes, 8) for _ in range(4)]
    if model == "logistic":
        made = lambda labels: ol.problems.Logistic(X, [2 * v - 1 for v in labels], l2=0.1)  # noqa: E731
    elif model == "softmax":
        made = lambda labels: ol.problems.Softmax(X, labels, 3, l2=0.1)  # noqa: E731
    else:
        module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
        made = lambda labels: ol.problems.Network(module, "cross_entropy", X, labels, dtype=torch.float64)  # noqa: E731
    p, flipped = made(y), made([y[0], classes - 1 - y[1], y[2], y[3]])
    fed = ol.Federation(p, attack=ol.attacks.LabelFlip(clients=(1,)))
    got = fed.call(lambda cohort, x: cohort.grad(x), p.x0).stack()
    assert torch.allclose(got, flipped.grad(p.x0), rtol=0, atol=1e-12)
    assert fed.objective.evaluate(p.x0)["loss"] == p.evaluate(p.x0)["loss"]


def test_labels_that_are_no_classes_cannot_be_turned_round():
    with pytest.raises(ValueError, match="has no classes, so no labels can be turned round"):
        ol.Federation(problem(), attack=ol.attacks.LabelFlip(clients=(1,)))


# -- edges --------------------------------------------------------------------------------------------------------------
def test_a_cohort_of_attackers_alone_is_said():
    with pytest.raises(ValueError, match="every client asked is an attacker"):
        sent(ol.attacks.IPM(clients=LIARS), to=np.array(LIARS))


def test_an_attack_that_compares_is_refused_by_an_asynchronous_method():
    p = ol.problems.quadratics(n=3, d=4, seed=0)
    with pytest.raises(ValueError, match="asynchronous method gets one at a time"):
        ol.run(
            ol.methods.ASGD(lr=0.01),
            p,
            rounds=9,
            live=False,
            attack=ol.attacks.IPM(clients=(0,)),
            fleet=ol.Fleet(seconds=1.0),
        )


def test_detection_counts_flags_against_the_truth():
    p = ol.problems.quadratics(n=N, d=6, spread=0.05, seed=0)
    method = ol.methods.FedAvg(lr=0.05, local_steps=1, aggregator=ol.aggregators.CoordinateMedian())
    loud = ol.run(method, p, rounds=10, live=False, attack=ol.attacks.SignFlip(clients=LIARS, scale=100.0))
    found = ol.trust.detection(loud)
    assert found.attackers == 30 and found.recall == 1.0
    quiet = ol.trust.detection(ol.run(method, p, rounds=10, live=False, attack=ol.attacks.Mimic(clients=LIARS)))
    assert quiet.recall == 0.0
    nobody = ol.trust.detection(ol.run(method, p, rounds=2, live=False))
    assert nobody.precision is None and nobody.recall is None and nobody.f1 is None
