"""W9: robust rules on m=100 updates of d=1,000,000 numbers against a bare mean, and what clipping and noise cost a round."""

from __future__ import annotations

import torch

import octolab as ol
from benchmarks.timing import Arms
from benchmarks.w1_fedavg import BATCH, EPOCHS, LR, data
from octolab.experiment.launch import prepare
from octolab.trust import aggregators as rules

M, D = 100, 1_000_000
CHOSEN = {
    "median": (rules.CoordinateMedian(), 30),
    "trimmed mean": (rules.TrimmedMean(b=20), 30),
    "Krum": (rules.Krum(f=20), 15),
    "geometric median": (rules.GeometricMedian(), 15),
    "NNM, median": (rules.NNM(f=20), 45),
}


def over_the_mean() -> dict[str, float]:
    rows, weights = torch.randn(M, D, generator=torch.Generator().manual_seed(0)), torch.full((M,), 1 / M)
    arms = Arms(
        mean=lambda: rows.mean(0), **{name: (lambda r=rule: r(rows, weights)) for name, (rule, _) in CHOSEN.items()}
    )
    arms.run(repeats=3)
    return {name: arms.ratio("mean", name) for name in CHOSEN}


def a_private_round() -> float:
    """Percent that clipping and noise add to a FedAvg round on the MLP of W1."""
    x, y = data((784,))
    problem = ol.problems.Network(ol.problems.MLP(784, 64, 10), features=x, labels=y)
    plan = {"lr": LR, "local_epochs": EPOCHS, "batch_size": BATCH, "cohort": 10}
    runs = {  # a little noise: much would drive the model where other numbers make the kernels slow
        "plain": ol.methods.DPFedAvg(clip=float("inf"), noise_multiplier=0.0, **plan),
        "private": ol.methods.DPFedAvg(clip=10.0, noise_multiplier=1e-4, **plan),
    }
    started = {
        k: prepare(m, problem, rounds=10**7, evaluate_every=10**7, threads=1).advance(2) for k, m in runs.items()
    }
    arms = Arms(**{k: (lambda run=run: run.advance(10)) for k, run in started.items()}).run(repeats=9)
    return 100 * (arms.ratio("plain", "private") - 1)


def bench() -> dict[str, float]:
    torch.set_num_threads(1)
    found = over_the_mean()
    told = ", ".join(f"{name} {found[name]:.1f} x (must be <= {most})" for name, (_, most) in CHOSEN.items())
    print(f"W9  m=100, d=1,000,000, over a bare mean: {told}")
    cost = a_private_round()
    print(f"W9  clipping and noise in a FedAvg round, MLP: {cost:+.1f} % (must be <= 3)")
    return {**found, "private_round_percent": cost}


if __name__ == "__main__":
    bench()
