r"""CompressedScaffnew: Scaffnew whose clients share out the coordinates, s clients for each.

Paper: Provably Doubly Accelerated Federated Learning: The First Theoretically Successful Combination of Local Training and
    Communication Compression
Authors: Laurent Condat, Ivan Agarský, Peter Richtárik
Venue: preprint, 2022
arXiv: 2210.13277
Solves: the uplink of Scaffnew: each client sends about s/n of its coordinates, and everybody takes the average of all
Use: strongly convex problems, everybody takes part, the uplink is the bottleneck
Avoid: client sampling (TAMUNA), other compressors (LoCoDL), networks (a heuristic there); a downlink that costs as much
Assumes: f_i is L-smooth and mu-strongly convex; at least two clients; the rate holds for equal weights (it converges for any)
Algorithm:
    x_i = x0, h_i = 0
    for t = 0, 1, ...: (a step, not a communication)
        client i: z_i = x_i - lr (grad f_i(x_i) - h_i)
        shared coin, P(1) = p.  0: x_i <- z_i
        1: a mask with exactly s clients for each coordinate: coordinate j has the seats js, ..., js + s - 1 mod n, on which a
            shared permutation puts the clients; client i sends the coordinates of z_i that are its own
           server: xbar_j = mean of z_j over the s owners of j; sends xbar
           x_i <- xbar, h_i <- h_i + (p eta/lr) mask_i (xbar - z_i)
Up: about s d/n numbers per client on coin 1; positions are known from the shared seed
Down: d numbers on coin 1 (and x0 once)
Step size: 2/(L + mu), L = max L_i; eta = n (s - 1)/(s (n - 1)); p balances the two terms of the rate; s = max(2, n/d)
Theorem: $E\Psi_t \le \tau^t\Psi_0$, $\tau = \max\{(1 - \gamma\mu)^2, (1 - \gamma L)^2, 1 - p^2\eta\frac{s-1}{n-1}\}$,
    $\Psi = \sum_i |x_i - x^*|^2 + \frac{\gamma^2 (n-1)}{p^2\eta(s-1)}\sum_i |h_i - \nabla f_i(x^*)|^2$ for $\gamma < 2/L$
Unconfirmed: the default of s (recalled); the form of the rate is re-derived and measured, not read
"""

from __future__ import annotations

from dataclasses import replace

from octolab.errors import OutsideAssumptions
from octolab.federation import Replies
from octolab.methods.local_training.scaffnew import Scaffnew
from octolab.methods.page import Cohort, Constants, Problem, Theory, param, torch
from octolab.methods.theory.local_steps import balanced
from octolab.payloads import Sparse


class CompressedScaffnew(Scaffnew):
    slug = "compressed-scaffnew"
    needs = ("strongly convex", "full participation")
    tags = ("heterogeneous", "convex", "local steps", "accelerated communication", "unbiased compression")

    s: Theory[int] = param(Theory(), "clients that send each coordinate, up to n (Scaffnew)", ge=2, main=True)
    eta: Theory[float] = param(Theory(), "step of the shifts h_i, in units of p/lr", gt=0, le=1)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if problem.n < 2:
            raise OutsideAssumptions(
                f"CompressedScaffnew shares out coordinates among clients, and {problem.name} has only one: use Scaffnew."
            )
        if not isinstance(self.s, Theory) and self.s > problem.n:
            raise ValueError(f"CompressedScaffnew: s={self.s}: there are {problem.n} clients; give 2 to {problem.n}.")

    def theory_s(self, problem: Constants) -> int:
        return min(problem.n, max(2, problem.n // problem.d))

    def stepsize(self, problem: Constants) -> float:
        mu = problem.mu_min
        return 2 / (problem.L_max + mu) if mu else 1 / problem.L_max

    def theory_eta(self, problem: Constants) -> float:
        return problem.n * (self.s - 1) / (self.s * (problem.n - 1))

    def theory_p(self, problem: Constants) -> float:
        return balanced(self.lr, problem.mu_min, (problem.n - 1) / (self.eta * (self.s - 1)))

    def rate(self, problem: Constants) -> float | None:
        mu, L, equal = problem.mu_min, problem.L_max, problem.n * float(problem.weights.max()) < 1 + 1e-9
        proved = equal and self.batch_size is None and self.lr * L < 2 and self.eta <= self.theory_eta(problem) + 1e-12
        if not mu or not proved:
            return None
        agree = self.p**2 * self.eta * (self.s - 1) / (problem.n - 1)
        return max((1 - self.lr * mu) ** 2, (1 - self.lr * L) ** 2, 1 - agree)

    def average(self, sent: Replies, x: torch.Tensor) -> torch.Tensor:
        sparse: Sparse = sent.payload  # type: ignore[assignment]
        owners = replace(sparse, values=filled(sparse).to(x.dtype)).sum(sent.weights)
        return torch.where(owners > 0, sent.weighted_sum() / owners, x)  # nobody brought this coordinate: it stays

    def own(self, cohort: Cohort) -> torch.Tensor:
        """(m, ceil(s d/n)): the coordinates of each client this time; -1 where one has fewer than others."""
        seat = cohort.shared_permutation(cohort.n)[torch.from_numpy(cohort.ids)]
        size = self.s * cohort.d  # held are s d places, and each client has every n-th of them
        place = seat[:, None] + torch.arange(0, size, cohort.n, device=seat.device)
        return torch.where(place < size, place // self.s, -1)

    def send(self, cohort: Cohort) -> Sparse:
        cohort.memory.own = own = self.own(cohort)
        at, held = own.clamp(min=0), own >= 0
        cohort.memory.sent = sent = self.ahead(cohort).gather(1, at) * held
        return Sparse(sent, at, cohort.d, index="none", count=held.sum(1))

    def receive(self, cohort: Cohort, x: torch.Tensor) -> None:
        own, pull = cohort.memory.own, self.p * self.eta / self.lr
        at, held = own.clamp(min=0), own >= 0
        cohort.memory.h = cohort.memory.h.scatter_add_(1, at, pull * (x[at] - cohort.memory.sent) * held)
        cohort.memory.x = x.expand(cohort.m, -1)


def filled(message: Sparse) -> torch.Tensor:
    """(m, k) bool: the places of sparse messages that are no padding."""
    assert message.count is not None
    return torch.arange(message.k, device=message.count.device) < message.count[:, None]
