r"""EF21-adaptive: EF21 in which every client compresses as its own link deserves, round by round.

Paper: none: octolab's own minimisation of EF21's time bound, after Kimad: Adaptive Gradient Compression with Bandwidth Awareness
Authors: octolab; EF21: Richtárik, Sokolov, Fatkhullin; Kimad: Jihao Xin, Ivan Ilin, Shunkang Zhang, Marco Canini, Peter Richtárik
Venue: Kimad: DistributedML 2023, arXiv 2312.08053; EF21: NeurIPS 2021
arXiv: none
Solves: links of very different speed: with one k for all the slowest client sets everybody's pace and precision
Use: biased compression, everybody takes part, time on the clock counts. The product switch compression="adaptive"
Avoid: equal or unlimited links (EF21 is the same and simpler); unbiased methods, whose steps need the worst omega
Assumes: as EF21, which any client- and time-varying compressor keeps as long as alpha_i stays above some alpha_min
Algorithm:
    EF21 in which client i has its own C_i: c_i = C_i(grad f_i(x) - g_i), set by one number that comes with x
    rule "theory": every `retune` rounds k_i(tau) = the most that client i uploads in tau seconds; tau minimises (seconds of a
        round)/lr(tau), lr(tau) = 1/(L + mean L_i xi(k_i/d)); lr falls at once and rises by 1.25 times at least
    rule "balanced": client i takes the k with the most captured energy |C(v)|^2/|v|^2 per second of its round
    rule "latency" (Kimad): a message fits `seconds` of upload (and `bits`): the largest k; or the best k and number of bits
        together; or the layers' shares, by an exact knapsack on the squared error
Up: one sparse vector of its own length per client and round; its length travels too, unless the server set it
Down: d numbers and one number
Step size: rule "theory": lr is the step of uncompressed rounds, 1/L, and the rule shrinks it to lr(tau). Else EF21's for the
    worst case alpha = kmin/d: very small, tune it as SGD's
Theorem: (ours) $\frac1T\sum_{t<T}|\nabla f(x_t)|^2 \le \frac{2\Psi_0}{\gamma T}$ for $\gamma \le \frac{1}{L + S}$,
    $S = \sum_i w_i L_i\,\xi(\alpha_i)$, $\alpha_i$ the worst ever used by client $i$,
    $\Psi = f - f^* + \frac{\gamma S}{2}\sum_i \frac{w_i}{L_i\xi(\alpha_i)\theta_i}|g_i - \nabla f_i|^2$;
    so the time to an accuracy is proportional to (seconds of a round)$/\gamma$
Unconfirmed: no paper prescribes rule "theory"; rule "balanced" has no theorem beyond alpha >= kmin/d
"""

from __future__ import annotations

import dataclasses

import numpy as np

from octolab.compressors.rows import BalancedTopK, FittedTopKQSGD, LayerTopK, RowTopK, k_within, topk_bits
from octolab.errors import UnknownConstant
from octolab.federation import Each
from octolab.federation.replies import Replies
from octolab.methods.constants import Known
from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Problem, Reply, Theory, param, torch
from octolab.methods.theory.error_feedback import xi
from octolab.payloads import Payload, Ragged


class State(NamedTuple):
    x: torch.Tensor
    g: torch.Tensor
    t: int
    lr: float  # the step in use
    budget: torch.Tensor  # (n,) what each client gets: its k, its budget in bits, or its idle bits
    least: torch.Tensor  # (n,) the least k since lr was raised
    links: torch.Tensor  # (4, n) what the server knows of the links, see `measured_links`


class EF21Adaptive(Method):
    slug = "ef21-adaptive"
    needs = ("full participation",)
    tags = ("heterogeneous", "nonconvex", "biased compression", "error feedback", "adaptive", "devices")

    rule: str = param("auto", "how k_i is chosen", choices=("auto", "theory", "balanced", "latency"), main=True)
    lr: Theory[float] = param(Theory(), "step size (rule theory: of uncompressed rounds)", gt=0, main=True)
    kmin: int = param(1, "entries that every message holds at least", ge=1)
    retune: int = param(10, "rounds between two plans of the server", ge=1)
    bandwidth: str = param("known", "where speeds come from", choices=("known", "measured"))
    seconds: float = param(1.0, "time budget of an upload (rule latency)", gt=0, main=True)
    bits: int | None = param(None, "budget of a message in bits (rule latency); None: only time counts", ge=1)
    spend: str = param("k", "what the budget is divided among (rule latency)", choices=("k", "k and bits", "layers"))
    start: str = param("compressed", "g_i at the start", choices=("gradient", "compressed", "zero"))
    batch_size: int | None = param(None, "samples per gradient; None: all", ge=1)

    def resolve(self, problem: Problem) -> Method:
        """rule "auto" is "theory" with a step from theory, which takes the same constants, else "balanced"."""
        if self.rule != "auto":
            return super().resolve(problem)
        rule = "theory" if isinstance(self.lr, Theory) else "balanced"
        return dataclasses.replace(self, rule=rule).resolve(problem)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if self.kmin > problem.d:
            raise ValueError(f"EF21Adaptive: kmin={self.kmin}: give 1 to {problem.d}, the model's number of entries.")
        if self.rule == "theory" and problem.L_i is None:
            raise UnknownConstant(
                f"EF21Adaptive: rule='theory' needs the constants L and L_i, and those of {problem.name} are unknown. Use "
                f"rule='balanced' or 'latency', and give lr as a number."
            )

    def stepsize(self, problem: Constants) -> float:
        if self.rule == "theory":
            return 1 / problem.L
        low = 1 if self.spend == "layers" else self.kmin
        return 1 / (problem.L + problem.L_mean * xi(low / problem.d))

    def init(self, fed: Federation) -> State:
        links = known_links(fed) if self.bandwidth == "known" else unknown_links(fed.n)
        least = fed.x0.new_full((fed.n,), fed.d, dtype=torch.int64)
        s = State(fed.x0, torch.zeros_like(fed.x0), 0, 0.0, fed.x0.new_zeros(fed.n, dtype=torch.float64), least, links)
        s = self.plan(fed, s)
        replies = fed.call(self.begin, fed.x0, Each(s.budget))
        return self.received(fed, s._replace(g=replies.weighted_sum()), replies)

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"g = mean g_i": s.g - fed.mean_of("g")}

    def step(self, fed: Federation, s: State) -> State:
        if s.t % self.retune == 0:
            s = self.plan(fed, s)
        x = s.x - s.lr * s.g
        replies = fed.call(self.client, x, Each(s.budget))
        return self.received(fed, s._replace(x=x, g=s.g + replies.weighted_sum(), t=s.t + 1), replies)

    def plan(self, fed: Federation, s: State) -> State:
        """What each client gets to spend, and the step."""
        speed, latency = fed.host(s.links)[:2]
        fixed = fixed_seconds(fed, latency)
        if self.rule == "theory":
            problem: Constants = Known(fed.problem, type(self).__name__)
            k = np.full(fed.n, self.kmin)
            if (speed > 0).all():  # something has come from everybody; else nothing can be planned yet
                k = by_deadline(problem, speed, fixed, self.kmin)
                k = probed(k, latency, self.kmin, fed.d)
            lr, least = safe_step(k, fed.host(s.least), s.lr / self.lr, problem)
            return s._replace(lr=self.lr * lr, budget=fed.place(k).double(), least=fed.place(least))
        if self.rule == "balanced":
            budget = np.where(np.isinf(speed), speed, speed * fixed)
        else:
            budget = np.minimum(speed * self.seconds, np.inf if self.bits is None else self.bits)
            if self.spend == "k":
                k = np.maximum(k_within(budget, fed.d), self.kmin)
                budget = np.where(speed > 0, probed(k, latency, self.kmin, fed.d), k)
        return s._replace(lr=self.lr, budget=fed.place(budget).double())

    def received(self, fed: Federation, s: State, replies: Replies) -> State:
        if self.bandwidth == "measured":
            s = s._replace(links=measured_links(s.links, replies))
        fed.log(**remarks(replies.payload), bandwidth=float(s.links[0].mean()), lr=s.lr)
        return s

    def begin(self, cohort: Cohort, x: torch.Tensor, budget: torch.Tensor) -> Reply:
        if self.start == "zero":
            cohort.memory.g = cohort.zeros()
            return None
        v = cohort.grad(x)
        g = v if self.start == "gradient" else self.message(v, budget, cohort)
        cohort.memory.g = g
        return g

    def client(self, cohort: Cohort, x: torch.Tensor, budget: torch.Tensor) -> Reply:
        g = cohort.memory.g
        c = self.message(cohort.grad(x, cohort.batch(self.batch_size)) - g, budget, cohort)
        cohort.memory.g = g + c
        return c

    def message(self, v: torch.Tensor, budget: torch.Tensor, cohort: Cohort) -> Reply:
        if self.rule == "balanced":
            return BalancedTopK(budget, self.kmin)(v, cohort)
        if self.rule == "latency" and self.spend == "k and bits":
            return FittedTopKQSGD(budget, self.kmin)(v, cohort)
        if self.rule == "latency" and self.spend == "layers":
            return LayerTopK(budget, tuple(q.stop - q.start for q in cohort.layout))(v, cohort)
        return RowTopK(budget.long())(v, cohort)


# -- what the server works out: deadlines and steps from EF21's theorem, and how fast links are --------------------------
GRID = 64  # deadlines that the rule tries


def step_of(k: np.ndarray, problem: Constants) -> np.ndarray:
    """EF21's step 1/(L + sum w_i L_i xi(k_i/d)) for counts k (..., n): every client with its own compressor."""
    alpha = k / problem.d
    xi = (1 + np.sqrt(1 - alpha)) / alpha - 1
    return np.asarray(1 / (problem.L + (xi * problem.L_i) @ problem.weights.numpy()))


def by_deadline(problem: Constants, bandwidth: np.ndarray, fixed: np.ndarray, low: int) -> np.ndarray:
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


def safe_step(k: np.ndarray, least: np.ndarray, lr: float, problem: Constants) -> tuple[float, np.ndarray]:
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
    """Counts k (n,), but at least 2 low where the latency not known yet: that takes two messages of different size."""
    return np.where(np.isnan(latency), np.maximum(k, min(2 * low, d)), k)


def remarks(payload: Payload | None) -> dict[str, float]:
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
    """Estimates after an upload, (4, n): bits per second (0: nothing has come yet), latency (NaN: not known yet), and the
    smallest message's bits and seconds.

    speed <- 0.7 speed + 0.3 bits/(seconds - latency), the first being the first measurement. A message of another size
    gives the latency: what is left of the smallest's time at the speed between the two.
    """
    if len(replies) == 0 or replies.payload is None:
        return links
    out, who = links.clone(), replies.index
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
