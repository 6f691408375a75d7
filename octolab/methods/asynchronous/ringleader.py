r"""Ringleader ASGD: asynchronous SGD for heterogeneous data: a table with a place for every client, nothing discarded.

Paper: Ringleader ASGD: The First Asynchronous SGD with Optimal Time Complexity under Data Heterogeneity
Authors: Artavazd Maranjyan, Peter Richtárik
Venue: ICLR 2026
arXiv: 2509.22860
Solves: unequal devices with data of their own, in optimal time, without knowing any speed
Use: heterogeneous data, noisy gradients; the default asynchronous method there
Avoid: the same data everywhere (Ringmaster waits for nobody); a device that never answers
Assumes: |grad f(x) - sum w_i grad f_i(y_i)|^2 <= L^2 sum w_i |x - y_i|^2; variance at most sigma^2
Algorithm:
    G_i, b_i = 0 for this round, G_i+, b_i+ = 0 for the next; everybody starts at x0
    phase 1: until every b_i > 0: on arrival (i, g): G_i += g, b_i += 1; i goes on at the point that it holds
    phase 2, n steps: the client that ended phase 1 first, then each other client once, on its first arrival now
        (which counts: G_i += g, b_i += 1):  x <- x - lr sum_i w_i G_i/b_i, and i starts at the new x
        other arrivals count for the next round: G_i+ += g, b_i+ += 1, and i goes on at the point that it holds
    then (G, b) <- (G+, b+), (G+, b+) <- 0
Up: d numbers per arrival
Down: d numbers to each client once a round
Step size: min(1/(8 n L), eps B/(10 L sigma^2)), B a bound from below on the harmonic mean of the b_i
Theorem: $\frac1K\sum_{k<K} E|\nabla f(x_k)|^2 \le \varepsilon$ in
    $O(\frac{L\Delta}\varepsilon(\tau_n + \bar\tau\frac{\sigma^2}{n\varepsilon}))$ seconds,
    $\Delta = f(x_0) - \inf f$; delays are at most $2n - 2$, and $n$ steps take at most $2\tau_n$ seconds
Unconfirmed: the form with weights is ours (the paper's are 1/n)
"""

from __future__ import annotations

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    k: int  # version of the server model
    G: torch.Tensor  # (n, d) sums of gradients of this round
    b: torch.Tensor  # (n,) how many they are
    G_next: torch.Tensor
    b_next: torch.Tensor
    left: torch.Tensor  # (n,) whose turn in phase 2 is still to come; nobody's: phase 1


class Ringleader(Method):
    slug = "ringleader"
    needs = ("full participation",)
    tags = ("asynchronous", "stochastic", "heterogeneous", "nonconvex", "networks")

    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    batch_size: int | None = param(1, "samples per gradient; None: all", ge=1, main=True)
    B: float = param(1.0, "harmonic mean of the b_i that the theory step counts on", ge=1)
    eps: float | None = param(None, "target for |grad f|^2 in the theory step; None: ignore the noise", gt=0)

    def stepsize(self, problem: Constants) -> float:
        L, lr = problem.L_qm, 1 / (8 * problem.n * problem.L_qm)
        if self.eps is not None:
            lr = min(lr, self.eps * self.B / (10 * L * max(problem.variance(self.batch_size), 1e-300)))
        return lr

    def init(self, fed: Federation) -> State:
        for i in fed.clients:
            self.send(fed, i, fed.x0, 0)
        table, counts = fed.x0.new_zeros(fed.n, fed.d), fed.x0.new_zeros(fed.n)
        return State(fed.x0, 0, table, counts, table.clone(), counts.clone(), counts.bool())

    def step(self, fed: Federation, s: State) -> State:
        G, b, G_next, b_next, left = (part.clone() for part in s[2:])
        collecting = not bool(left.any())
        while True:
            job = fed.next()
            i = job.client
            if collecting or bool(left[i]):
                G[i] += job.result
                b[i] += 1
            else:
                G_next[i] += job.result
                b_next[i] += 1
            if bool(left[i]) or (collecting and bool(b.min() > 0)):
                break
            fed.expect(int((b if collecting else ~left).to(torch.uint8).argmin()))
            self.send(fed, i, job.down[0], job.tag)
        if collecting:
            left[:] = True
        left[i] = False
        x, k = s.x - self.lr * (fed.weights @ (G / b[:, None])), s.k + 1
        fed.log(delay=s.k - job.tag, version=k)
        self.send(fed, i, x, k)
        if not bool(left.any()):
            G, b, G_next, b_next = G_next, b_next, torch.zeros_like(G), torch.zeros_like(b)
        return State(x, k, G, b, G_next, b_next, left)

    def send(self, fed: Federation, i: int, x: torch.Tensor, k: int) -> None:
        fed.submit(i, self.client, x, tag=k, work=fed.work_of(i, 1, self.batch_size))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(self.batch_size))
