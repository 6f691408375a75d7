"""AdaComm: the number of local steps follows the loss, by the clock."""

from __future__ import annotations

import math

import numpy as np
import pytest

import octolab as ol
from octolab.methods.local_training.adacomm import best_steps
from tests.methods.by_hand import close, gradients, iterates
from tests.methods.local_by_hand import mixed, never_again, train, weighted

AdaComm, FedAvg = ol.methods.AdaComm, ol.methods.FedAvg
SLOW = ol.Fleet(seconds=1.0, latency=5.0)  # a communication takes as long as ten steps


def test_a_quarter_of_the_loss_is_half_of_the_steps():
    method = AdaComm(local_steps=20)
    assert method.fewer(0.25, 1.0, 20) == 10
    assert method.fewer(1e-9, 1.0, 20) == 1 and method.fewer(0.0, 1.0, 20) == 1
    assert method.fewer(0.3, 1.0, 20) == 11  # ceil(sqrt(0.3) 20) = ceil(10.95)


def test_where_the_loss_has_not_fallen_the_steps_are_halved():
    method = AdaComm(local_steps=20)
    assert method.fewer(1.0, 1.0, 20) == 10 and method.fewer(2.0, 1.0, 7) == 4 and method.fewer(5.0, 1.0, 1) == 1
    assert method.fewer(0.25, 1.0, 10) == 5  # "not less" includes equal
    assert method.fewer(math.inf, 1.0, 8) == 4  # a loss that is no number any more


def test_the_algorithm_box_by_the_clock():
    """Rounds, losses at the interval's ends, and tau by hand; time: tau steps, 10 for the messages, 1 for a loss."""
    p = weighted(ol.problems.quadratics(n=4, d=5, L=8, seed=2), w=[1, 2, 3, 4])
    grad, w, x, now, due, tau, first = gradients(p), p.weights.numpy(), np.zeros(5), 0.0, 0.0, 12, None
    path, times, steps = [x], [0.0], []
    for _ in range(25):
        asks, used = now >= due, tau
        if asks:
            due = (math.floor(now / 40) + 1) * 40
            above = float(w @ p.loss(p.as_x(x)).numpy()) - p.f_star
            if first is None:
                first = above
            else:
                new = math.ceil(math.sqrt(above / first) * 12)
                tau = max(1, new if new < tau else math.ceil(tau / 2))
        x = x + 0.9 * sum(w[i] * (train(grad[i], x, 0.02, used) - x) for i in range(4))
        now += used + 10 + asks
        path.append(x)
        times.append(now)
        steps.append(used)
    run = ol.run(
        AdaComm(lr=0.02, local_steps=12, interval=40.0, server_lr=0.9), p, rounds=25, fleet=SLOW, keep="x", live=False
    )
    close(run.iterates.numpy(), path)
    assert run.history.time.tolist() == times and run.history.local_steps.tolist()[1:] == steps
    assert steps == sorted(steps, reverse=True) and len({*steps}) > 3


@pytest.mark.parametrize("how", [{}, {"batch_size": 3, "cohort": 2}])
def test_one_step_at_the_start_is_minibatch_sgd_for_ever(how: dict):
    p = mixed()
    ada = AdaComm(lr=0.2, local_steps=1, interval=3.0, **how)
    close(iterates(ada, p, 30, fleet=SLOW), iterates(FedAvg(lr=0.2, local_steps=1, **how), p, 30, fleet=SLOW), 1e-14)


def test_the_steps_that_minimise_the_theorems_bound():
    gap, D, lr, L, variance, T, Y, n = 3.0, 10.0, 0.05, 2.0, 4.0, 500.0, 1.0, 8

    def bound(tau: float) -> float:
        return 2 * gap / (lr * T) * (Y + D / tau) + lr * L * variance / n + lr**2 * L**2 * variance * (tau - 1)

    best = best_steps(gap, D, lr, L, variance, T)
    assert bound(best) < min(bound(1.02 * best), bound(0.98 * best))
    assert best_steps(gap, 4 * D, lr, L, variance, T) == pytest.approx(2 * best)  # as the root of D
    assert best_steps(gap / 4, D, lr, L, variance, T) == pytest.approx(best / 2)  # and falls with progress


def test_it_is_as_fast_as_many_steps_and_as_exact_as_one():
    """Seconds to 3 % of the loss, and the floor: the specification's pattern is 715, 120, 120 and .0151, .0295, .0177."""
    p = ol.problems.quadratics(n=8, d=10, L=10, mu=1, spread=0.5, noise=1.5, seed=0)
    start, seconds, floor = p.value(p.x0) - p.f_star, {}, {}
    arms = {
        "one": FedAvg(lr=0.02, local_steps=1, batch_size=1),
        "many": FedAvg(lr=0.02, local_steps=20, batch_size=1),
        "adacomm": AdaComm(lr=0.02, local_steps=20, interval=100.0, batch_size=1),
    }
    for name, method in arms.items():
        history = ol.run(method, p, until=ol.Until(seconds=2500), fleet=SLOW, live=False).history
        gap, time = ((history.loss - p.f_star) / start).to_numpy(), history.time.to_numpy()
        seconds[name], floor[name] = time[np.argmax(gap < 0.03)], gap[time > 1500].mean()
    assert seconds["adacomm"] <= seconds["many"] + 1 and seconds["one"] > 3 * seconds["many"]
    assert floor["adacomm"] < 1.5 * floor["one"] < floor["many"] / 3


def test_losses_are_asked_for_once_an_interval_at_one_number_each():
    p = ol.problems.quadratics(n=4, d=5)
    run = ol.run(AdaComm(lr=0.02, local_steps=2, interval=24.0), p, rounds=8, fleet=SLOW, live=False)
    up = run.history.bits_up.diff().iloc[1:].tolist()
    asked = [bits - 160 for bits in up]
    assert set(asked) == {0.0, 32.0} and asked[0] == 32 and (run.history.bits_down.diff().iloc[1:] == 192).all()
    starts, seen = run.history.time.tolist()[:-1], -1
    for time, extra in zip(starts, asked, strict=True):
        fresh = math.floor(time / 24) > seen
        assert (extra == 32) == fresh
        seen = max(seen, math.floor(time / 24))


def test_losses_of_samples_have_the_bound_zero_and_quadratics_their_minimum():
    assert AdaComm().resolve(mixed()).f_inf == 0
    p = ol.problems.quadratics(n=3, d=4)
    assert AdaComm().resolve(p).f_inf == p.f_star < 0
    assert AdaComm(f_inf=-7.0).resolve(p).f_inf == -7


def test_empty_cohorts_cohorts_of_one_and_clients_that_vanish():
    p = ol.problems.quadratics(n=4, d=5)
    path = iterates(
        AdaComm(lr=0.05, local_steps=3, interval=5.0, cohort=ol.federation.Poisson(0.3)),
        p, 3, randomness=ol.Scripted(cohorts=[[], [2], [1]]),
    )  # fmt: skip
    assert (path[1] == 0).all()
    close(path[2], train(gradients(p)[2], np.zeros(5), 0.05, 3))
    alone = ol.run(AdaComm(), p, rounds=20, fleet=ol.Fleet(dropout=1.0), live=False)
    assert alone.status == "finished" and (alone.x == p.x0).all()
    assert ol.run(AdaComm(), p, rounds=50, fleet=never_again(0, 4), live=False).history.loss.iloc[-1] < 0


@pytest.mark.parametrize("how", [{"local_steps": 0}, {"interval": 0}, {"batch_size": 0}])
def test_bad_input_names_field_and_value(how: dict):
    (name, bad), *_ = how.items()
    with pytest.raises(ValueError, match=f"AdaComm: {name}={bad}"):
        AdaComm(**how)
