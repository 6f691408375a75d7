"""EF21+: the change or the gradient itself, whichever is nearer; one bit says which."""

from __future__ import annotations

import numpy as np
import pytest

import octolab as ol
from octolab.compressors import Identity, RandK, TopK
from octolab.errors import AssumptionWarning
from tests.methods.by_hand import close, gap_to, gradients, iterates, mean, top


def by_hand(p: ol.problems.Quadratics, k: int, lr: float, rounds: int, g: list[np.ndarray]):
    grad, x = gradients(p), np.zeros(p.d)
    path, anew = [x], 0
    for _ in range(rounds):
        x = x - lr * mean(g)
        for i in range(p.n):
            v = grad[i](x)
            itself, changed = top(v, k), g[i] + top(v - g[i], k)
            nearer = np.linalg.norm(itself - v) < np.linalg.norm(changed - v)
            g[i], anew = itself if nearer else changed, anew + nearer
        path.append(x)
    return path, anew


@pytest.mark.parametrize("start", ["gradient", "zero", "compressed"])
def test_the_algorithm_box(start: str):
    p = ol.problems.quadratics(n=4, d=6, L=8, seed=1)
    g = [
        {"gradient": v(np.zeros(6)), "compressed": top(v(np.zeros(6)), 2), "zero": np.zeros(6)}[start]
        for v in gradients(p)
    ]
    path, _ = by_hand(p, 2, 0.1, 30, g)
    close(iterates(ol.methods.EF21Plus(compressor=TopK(2), lr=0.1, start=start), p, 30), path)


def test_it_sends_the_nearer_of_the_two():
    """Both happen on this path, and every time the distance is the smaller one of the two."""
    p, seen = ol.problems.quadratics(n=4, d=6, L=8, mu=4, seed=1), []

    class Watched(ol.methods.EF21Plus):
        slug = ""

        def client(self, cohort, x):
            g = cohort.memory.g
            message, anew = super().client(cohort, x)
            v = cohort.grad(x)
            C = lambda u: self.compressor(u).dense()  # noqa: E731
            change, itself = ((g + C(v - g) - v) ** 2).sum(1), ((C(v) - v) ** 2).sum(1)
            after = ((cohort.memory.g - v) ** 2).sum(1)
            close(after, change.minimum(itself), 1e-12)
            assert (anew == (itself < change)).all()
            seen.extend(anew.tolist())
            return message, anew

    method = Watched(compressor=TopK(3), lr=0.23)
    path, anew = by_hand(p, 3, 0.23, 30, [v(np.zeros(6)) for v in gradients(p)])
    close(iterates(method, p, 30), path)
    assert 0 < sum(seen) < len(seen) and sum(seen) == anew


def test_with_the_identity_it_is_gradient_descent():
    p = ol.problems.quadratics(n=4, d=6)
    close(iterates(ol.methods.EF21Plus(compressor=Identity()), p, 30), iterates(ol.methods.GD(), p, 30), 1e-12)


def test_its_step_and_rate_are_ef21s():
    p = ol.problems.quadratics(n=4, d=6)
    plus, ef21 = (m(compressor=TopK(1)).resolve(p) for m in (ol.methods.EF21Plus, ol.methods.EF21))
    assert plus.lr == ef21.lr and plus.rate(p) == ef21.rate(p)


def test_the_flag_costs_one_bit():
    p = ol.problems.quadratics(n=3, d=20)
    run = ol.run(ol.methods.EF21Plus(compressor=TopK(2)), p, rounds=3, live=False)
    assert run.history.bits_up.tolist() == [32 * 20 + (2 * 32 + 2 * 5 + 1) * t for t in range(4)]


def test_server_and_clients_agree_when_devices_drop_out_and_it_converges():
    p = ol.problems.quadratics(n=7, d=12, L=5)
    run = ol.run(
        ol.methods.EF21Plus(compressor=TopK(2), lr=ol.Theory(2)),
        p,
        rounds=600,
        fleet=ol.Fleet(dropout=0.3),
        evaluate_every=600,
        live=False,
    )
    assert bool((run.state.own == run.federation.memory.g).all())
    close(run.state.g, run.federation.memory.g.mean(0), 1e-12)
    assert gap_to(p, run.x) < 1e-8


def test_a_random_compressor_is_outside_its_theorem():
    with pytest.warns(AssumptionWarning, match="deterministic"):
        ol.methods.EF21Plus(compressor=RandK(2, scaled=False)).resolve(ol.problems.quadratics(n=3, d=4))
