r"""FedNL: Newton's method with learned, compressed Hessians.

Paper: FedNL: Making Newton-Type Methods Applicable to Federated Learning
Authors: Mher Safaryan, Rustem Islamov, Xun Qian, Peter Richtárik
Venue: ICML 2022
arXiv: 2106.02969
Solves: ill-conditioned, strongly convex problems of moderate d, at rates independent of the condition number
Use: logistic regression and its kin with d up to about 2000; line_search=True when started far from the optimum
Avoid: networks (d x d numbers per client); far starts without line search: plain FedNL is a local method
Assumes: f is mu-strongly convex, Hessians are Lipschitz; heterogeneous data are fine
Algorithm:
    H_i = hess f_i(x0), H = mean H_i
    for t = 0, 1, ...:
        server sends x
        client i: S_i = C(hess f_i(x) - H_i), l_i = |hess f_i(x) - H_i|_F; sends grad f_i(x), S_i, l_i; H_i <- H_i + alpha S_i
        server: x <- x - [H]_mu^-1 g (option 1: eigenvalues below mu lifted to mu) or x - (H + l I)^-1 g (option 2);
            then H <- H + alpha mean S_i
    line_search: clients send f_i(x) too; the largest s in 1, 1/2, 1/4, ... with f(x + s v) <= f(x) + c s <g, v>
Up: d numbers, a compressed symmetric matrix, one number for option 2 and one for the line search (and one per trial);
    d(d+1)/2 numbers once at the start
Down: d numbers (with line search d more, and one per trial)
Step size: 1; alpha = 1 for contractive C, 1/(1 + omega) for unbiased ones. For the line search take c = 0.1: the default 1/2 is
    the authors', and just what a Newton step of 1 gains on a quadratic, f(x + v) = f(x) + <g, v>/2, so that near the
    optimum it is refused again and again
Theorem: local: with $\mathcal H = \frac1n\sum_i |H_i - \nabla^2 f_i(x^*)|_F^2$, $|x_0 - x^*|^2 \le \frac{\mu^2}{2D}$ and
    $\mathcal H \le \frac{\mu^2}{4C}$ all along: $|x_k - x^*|^2 \le 2^{-k}|x_0 - x^*|^2$, then superlinear: both
    $\mathcal H + 6BL_F^2|x_k - x^*|^2$ and $|x_{k+1} - x^*|^2/|x_k - x^*|^2$ shrink by $1 - \min(A, \frac13)$.
    $(C, D) = (2, L_*^2)$ in option 1, $(8, (L_* + 2L_F)^2)$ in option 2;
    $(A, B) = (\frac\delta4, \frac6\delta - \frac72)$ for $\delta$-contractive C, $(\alpha, \alpha)$ for unbiased ones
Unconfirmed: the global constants of the line search; the constants of the local theorem are recalled
"""

from __future__ import annotations

from typing import Any

import numpy as np

from octolab.compressors import MatrixTopK, RankR
from octolab.methods.page import Cohort, Compressor, Constants, Federation, Method, NamedTuple, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    H: torch.Tensor  # (d, d), the server's copy of mean H_i


class FedNL(Method):
    slug = "fednl"
    start_here = True
    needs = ("hessian", "strongly convex")
    tags = ("heterogeneous", "convex", "second order", "biased compression")

    compressor: Compressor = param(RankR(1), "compressor of symmetric matrices", main=True)
    option: int = param(1, "1: project H onto eigenvalues >= mu; 2: add l I", choices=(1, 2), main=True)
    alpha: Theory[float] = param(Theory(), "step of the Hessian learning", gt=0, le=1)
    start: str = param("hessian", "H_i at the start", choices=("hessian", "zero"))
    line_search: bool = param(False, "shorten steps that do not descend", main=True)
    mu: Theory[float] = param(Theory(), "lower bound on eigenvalues (option 1)", gt=0)
    c: float = param(0.5, "share of the slope that a step must gain (line search); 0.1 is better", gt=0, lt=1)

    def theory_alpha(self, problem: Constants) -> float:
        C = self.compressor
        return 1 / (1 + C.variance(problem.d)) if C.unbiased else 1.0

    def theory_mu(self, problem: Constants) -> float:
        return problem.mu

    def init(self, fed: Federation) -> State:
        sent = fed.call(self.begin, fed.x0)
        return State(x=fed.x0, H=sent.weighted_sum() if self.start == "hessian" else fed.x0.new_zeros(fed.d, fed.d))

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"H = mean H_i": s.H - fed.mean_of("H")}

    def step(self, fed: Federation, s: State) -> State:
        gs, S, *own = fed.call(self.client, s.x)
        g, numbers = gs.mean(), own[0].mean() if own else None  # what is sent beside: l_i (option 2), f_i (line search)
        v = -self.solve(s.H, numbers, g)
        length = self.search(fed, v, g, numbers, None if len(gs) == fed.n else gs.clients) if self.line_search else 1.0
        return State(x=s.x + length * v, H=s.H + self.alpha * S.weighted_sum())

    def solve(self, H: torch.Tensor, numbers: torch.Tensor | None, g: torch.Tensor) -> torch.Tensor:
        if self.option == 2 and numbers is not None:
            return torch.linalg.solve(H + numbers[0] * torch.eye(len(g), dtype=g.dtype), g)
        values, vectors = torch.linalg.eigh((H + H.T) / 2)
        return vectors @ ((vectors.T @ g) / values.clamp(min=self.mu))

    def search(self, fed: Federation, v: torch.Tensor, g: torch.Tensor, numbers: Any, to: np.ndarray | None) -> float:
        fed.call(self.hold, v, to=to)
        f, slope, s = float(numbers[-1]), float(g @ v), 1.0
        while s > 1e-10 and float(fed.call(self.trial, s, to=to).mean()) > f + self.c * s * slope:
            s /= 2
        return s

    def begin(self, cohort: Cohort, x: torch.Tensor) -> Any:
        if self.start == "zero":
            cohort.memory.H = cohort.zeros(cohort.d, cohort.d)
            return None
        H = cohort.hessian(x)
        cohort.memory.H = H
        return MatrixTopK(cohort.d * (cohort.d + 1) // 2)(H)  # the whole upper triangle

    def client(self, cohort: Cohort, x: torch.Tensor) -> tuple[Any, ...]:
        H = cohort.memory.H
        gap = cohort.hessian(x) - H
        gap = (gap + gap.mT) / 2  # near the optimum rounding is all that is left, and it is not symmetric
        S = self.compressor(gap, cohort)
        cohort.memory.H = H + self.alpha * S.dense()
        numbers = [gap.flatten(1).norm(dim=1)] if self.option == 2 else []
        if self.line_search:
            cohort.memory.x = x.expand(cohort.m, -1)
            numbers.append(cohort.loss(x))
        return (cohort.grad(x), S, torch.stack(numbers, 1)) if numbers else (cohort.grad(x), S)

    def hold(self, cohort: Cohort, v: torch.Tensor) -> None:
        cohort.memory.v = v.expand(cohort.m, -1)

    def trial(self, cohort: Cohort, s: float) -> torch.Tensor:
        return cohort.loss(cohort.memory.x + s * cohort.memory.v)
