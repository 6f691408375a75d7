"""What the tests of personalised methods share."""

from __future__ import annotations

import numpy as np
import torch

import octolab as ol


def bowls(**changes) -> ol.problems.Quadratics:
    return ol.problems.quadratics(**{"n": 4, "d": 5, "L": 8, "seed": 3, **changes})


def optima(p: ol.problems.Quadratics) -> np.ndarray:
    """(n, d) argmin f_i."""
    return np.linalg.solve(p.A.numpy(), p.b.numpy()[:, :, None])[:, :, 0]


def prox(p: ol.problems.Quadratics, x, lam: float) -> np.ndarray:
    """(n, d) argmin_v f_i(v) + (lam/2)|v - x|^2."""
    A, b = p.A.numpy(), p.b.numpy()
    return np.linalg.solve(A + lam * np.eye(p.d), (b + lam * np.asarray(x))[:, :, None])[:, :, 0]


def models(run) -> torch.Tensor:
    """(n, d) the personal models of a run."""
    return run.method.personal(run.federation, run.state)


def mixture(p: ol.problems.Problem, alpha, own):
    """FLIX's objective: x -> sum_i w_i f_i(alpha_i x + (1 - alpha_i) own_i)."""
    a = torch.as_tensor(np.broadcast_to(alpha, (p.n,)).copy(), dtype=p.dtype)[:, None]
    own = torch.as_tensor(own)
    return lambda x: float(p.weights @ p.loss(a * torch.as_tensor(x) + (1 - a) * own))


def quietly(method, problem, rounds: int, **settings):
    """A run that is evaluated at its end only."""
    return ol.run(method, problem, rounds=rounds, evaluate_every=max(1, rounds), live=False, **settings)
