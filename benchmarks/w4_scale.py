"""W4: scale. EF21 with 10,000 clients x d=7,850, and cohorts out of a million devices."""

from __future__ import annotations

import resource
import time

import numpy as np
import torch

import octolab as ol
from benchmarks.timing import Arms
from octolab.experiment.launch import prepare
from octolab.federation import Importance, Nice, Randomness

SAMPLES, FEATURES, CLASSES, KEEP = 20, 784, 10, 78


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def arrays(n: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, SAMPLES, FEATURES), dtype=np.float32)
    return list(x), list(rng.integers(0, CLASSES, (n, SAMPLES)))


def bound(x: list[np.ndarray], y: list[np.ndarray], chunk: int = 64):
    """The chunked round by hand: softmax gradient, difference, np.argpartition, update. One round per next()."""
    n, d = len(x), (FEATURES + 1) * CLASSES
    data = torch.cat([torch.from_numpy(np.stack(x)), torch.ones(n, SAMPLES, 1)], 2)
    labels = torch.from_numpy(np.stack(y))
    memory, model, g = torch.zeros(n, d), torch.zeros(d), torch.zeros(d)
    while True:
        model = model - 0.01 * g
        W = model.view(CLASSES, FEATURES + 1)
        for a in range(0, n, chunk):
            rows, t = data[a : a + chunk], labels[a : a + chunk]
            r = torch.softmax(rows @ W.T, -1)
            r.scatter_add_(2, t[:, :, None], torch.full((*t.shape, 1), -1.0))
            c = torch.bmm(r.mT / SAMPLES, rows).view(len(rows), d) - memory[a : a + chunk]
            keep = torch.from_numpy(np.argpartition(np.abs(c.numpy()), d - KEEP, axis=1)[:, d - KEEP :])
            values = c.gather(1, keep)
            memory[a : a + chunk].scatter_add_(1, keep, values)
            g = g.index_add(0, keep.flatten(), values.flatten() / n)
        yield


def ef21(n: int, rounds: int = 2) -> dict[str, float]:
    x, y = arrays(n)
    before = peak_mb()
    problem = ol.problems.Softmax(x, y, CLASSES, dtype=torch.float32)
    method = ol.methods.EF21(compressor=ol.compressors.TopK(KEEP), lr=0.01, start="zero")
    run = prepare(method, problem, rounds=10**7, evaluate_every=10**7, threads=1).advance(2)
    held = (problem.rows.numel() * 4 + n * problem.d * 4) / 2**20
    extra = peak_mb() - before - held
    hand = bound(x, y)

    def by_hand() -> None:
        with torch.no_grad():
            for _ in range(rounds):
                next(hand)

    arms = Arms(octolab=lambda: run.advance(rounds), bound=by_hand).run(repeats=5)
    return {
        "over_bound": 1 / arms.ratio("octolab", "bound"),
        "us_per_client": 1e6 * arms.seconds["octolab"] / rounds / n,
        "extra_mb": extra,
    }


def sampling(n: int = 1_000_000, m: int = 1000) -> dict[str, float]:
    weights = np.random.default_rng(0).random(n)
    weighted, uniform, source = Importance(weights / weights.sum(), m), Nice(m), Randomness(0)
    out = {}
    for name, sampler in (("uniform_ms", uniform), ("weighted_ms", weighted)):
        sampler.draw(n, source, 0)
        times = []
        for t in range(20):
            start = time.perf_counter()
            sampler.draw(n, source, t)
            times.append(time.perf_counter() - start)
        out[name] = 1000 * float(np.median(times))
    return out


def bench(n: int = 10_000) -> dict[str, float]:
    torch.set_num_threads(1)
    drawn = sampling()
    big = ef21(n)
    small = ef21(100, rounds=50)
    growth = big["us_per_client"] / small["us_per_client"]
    print(f"W4  EF21, {n:,} clients x d=7,850: {big['over_bound']:.2f} x the chunked bound's time (must be <= 1.5; excellent "
          f"1.15); peak {big['extra_mb']:.0f} MB over data + state (must be <= 400)")  # fmt: skip
    print(f"W4  cost per client at n={n:,} against n=100: {growth:.2f} x (excellent <= 1.2)")
    print(f"W4  cohort of 1,000 out of 1,000,000: uniform {drawn['uniform_ms']:.2f} ms (must be <= 1), "
          f"weighted {drawn['weighted_ms']:.2f} ms (must be <= 3)")  # fmt: skip
    return {**{f"ef21_{k}": v for k, v in big.items()}, "growth": growth, **drawn}


if __name__ == "__main__":
    bench()
