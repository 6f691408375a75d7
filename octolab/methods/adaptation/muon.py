r"""Muon: orthogonalised momentum for the hidden matrices of a network, Adam for the rest.

Paper: Muon: An optimizer for hidden layers in neural networks
Authors: Keller Jordan, Yuchen Jin, Vlado Boza, Jiacheng You, Franz Cesista, Laker Newhouse, Jeremy Bernstein
Venue: blog post, 2024
arXiv: none
Solves: badly scaled layers: every direction of a hidden matrix moves by the same amount
Use: networks with matrices (or convolutions), distributed gradients; layers are treated by their role
Avoid: convex models without layers, where it is just Adam
Assumes: nothing for running it
Algorithm:
    M = 0
    for t = 0, 1, ...:
        client i replies a minibatch gradient; G = their mean
        M <- beta M + (1 - beta) G;  U = beta M + (1 - beta) G
        matrices, convolutions as (out, rest):  W <- W (1 - lr wd) - lr sqrt(max(1, out/in)) NS5(U)
        embeddings, heads, vectors: Adam with adam_lr
    NS5(U): X = U/(|U|_F + 1e-7), wide orientation; 5 times A = X X', X <- 3.4445 X + (-4.7750 A + 2.0315 A^2) X
Up: d numbers per member of the cohort
Down: d numbers to the cohort
Step size: 0.02 (the authors' default). NS5 brings singular values to about [0.68, 1.13], not to 1
Theorem: none for this step. Its idealisation (Gluon, arXiv 2505.13416: exact polar factors, no momentum, radii
    $t_i = \frac{|\nabla_i|_*}{L^0_i + L^1_i|\nabla_i|_*}$, nuclear norms) reaches $\sum_i |\nabla_i f|_* \le \varepsilon$
    after $2(f(x_0) - f^*)(\sum_i L^0_i/\varepsilon^2 + \max_i L^1_i/\varepsilon)$ steps
"""

from __future__ import annotations

from octolab.methods.page import Cohort, Federation, Method, NamedTuple, Sampler, param, torch


class State(NamedTuple):
    x: torch.Tensor
    M: torch.Tensor  # first moment (momentum)
    v: torch.Tensor  # second moment, used by Adam's layers
    t: int


def newton_schulz(U: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Approximately the polar factor of U (rows, columns); of a zero matrix, zero."""
    X = U.T if U.shape[0] > U.shape[1] else U
    X = X / (X.norm() + 1e-7)
    for _ in range(steps):
        A = X @ X.T
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
    return X.T if U.shape[0] > U.shape[1] else X


class Muon(Method):
    slug = "muon"
    tags = ("networks", "layer-wise", "nonconvex", "client sampling")

    lr: float = param(0.02, "step size of matrices", gt=0, main=True)
    momentum: float = param(0.95, "weight beta of the old momentum", ge=0, lt=1, main=True)
    adam_lr: float = param(3e-4, "step size of embeddings, heads and vectors", gt=0, main=True)
    beta2: float = param(0.95, "Adam's second-moment weight", ge=0, lt=1)
    beta1: float = param(0.9, "Adam's first-moment weight", ge=0, lt=1)
    weight_decay: float = param(0.0, "decay of matrices per unit of lr", ge=0)
    nesterov: bool = param(True, "look ahead: U = beta M + (1 - beta) G")
    batch_size: int | None = param(32, "samples per gradient; None: all", ge=1, main=True)
    cohort: Sampler | int | float | None = param(None, "who takes part in a round; None: everybody")

    def init(self, fed: Federation) -> State:
        return State(x=fed.x0, M=torch.zeros_like(fed.x0), v=torch.zeros_like(fed.x0), t=0)

    def step(self, fed: Federation, s: State) -> State:
        replies = fed.call(self.client, s.x, to=fed.sample(self.cohort))
        G, layers = replies.mean(), fed.problem.layers
        x, M, v, t = s.x.clone(), s.M.clone(), s.v.clone(), s.t + 1
        views = zip(fed.problem.layout, *(layers(flat).values() for flat in (x, M, v, G)), strict=True)
        for layer, W, m, second, g in views:
            if layer.role in ("matrix", "conv"):
                self.matrix_step(W, m, g)
            else:
                self.adam_step(W, m, second, g, t)
        return State(x=x, M=M, v=v, t=t)

    def matrix_step(self, W: torch.Tensor, m: torch.Tensor, g: torch.Tensor) -> None:
        m.mul_(self.momentum).add_(g, alpha=1 - self.momentum)
        U = self.momentum * m + (1 - self.momentum) * g if self.nesterov else m
        flat = U.reshape(len(U), -1)
        scale = max(1.0, flat.shape[0] / flat.shape[1]) ** 0.5
        W.mul_(1 - self.lr * self.weight_decay).sub_(self.lr * scale * newton_schulz(flat).view_as(W))

    def adam_step(self, W: torch.Tensor, m: torch.Tensor, v: torch.Tensor, g: torch.Tensor, t: int) -> None:
        m.mul_(self.beta1).add_(g, alpha=1 - self.beta1)
        v.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
        W.sub_(self.adam_lr * (m / (1 - self.beta1**t)) / ((v / (1 - self.beta2**t)).sqrt() + 1e-8))

    def client(self, cohort: Cohort, x: torch.Tensor) -> torch.Tensor:
        return cohort.grad(x, cohort.batch(self.batch_size))
