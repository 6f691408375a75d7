r"""DP-Clip21: Clip21 whose messages carry Gaussian noise.

Paper: Clip21: Error Feedback for Gradient Clipping
Authors: Sarit Khirirat, Eduard Gorbunov, Samuel Horváth, Rustem Islamov, Fakhri Karray, Peter Richtárik
Venue: preprint, 2023
arXiv: 2305.18929
Solves: local differential privacy without the bias of clipping
Use: a server that is not trusted, heterogeneous data, full participation
Avoid: many rounds at a small epsilon: each message is noisy for itself, sqrt(n) times worse than a trusted server
Assumes: as Clip21; amplification by sampling is not claimed
Algorithm:
    as Clip21, but client i sends c_i + e_i, e_i ~ N(0, (z tau)^2 I), and
    noise_in_state: v_i <- v_i + c_i + e_i (v = mean v_i stays exact, only fresh noise is left);
    otherwise v_i <- v_i + c_i (the server's v is off by the sum of all past noise: a random walk)
    Which of the two the paper takes is UNCONFIRMED; the first is the default, the second shows why
Up: d numbers per client
Down: d numbers
Step size: as Clip21's, a heuristic here
Theorem: $(\varepsilon, \delta)$ of every client against the server: messages of norm at most tau, one client's data replaced,
    z/2 per round over all rounds that happened
"""

from __future__ import annotations

from octolab.methods.page import Cohort, Federation, Problem, param, torch
from octolab.methods.theory.privacy import check_bounded, clipped, local
from octolab.methods.trust.clip21 import Clip21, State
from octolab.trust.accounting import Guarantee

__all__ = ["DPClip21", "State"]


class DPClip21(Clip21):
    slug = "dp-clip21"
    tags = ("heterogeneous", "nonconvex", "error feedback", "privacy")

    noise_multiplier: float = param(0.5, "z, a message's noise over tau; 0: none, and no privacy", ge=0, main=True)
    noise_in_state: bool = param(True, "whether v_i holds the noise that was sent", main=True)
    accountant: str = param("pld", "how epsilon is counted", choices=("pld", "rdp"))

    def check(self, problem: Problem) -> None:
        super().check(problem)
        check_bounded("DPClip21", "tau", self.tau, self.noise_multiplier)

    def guarantee(self, problem: Problem, s: State, delta: float) -> Guarantee:
        return local(self.noise_multiplier, int(s.releases), delta, self.accountant)

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"v = mean v_i": s.v - fed.mean_of("v")} if self.noise_in_state else {}

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        v = cohort.memory.v
        c = clipped(cohort.grad(x, cohort.batch(self.batch_size)) - v, self.tau)
        sent = (
            c + self.noise_multiplier * self.tau * cohort.normal(cohort.d, "noise").to(c)
            if self.noise_multiplier
            else c
        )
        cohort.memory.v = v + (sent if self.noise_in_state else c)
        return sent
