"""What the server of adaptive compression works out: deadlines and steps from EF21's theorem, and how fast links are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from octolab.compressors.rows import k_within, topk_bits
from octolab.federation import Federation
from octolab.federation.replies import Replies
from octolab.payloads import Ragged

GRID = 64  # deadlines that the rule tries


def step_of(k: np.ndarray, problem: Any) -> np.ndarray:
    """EF21's step 1/(L + sum w_i L_i xi(k_i/d)) for counts k (..., n): every client with its own compressor."""
    alpha = k / problem.d
    xi = (1 + np.sqrt(1 - alpha)) / alpha - 1
    return np.asarray(1 / (problem.L + (xi * problem.L_i) @ problem.weights.numpy()))


def by_deadline(problem: Any, bandwidth: np.ndarray, fixed: np.ndarray, low: int) -> np.ndarray:
    """Counts k (n,) that minimise EF21's time bound, seconds of a round / step, over common upload deadlines tau.

    bandwidth: (n,) bits per second; fixed: (n,) seconds of a round besides the upload's bits; low: the least k.
    With deadline tau client i sends the largest k that it can upload in tau seconds (everything if that fits). 64 values
    of tau lie log-evenly between the slowest client's smallest and its dense message; ties go to the smaller tau.
    """
    d, slowest = problem.d, float(bandwidth.min())
    if np.isinf(slowest):
        return np.full(problem.n, d)
    bits = np.append(0, topk_bits(d))  # by k; dense, bits[d], is 32 d
    tau = np.geomspace(min(bits[low], bits[d]) / slowest, bits[d] / slowest, GRID)
    k = np.maximum(k_within(tau[:, None] * bandwidth, d), low)  # (64, n)
    k = np.where(bits[k] >= bits[d], d, k)
    seconds = (fixed + bits[k] / bandwidth).max(axis=1)
    return np.asarray(k[int(np.argmin(seconds / step_of(k, problem)))])


def safe_step(k: np.ndarray, least: np.ndarray, lr: float, problem: Any) -> tuple[float, np.ndarray]:
    """The step for new counts k (n,) in multiples of 1/L, and the least counts that it answers for.

    Down at once, to the step of the worst counts so far, `least`; up only by 1.25 times or more, and from then on it
    answers for counts from k on.
    """
    fresh = float(step_of(k, problem)) * problem.L
    if fresh >= 1.25 * lr:
        return fresh, k
    worst = np.minimum(k, least)
    return float(step_of(worst, problem)) * problem.L, worst


def probed(k: np.ndarray, latency: np.ndarray, low: int, d: int) -> np.ndarray:
    """Counts k (n,), but at least 2 low where the latency cannot be told yet: that takes two messages of different size."""
    return np.where(np.isnan(latency), np.maximum(k, min(2 * low, d)), k)


def remarks(payload: Any) -> dict[str, float]:
    """What the history shows of a round's messages: counts kept, and the realised alpha."""
    if not isinstance(payload, Ragged) or len(payload) == 0:
        return {}
    k = payload.counts.sum(-1).double()
    said = {"k_min": float(k.min()), "k_mean": float(k.mean()), "k_max": float(k.max())}
    if payload.alpha is not None:
        said |= {"alpha_min": float(payload.alpha.min()), "alpha_mean": float(payload.alpha.mean())}
    return said


def fixed_seconds(fed: Federation, latency: np.ndarray) -> np.ndarray:
    """(n,) seconds of a round besides the upload's bits: hearing the model and one number, computing, two latencies.

    latency: (n,) of the uplink; NaN counts as none.
    """
    fleet, everybody = fed.fleet, fed.everybody
    own = fleet.of("latency", everybody)
    work = fed.problem.sizes if fleet.unit == "sample" else 1.0
    down = 32 * (fed.d + 1) / fleet.of("down", everybody) + own
    seconds = down + work * fleet.of("seconds", everybody) + np.nan_to_num(latency)
    return np.broadcast_to(np.asarray(seconds, dtype=np.float64), (fed.n,))


def unknown_links(n: int) -> torch.Tensor:
    """Links of which nothing is known yet, (4, n): see `measured_links`."""
    links = torch.zeros(4, n, dtype=torch.float64)
    links[1] = torch.nan
    return links


def known_links(fed: Federation) -> torch.Tensor:
    """The fleet's links as (4, n): see `measured_links`."""
    links = unknown_links(fed.n)
    links[0] = torch.as_tensor(np.asarray(fed.fleet.of("up", fed.everybody), dtype=np.float64))
    links[1] = torch.as_tensor(np.asarray(fed.fleet.of("latency", fed.everybody), dtype=np.float64))
    return links


def measured_links(links: torch.Tensor, replies: Replies) -> torch.Tensor:
    """Estimates after an upload, (4, n): bits per second (0: never heard), latency (NaN: cannot be told yet), and the
    smallest message's bits and seconds.

    speed <- 0.7 speed + 0.3 bits/(seconds - latency), the first being the first measurement. A message of another size
    gives the latency: what is left of the smallest's time at the speed between the two.
    """
    if len(replies) == 0 or replies.payload is None:
        return links
    out, who = links.clone(), torch.from_numpy(replies.clients)
    bits = replies.payload.bits.to(torch.float64)
    seconds = torch.zeros_like(bits) if replies.seconds is None else torch.as_tensor(np.array(replies.seconds))
    speed, latency, least_bits, least_seconds = links[:, who]
    first = speed == 0
    smaller = first | (bits < least_bits)
    gap = (bits - least_bits).abs()
    slope = (seconds - least_seconds).abs() / gap.clamp(min=1)
    small_bits, small_seconds = torch.where(smaller, bits, least_bits), torch.where(smaller, seconds, least_seconds)
    fitted = (small_seconds - slope * small_bits).clamp(min=0)
    latency = torch.where(first | (gap == 0), latency, fitted)
    now = bits / (seconds - latency.nan_to_num()).clamp(min=0)  # no time at all: no limit
    out[:, who] = torch.stack([torch.where(first, now, 0.7 * speed + 0.3 * now), latency, small_bits, small_seconds])
    return out
