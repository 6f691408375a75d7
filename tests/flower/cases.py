"""One method of each kind, small enough to run everywhere: what the worlds are compared on."""

from __future__ import annotations

from typing import Any

import numpy as np

import octolab as ol


def quadratics() -> Any:
    return ol.problems.quadratics(n=3, d=12, L=10, mu=1, seed=1)


def network() -> Any:
    return ol.problems.classification("digits", model="mlp", hidden=(16,), clients=3, split=ol.data.Dirichlet(1.0))


def homogeneous() -> Any:
    return ol.problems.Tridiagonal(d=12, n=3, noise=0.01)


M = ol.methods
CASES: dict[str, Any] = {
    "fedavg on a network": (M.FedAvg(lr=0.05, local_epochs=1, batch_size=32), network, {}),
    "ef21": (M.EF21(compressor=ol.compressors.TopK(3)), quadratics, {}),
    "scaffold": (M.SCAFFOLD(local_steps=3, lr=0.02), quadratics, {}),
    "scaffnew": (M.Scaffnew(), quadratics, {}),
    "fednl": (M.FedNL(compressor=ol.compressors.RankR(1)), quadratics, {}),
    "ringmaster": (M.Ringmaster(R=4, lr=0.05), homogeneous, {"fleet": ol.Fleet(seconds=[1.0, 2.5, 4.0])}),
    "robust fedavg under attack": (
        M.FedAvg(lr=0.05, local_epochs=2, aggregator=ol.aggregators.CoordinateMedian()),
        quadratics,
        {"attack": ol.attacks.SignFlip(clients=(2,))},
    ),
}


def run(name: str, rounds: int, **settings: Any) -> ol.Run:
    method, problem, world = CASES[name]
    return ol.run(method, problem(), rounds=rounds, seed=4, keep="x", live=False, **{**world, **settings})


def gap(a: ol.Run, b: ol.Run) -> float:
    """The largest difference of the two trajectories, relative to the larger of 1 and the largest iterate."""
    x, y = a.iterates.numpy(), b.iterates.numpy()
    assert x.shape == y.shape, (x.shape, y.shape)
    return float(np.max(np.abs(x - y)) / max(1.0, float(np.max(np.abs(x)))))
