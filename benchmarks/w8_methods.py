"""W8: every method of the local and communication families at n=1,000, d=7,850: its round against its bare kernels.

The bound is the stacked work that no implementation of the method can avoid: the time inside the problem's gradients,
losses and local training, and inside the compressors, measured in the same rounds.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

import octolab as ol
from benchmarks.timing import Inside
from octolab.compressors import Compressor
from octolab.errors import OctolabError
from octolab.experiment.launch import prepare
from octolab.methods import Theory
from octolab.params import params

CLIENTS, SAMPLES, FEATURES, CLASSES = 1000, 20, 784, 10
FAMILIES = ("baselines", "communication", "local_training", "participation", "personalization")
KERNELS = ("grad", "gradient", "loss", "hvp", "local_sgd")


def problem() -> Any:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((CLIENTS, SAMPLES, FEATURES), dtype=np.float32)
    y = rng.integers(0, CLASSES, (CLIENTS, SAMPLES))
    return ol.problems.Softmax(list(x), list(y), CLASSES, l2=1e-3, dtype=torch.float32)


@contextmanager
def watching(p: Any) -> Iterator[Inside]:
    """Watch the problem's kernels and every compressor."""
    inside, compress = Inside(), Compressor.__call__
    for name in KERNELS:
        setattr(p, name, inside.watch(getattr(p, name)))
    Compressor.__call__ = inside.watch(compress)  # type: ignore[method-assign]
    try:
        yield inside
    finally:
        Compressor.__call__ = compress  # type: ignore[method-assign]
        for name in KERNELS:
            delattr(p, name)


def fitted(kind: type, p: Any) -> Any:
    """The method at its defaults, with a small number for every step size (the theorem's constants cost minutes here).

    Who draws a fixed number of clients draws a tenth: a round of two clients measures the calls, not the method.
    """
    method = kind()
    steps = {name: 2 if p.whole else 0.05 if name == "lr" else 0.5
             for name, p in params(kind).items() if isinstance(getattr(method, name), Theory)}  # fmt: skip
    drawn = {"draws": p.n // 10} if hasattr(method, "draws") else {}
    return dataclasses.replace(method, **steps, **drawn)


def round_over_kernels(kind: type, p: Any, rounds: int = 6) -> float:
    run = prepare(fitted(kind, p), p, rounds=10**7, evaluate_every=10**7, threads=1).advance(5)
    with watching(p) as inside:
        start = time.perf_counter()
        run.advance(rounds)
        whole = time.perf_counter() - start
    return whole / inside.seconds if inside.seconds else float("nan")


def bench() -> dict[str, float]:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    p, ratios, left = problem(), {}, []
    for slug in ol.methods.slugs():
        kind = ol.methods.get(slug)
        if kind.describe().family not in FAMILIES:
            continue
        try:
            ratios[slug] = float(np.median([round_over_kernels(kind, p) for _ in range(3)]))
        except OctolabError as refusal:
            left.append(f"{slug} ({str(refusal).split('.')[0]})")
    worst = max(ratios, key=lambda s: ratios[s])
    print(f"W8  n=1,000, d=7,850: round over bare kernels, worst {ratios[worst]:.2f} x ({worst}) (must be <= 2)")
    for at in range(0, len(ratios), 8):
        print("W8  " + ", ".join(f"{s} {r:.2f}" for s, r in list(ratios.items())[at : at + 8]))
    if left:
        print("W8  not run here: " + "; ".join(left))
    return ratios


if __name__ == "__main__":
    bench()
