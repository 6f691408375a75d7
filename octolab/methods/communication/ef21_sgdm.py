r"""EF21-SGDM: EF21 on a client's running average of stochastic gradients, which makes small batches work.

Paper: Momentum Provably Improves Error Feedback!
Authors: Ilyas Fatkhullin, Alexander Tyurin, Peter Richtárik
Venue: NeurIPS 2023
arXiv: 2305.15155
Solves: error feedback with minibatches of any size, down to one sample
Use: networks and other stochastic problems, heterogeneous data, everybody takes part
Avoid: exact gradients (use EF21); client sampling
Assumes: f is L-smooth and f_i is L_i-smooth, convex or not; C is contractive; gradient noise of variance sigma^2
Algorithm:
    v_i = g_i = a large-batch gradient at x0, g = mean g_i  (double: u_i = v_i)
    for t = 0, 1, ...:
        server: x <- x - lr * g, sends x
        client i: v_i <- (1 - eta) v_i + eta (a batch gradient of f_i at x)
            single (SGDM): c_i = C(v_i - g_i);   double (SGD2M): u_i <- (1 - eta) u_i + eta v_i, c_i = C(u_i - g_i)
            g_i <- g_i + c_i, sends c_i
        server: g <- g + mean c_i
Up: one compressed vector per client and round, and d numbers once at the start
Down: d numbers
Step size: min(alpha/(20 M), eta/(7 L)), M = sqrt(mean L_i^2)
Theorem: $E|\nabla f|^2 = O\left(\frac{\Psi_0}{\gamma T} + \frac{\eta^3\sigma^2}{\alpha^2} + \frac{\eta^2\sigma^2}{\alpha} +
    \frac{\eta\sigma^2}{n}\right)$ at an iterate drawn at random: the floor falls with $\eta$, and with $n$
Unconfirmed: the constants 20 and 7, and the rate, which are recalled, and stated for SGDM; SGD2M is unstable from lr L = 2 eta on
"""

from __future__ import annotations

from octolab.compressors import TopK
from octolab.methods.page import Cohort, Compressor, Constants, Federation, Method, NamedTuple, Theory, param, torch
from octolab.payloads import Payload


class State(NamedTuple):
    x: torch.Tensor
    g: torch.Tensor  # the server's copy of mean g_i


class EF21SGDM(Method):
    slug = "ef21-sgdm"
    needs = ("contractive", "full participation")
    tags = ("heterogeneous", "nonconvex", "biased compression", "error feedback", "stochastic", "momentum", "networks")

    compressor: Compressor = param(TopK(0.05), "contractive compressor C", main=True)
    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    eta: float = param(0.1, "weight of the newest gradient; 1/eta is the average's window", gt=0, le=1, main=True)
    batch_size: int | None = param(32, "samples per gradient; None: all", ge=1, main=True)
    momentum: str = param("single", "averages before compressing: SGDM or SGD2M", choices=("single", "double"))
    start_batch: int | None = param(None, "samples of the first gradient; None: all", ge=1)

    def stepsize(self, problem: Constants) -> float:
        return min(self.compressor.contraction(problem.d) / (20 * problem.L_qm), self.eta / (7 * problem.L))

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, g=fed.call(self.begin, fed.x0).weighted_sum())

    def relations(self, fed: Federation, s: State) -> dict[str, torch.Tensor]:
        return {"g = mean g_i": s.g - fed.mean_of("g")}

    def step(self, fed: Federation, s: State) -> State:
        x = s.x - self.lr * s.g
        return State(x=x, g=s.g + fed.call(self.client, x).weighted_sum())

    def begin(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        v = cohort.grad(x, cohort.batch(self.start_batch))
        cohort.memory.v, cohort.memory.g = v, v.clone()
        if self.momentum == "double":
            cohort.memory.u = v.clone()
        return v

    def client(self, cohort: Cohort, x: torch.Tensor) -> Payload:
        memory, g = cohort.memory, cohort.memory.g
        fresh = cohort.grad(x, cohort.batch(self.batch_size))
        memory.v = sent = torch.lerp(memory.v, fresh, self.eta)
        if self.momentum == "double":
            memory.u = sent = torch.lerp(memory.u, sent, self.eta)
        c = self.compressor(sent - g, cohort)
        memory.g = g + c
        return c
