r"""IA2SGD: asynchronous incremental aggregation: the newest gradient of every client, averaged at every arrival.

Paper: Ringleader ASGD: The First Asynchronous SGD with Optimal Time Complexity under Data Heterogeneity
Authors: Artavazd Maranjyan, Peter Richtárik
Venue: ICLR 2026
arXiv: 2509.22860
Solves: heterogeneous data without waiting in every round: a table of gradients, one place a client
Use: as the baseline beside Ringleader
Avoid: noisy gradients and slow devices: a place holds one gradient, however long its client needs
Assumes: f_i is L_i-smooth; stochastic gradients with variance at most sigma^2
Algorithm:
    everybody starts at x0; until every client has answered once, x rests and who answers goes on at x0
    then on arrival (i, g): table_i <- g;  x <- x - lr sum_i w_i table_i;  i starts at the new x
Up: d numbers per arrival
Down: d numbers per start at a new point
Step size: 1/(8 n L), Ringleader's without its noise term
Theorem: none for this page; the paper has it as the baseline whose time depends on the slowest device's noise
Unconfirmed: the step size (tune lr); what clients do until the table is full
"""

from __future__ import annotations

from octolab.methods.page import Cohort, Constants, Federation, Method, NamedTuple, Theory, param, torch


class State(NamedTuple):
    x: torch.Tensor
    k: int  # version of the server model
    table: torch.Tensor  # (n, d) everybody's newest gradient
    filled: torch.Tensor  # (n,) who has answered


class IA2SGD(Method):
    slug = "ia2sgd"
    needs = ("full participation",)
    tags = ("asynchronous", "stochastic", "heterogeneous", "nonconvex", "networks")

    lr: Theory[float] = param(Theory(), "step size", gt=0, main=True)
    batch_size: int | None = param(1, "samples per gradient; None: all", ge=1, main=True)

    def stepsize(self, problem: Constants) -> float:
        return 1 / (8 * problem.n * problem.L_qm)

    def init(self, fed: Federation) -> State:
        for i in fed.clients:
            self.send(fed, i, fed.x0, 0)
        return State(fed.x0, 0, fed.x0.new_zeros(fed.n, fed.d), fed.x0.new_zeros(fed.n).bool())

    def step(self, fed: Federation, s: State) -> State:
        table, filled = s.table.clone(), s.filled.clone()
        while True:
            job = fed.next()
            table[job.client] = job.result
            filled[job.client] = True
            if bool(filled.all()):
                break
            fed.expect(int(filled.to(torch.uint8).argmin()))
            self.send(fed, job.client, job.down[0], job.tag)
        s = State(s.x - self.lr * (fed.weights @ table), s.k + 1, table, filled)
        fed.log(delay=s.k - 1 - job.tag, version=s.k)
        self.send(fed, job.client, s.x, s.k)
        return s

    def send(self, fed: Federation, i: int, x: torch.Tensor, k: int) -> None:
        fed.submit(i, self.client, x, tag=k, work=fed.work_of(i, 1, self.batch_size))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(self.batch_size))
