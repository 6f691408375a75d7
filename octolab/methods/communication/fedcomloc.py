r"""FedComLoc: Scaffnew with sparse or quantised models, on the way up, in the local steps, or on the way down.

Paper: FedComLoc: Communication-Efficient Distributed Training of Sparse and Quantized Models
Authors: Kai Yi, Georg Meinhardt, Laurent Condat, Peter Richtárik
Venue: TMLR 2025
arXiv: 2403.09904
Solves: fewer communications and smaller messages at once, for networks; "local" trains models that are used sparse
Use: networks, TopK of 30 to 50 % or 8-bit quantisation; "com" is the best per uplink bit
Avoid: an exact optimum is wanted: models are compressed, not differences, so TopK stops at a floor (LoCoDL, CompressedScaffnew);
    4 bits or fewer over a long vector (its noise grows like sqrt(d)/2^r): quantise in buckets, Bucketed(QSGD(15), 512)
Assumes: nothing for running it; a compressor of models, biased or not
Algorithm:
    x_i = x0, h_i = 0, e = 0
    for t = 0, 1, ...: (a step, not a communication)
        client i: z_i = x_i - lr (g_i - h_i), g_i = grad f_i(x_i); "local": g_i = grad f_i(C(x_i))
        shared coin, P(1) = p.  0: x_i <- z_i.  1: x_i <- x, h_i <- h_i + (p/lr)(x - z_i), where
            "com": client i sends z_i <- C(z_i), and x = mean z_i;   "local": x = mean z_i
            "global": a = mean z_i + e, x = C(a), e <- a - x
    h_mode "literal": h_i <- h_i + (p/lr)(x - the z_i before compression) and e = 0. Then sum h_i drifts and models lose 15 points
    cohort: after a communication another cohort takes over; only its members step, send and change their h_i (a heuristic)
Up: on coin 1: "com": a compressed vector; "local", "global": d numbers
Down: on coin 1: "com", "local": d numbers; "global": a compressed vector. x0 once; d numbers to newcomers of a cohort
Step size: Scaffnew's, and p = 0.1 where nothing is strongly convex: no theorem, tune lr
Theorem: none of its own: with $C$ the identity it is Scaffnew, $E\Psi_t \le (1 - \min(\gamma\mu, p^2))^t\Psi_0$
Unconfirmed: which update of h_i the paper prints (hence h_mode); "server_error" of "global" is our derivation: ProxSkip's
    average of z_i - (lr/p) h_i, compressed; the paper's settings (p = 0.1, densities 10 to 100 %, 10 of 100 clients) are recalled
"""

from __future__ import annotations

from typing import Any

import numpy as np

from octolab.compressors import TopK
from octolab.federation import Reply
from octolab.federation.delivery import deliver
from octolab.methods.local_training.scaffnew import Scaffnew
from octolab.methods.page import Cohort, Compressor, Constants, Federation, NamedTuple, Payload, Sampler, param, torch

OWN = {"com": "sum_zero", "local": "sum_zero", "global": "server_error"}


class State(NamedTuple):
    x: torch.Tensor  # the last average: what the server knows
    e: torch.Tensor  # what compression left out on the way down ("global")
    active: torch.Tensor  # (n,) bool: the cohort


class FedComLoc(Scaffnew):
    slug = "fedcomloc"
    needs = ()
    tags = ("heterogeneous", "local steps", "networks", "nonconvex", "biased compression", "client sampling")

    compressor: Compressor = param(TopK(0.3), "compressor C of models", main=True)
    variant: str = param("com", "where models are compressed", choices=("com", "local", "global"), main=True)
    h_mode: str = param("auto", "update of h_i", choices=("auto", "sum_zero", "server_error", "literal"))
    cohort: Sampler | int | float | None = param(None, "who takes part between communications; None: everybody")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.h_mode not in ("auto", "literal", OWN[self.variant]):
            raise ValueError(
                f"FedComLoc: h_mode={self.h_mode!r} does not go with variant={self.variant!r}: choose "
                f"{OWN[self.variant]!r} (which is 'auto') or 'literal'."
            )

    def rate(self, problem: Constants) -> float | None:
        return None

    def init(self, fed: Federation) -> Any:
        fed.call(self.begin, fed.x0)
        active = self.members(fed, fed.x0.new_zeros(fed.n, dtype=torch.bool))
        return State(x=fed.x0, e=torch.zeros_like(fed.x0), active=active)

    def members(self, fed: Federation, before: torch.Tensor) -> torch.Tensor:
        """(n,) bool: the next cohort."""
        ids = fed.sample(self.cohort)
        return (
            torch.ones_like(before)
            if ids is None
            else torch.zeros_like(before).index_fill(0, fed.place(np.unique(ids)), True)
        )

    def step(self, fed: Federation, s: Any) -> Any:
        to = None if bool(s.active.all()) else np.flatnonzero(fed.host(s.active))
        if not fed.coin(self.p):
            fed.call(self.local, to=to)
            return s
        sent = fed.call(self.send, to=to)
        x, e = s.x, s.e
        if len(sent):
            x, e, message = self.message(fed, sent.mean(), s.e)
            deliver(fed, self.receive, message, to=sent.clients)
        if self.cohort is None:
            return State(x=x, e=e, active=s.active)
        active = self.members(fed, s.active)
        new = active.index_fill(0, sent.index, False)  # the others have x already
        joined = fed.call(self.join, x, to=np.flatnonzero(fed.host(new)))
        return State(x=x, e=e, active=(active & ~new).index_fill(0, joined.index, True))

    def message(self, fed: Federation, a: torch.Tensor, e: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Reply]:
        """x, e and the message down, of the mean of what came."""
        if self.variant != "global":
            return a, e, a
        message = fed.compress(self.compressor, a + e)
        x = message.dense()
        return x, (e if self.h_mode == "literal" else a + e - x), message

    def ahead(self, cohort: Cohort) -> torch.Tensor:
        x, h = cohort.memory.x, cohort.memory.h  # copies: x_i - lr (g_i - h_i), in place
        at = self.compressor(x, cohort).dense() if self.variant == "local" else x
        return x.add_(h.sub_(cohort.grad(at, cohort.batch(self.batch_size))), alpha=self.lr)

    def send(self, cohort: Cohort) -> Reply:
        z = self.ahead(cohort)
        sent = self.compressor(z, cohort) if self.variant == "com" else z
        cohort.memory.x = z if self.h_mode == "literal" else sent
        return sent

    def receive(self, cohort: Cohort, x: torch.Tensor | Payload) -> None:
        super().receive(cohort, x.dense() if isinstance(x, Payload) else x)

    def join(self, cohort: Cohort, x: torch.Tensor) -> None:
        cohort.memory.x = x.expand(cohort.m, -1)
