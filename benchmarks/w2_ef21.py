"""W2: EF21 with TopK 1 %, logistic regression, float64. Bounds: a NumPy loop over clients and bare stacked torch."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

import octolab as ol
from benchmarks.timing import Arms, Inside
from octolab.experiment.launch import prepare

LR, RIDGE = 1e-3, 1e-3


def data(n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, m, d)), np.sign(rng.normal(size=(n, m)))


def numpy_loop(A: np.ndarray, y: np.ndarray, k: int):
    """A generator: one round per next()."""
    n, m, d = A.shape
    B = A * y[:, :, None]

    def grad(i, x):
        return B[i].T @ (-1 / (1 + np.exp(B[i] @ x)) / m) + RIDGE * x

    x = np.zeros(d)
    memory = [grad(i, x) for i in range(n)]
    g = np.mean(memory, axis=0)
    while True:
        x = x - LR * g
        for i in range(n):
            c = grad(i, x) - memory[i]
            keep = np.argpartition(np.abs(c), d - k)[d - k :]
            memory[i][keep] += c[keep]
            g[keep] += c[keep] / n
        yield


def stacked(A: np.ndarray, y: np.ndarray, k: int):
    """Bare stacked torch, nothing but the algorithm."""
    n, m, d = A.shape
    B = torch.from_numpy(A * y[:, :, None])
    x = torch.zeros(d, dtype=torch.float64)

    def grad(x):
        return torch.bmm((torch.sigmoid(-(B @ x)) / -m)[:, None, :], B)[:, 0] + RIDGE * x

    memory = grad(x)
    g = memory.mean(0)
    while True:
        x = x - LR * g
        c = grad(x) - memory
        keep = c.abs().topk(k, dim=1).indices
        values = c.gather(1, keep)
        memory.scatter_add_(1, keep, values)
        g = g + torch.zeros(d, dtype=torch.float64).index_add_(0, keep.flatten(), values.flatten()) / n
        yield


def case(n: int, m: int, d: int, rounds: int) -> Arms:
    A, y = data(n, m, d)
    k = max(1, round(0.01 * d))
    problem = ol.problems.Logistic(list(A), list(y), RIDGE)
    method = ol.methods.EF21(compressor=ol.compressors.TopK(k), lr=LR)
    run = prepare(method, problem, rounds=10**7, evaluate_every=10**7, threads=1).advance(2)
    loop, bare = numpy_loop(A, y, k), stacked(A, y, k)

    def turn(generator):
        def go():
            with torch.no_grad():
                for _ in range(rounds):
                    next(generator)

        return go

    return Arms(octolab=lambda: run.advance(rounds), numpy=turn(loop), stacked=turn(bare)).run(repeats=9)


def recording(n: int, m: int, d: int, rounds: int) -> float:
    """Microseconds of a round that are not the method's step: to see that all is finite, and to write it down."""
    A, y = data(n, m, d)
    method = ol.methods.EF21(compressor=ol.compressors.TopK(max(1, round(0.01 * d))), lr=LR)
    run = prepare(method, ol.problems.Logistic(list(A), list(y), RIDGE), rounds=10**7, evaluate_every=10**7, threads=1)
    inside, beside = Inside(), []
    run._step = inside.watch(run.advance(2)._step)  # type: ignore[method-assign]
    for _ in range(9):
        inside.seconds, start = 0.0, time.perf_counter()
        run.advance(rounds)
        beside.append(time.perf_counter() - start - inside.seconds)
    return 1e6 * statistics.median(beside) / rounds


def bench() -> dict[str, float]:
    torch.set_num_threads(1)
    large = case(100, 100, 300, 100)
    small = case(20, 50, 100, 500)
    result = {
        "large_over_numpy_loop": large.ratio("octolab", "numpy"),
        "large_over_stacked": large.ratio("octolab", "stacked"),
        "cache_over_stacked": small.ratio("octolab", "stacked"),
        "cache_over_numpy_loop": small.ratio("octolab", "numpy"),
        "recording_us": recording(20, 50, 100, 1000),
    }
    print(f"W2  n=100, m=100, d=300: {result['large_over_numpy_loop']:.2f} x NumPy loop (must be >= 1.1; excellent 1.35), "
          f"{result['large_over_stacked']:.2f} x bare stacked torch")  # fmt: skip
    print(f"W2  n=20, m=50, d=100 (in cache): {result['cache_over_stacked']:.2f} x bare stacked torch (must be >= 0.5; "
          f"wanted 0.8), {result['cache_over_numpy_loop']:.2f} x NumPy loop")  # fmt: skip
    print(f"W2  in cache, recording and checking a round: {result['recording_us']:.1f} us (wanted <= 10)")
    return result


if __name__ == "__main__":
    bench()
