"""EF21-SGD: EF21 on minibatches, and the floor of noise that keeps it from more."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from octolab.compressors import TopK
from tests.methods.by_hand import close, gap_to, gradients, iterates, mean, top


def test_the_algorithm_box_with_given_noise():
    p = ol.problems.quadratics(n=4, d=6, L=8, seed=1)
    grad, x, lr = gradients(p), np.zeros(6), 0.03
    noise = np.random.default_rng(0).standard_normal((20, 4, 6))
    g = [v(x) for v in grad]
    path = [x]
    for z in noise:
        x = x - lr * mean(g)
        g = [g[i] + top(grad[i](x) + z[i] - g[i], 2) for i in range(4)]
        path.append(x)
    method = ol.methods.EF21SGD(compressor=TopK(2), lr=lr, batch_size=1)
    close(iterates(method, p, 20, randomness=ol.Scripted(noise=list(noise))), path)


@pytest.mark.parametrize("start", ["gradient", "compressed", "zero"])
def test_with_all_data_it_is_ef21(start: str):
    p = ol.problems.quadratics(n=4, d=6, noise=1.0)
    method = ol.methods.EF21SGD(compressor=TopK(1), batch_size=None, start=start)
    close(iterates(method, p, 30), iterates(ol.methods.EF21(compressor=TopK(1), start=start), p, 30), 1e-13)
    ef21 = ol.methods.EF21(compressor=TopK(1)).resolve(p)
    assert method.resolve(p).lr == ef21.lr and method.resolve(p).rate(p) == ef21.rate(p)


def test_the_first_gradient_may_be_a_batch_too():
    p = ol.problems.quadratics(n=2, d=3, seed=1)
    z = np.ones((2, 3))
    run = ol.run(ol.methods.EF21SGD(start_batch=4), p, rounds=0, randomness=ol.Scripted(noise=[z]), live=False)
    close(run.federation.memory.g, p.grad(p.x0) + 1)


def floor(method: ol.Method, n: int, rounds: int = 2500) -> float:
    """Mean |x|^2 over the last half, f = |x|^2/2, noise (2, 0), (-1, 3/2) or (-1, -3/2) with probability 1/3 each.

    Its mean is 0, that of what Top1 keeps of it is (2/3, 0).
    """
    values = np.array([[2.0, 0], [-1, 1.5], [-1, -1.5]])
    noise = values[np.random.default_rng(0).integers(0, 3, (rounds, n))]
    p = ol.problems.Quadratics(np.stack([np.eye(2)] * n), np.zeros((n, 2)))
    return float(
        (iterates(method, p, rounds, randomness=ol.Scripted(noise=list(noise)))[rounds // 2 :] ** 2).sum(1).mean()
    )


def test_a_floor_of_noise_that_more_clients_do_not_lower_and_momentum_does():
    sgd = ol.methods.EF21SGD(compressor=TopK(1), lr=0.05, batch_size=1)
    momentum = ol.methods.EF21SGDM(compressor=TopK(1), lr=0.05, eta=0.1, batch_size=1)
    few, many = floor(sgd, 20), floor(sgd, 200)
    assert few / 2 < many < few  # ten times the clients would divide the variance of a mean by ten
    assert floor(momentum, 200) < many / 5


def test_without_noise_there_is_no_floor():
    p = ol.problems.quadratics(n=4, d=12, L=5, seed=0)
    run = ol.run(ol.methods.EF21SGD(compressor=TopK(1), lr=0.02), p, rounds=2000, evaluate_every=2000, live=False)
    assert gap_to(p, run.x) < 1e-10 and run.method.rate(p) is None  # it cannot know
