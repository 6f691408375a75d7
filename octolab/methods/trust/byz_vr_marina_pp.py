r"""Byz-VR-MARINA-PP: robust although some cohort has a majority of attackers, by clipping gradient differences.

Paper: Byzantine Robustness and Partial Participation Can Be Achieved at Once: Just Clip Gradient Differences
Authors: Grigory Malinovsky, Peter Richtárik, Samuel Horváth, Eduard Gorbunov
Venue: NeurIPS 2024
arXiv: 2311.14127
Solves: attackers and client sampling together: a round without the coin moves g by no more than clip |x+ - x|, whoever is asked
Use: convex problems and small networks, cohorts so small that attackers may be most of one
Avoid: deep networks (use the momentum form, Robust-Momentum)
Assumes: as Byz-VR-MARINA; a full round asks so many that attackers are a minority of them (full_cohort >= n f/(n/2))
Algorithm:
    as Byz-VR-MARINA, but only a cohort S replies: full_cohort clients with the coin, cohort clients without it, and
    server: c = 0: g <- g + rule of clip_l(what came), l = clip |x+ - x|
    x+ is known to all: g and the coin are sent to everybody, not to S alone
Up: a compressed vector per client of S, or d numbers with probability p; d numbers once at the start
Down: d numbers and the coin's bit, to all
Step size: 1/(L (1 + sqrt A)), L = max L_i, A by Theorem 4.1 with clip = 2 L: safe, and a hundred times smaller than what
    works; tune it, and clip in {0.1, 1, 10}. The rules' constant c is UNCONFIRMED, and a field. plus=True (the paper's PP+)
    takes the plain mean of the clipped differences
Theorem: as Byz-VR-MARINA's, with
    $A = \frac{32 p_G G P_i(30\omega+11)(1+2c\delta)}{p^2(1-\delta)C} + \frac{16(1-p_G)(1+4F_A^2)}{p^2}$,
    $p_G$ the probability of a good cohort, $F_A$ how far the rule can be pushed
"""

from __future__ import annotations

import numpy as np

from octolab.federation import Nice
from octolab.federation.replies import Replies
from octolab.methods.page import Constants, Federation, Theory, param, torch
from octolab.methods.trust.byz_vr_marina import ByzVRMARINA
from octolab.trust.aggregators import Clipping, Mean


class ByzVRMARINAPP(ByzVRMARINA):
    slug = "byz-vr-marina-pp"
    tags = ("attackers", "client sampling", "nonconvex", "unbiased compression", "variance reduction")

    cohort: int | float = param(0.2, "C, clients in a round without the coin: a number or a share", gt=0, main=True)
    full_cohort: int | float | None = param(None, "clients in a round with the coin; None: all", gt=0)
    clip: Theory[float] = param(Theory(), "differences are clipped to this times |x+ - x|", gt=0, main=True)
    plus: bool = param(False, "PP+: the plain mean of clipped differences")

    def sizes(self, n: int) -> tuple[int, int]:
        return Nice(self.cohort).size(n), n if self.full_cohort is None else Nice(self.full_cohort).size(n)

    def theory_clip(self, problem: Constants) -> float:
        return 2 * problem.L_max

    def asked(self, fed: Federation, coin: bool, behind: torch.Tensor) -> np.ndarray | None:
        chosen = fed.sample(Nice(self.sizes(fed.n)[coin]))
        return chosen if chosen is None else chosen[~fed.host(behind)[chosen]]

    def change(self, replies: Replies, length: float) -> torch.Tensor:
        if length == 0:
            return torch.zeros_like(replies.stack()[0])
        return replies.aggregate(Clipping(self.clip * length, then=Mean() if self.plus else self.aggregator))
