"""A kernel is used only where it has been shown to equal plain autograd on the user's own module and data."""

from __future__ import annotations

import torch

from octolab.problems.kernels.general import OneByOne
from octolab.problems.kernels.kernel import Kernel, State, Views

COHORTS = (1, 7, 8)
LIGHT = 2**20  # parameters up to which all cohorts are tried at models of their own
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


def agrees(
    kernel: Kernel, loop: OneByOne, x0: torch.Tensor, X: torch.Tensor, Y: torch.Tensor, kept: torch.Tensor | None = None
) -> bool:
    """Whether `kernel` gives the loop's outputs and gradients, of one model for all and of models of their own, for
    cohorts of 1, 7 and 8 clients with two samples each, in training; where evaluation differs, also in it, for 8 clients.
    """
    cohorts = COHORTS if len(x0) <= LIGHT else COHORTS[:1]
    most = max(cohorts)
    index = (torch.arange(2 * most) * max(1, len(X) // (2 * most)) % len(X)).view(most, 2)
    apart, (training, *calm) = _apart(x0, most), _states(kernel, most, kept)
    for flat, state, tried in (
        (x0, training, cohorts),
        (apart, training, cohorts),
        *((apart, s, (most,)) for s in calm),
    ):
        theirs = _try(loop, flat, (X, Y, index), state)
        for m in tried:
            ours = _try(kernel, flat if flat.dim() == 1 else flat[:m], (X, Y, index[:m]), _first(state, m))
            if ours is None or theirs is None or not all(_near(a, b[:m]) for a, b in zip(ours, theirs, strict=True)):
                return False
    return True


def _apart(x0: torch.Tensor, m: int) -> torch.Tensor:
    """Models (m, d) near x0, each somewhere else."""
    waves = torch.sin(torch.arange(1, m + 1, dtype=x0.dtype)[:, None] * torch.arange(1, len(x0) + 1, dtype=x0.dtype))
    return x0 + waves * (0.1 * x0.std(correction=0) + 0.01)


def _states(kernel: Kernel, m: int, kept: torch.Tensor | None) -> list[State | None]:
    """Training and, where it differs, evaluation."""
    calm = State(training=False, kept=kept) if kept is not None else None
    if kernel.conduct.calm:
        return [calm]
    rows = None if kept is None else kept.expand(m, -1).clone()
    return [State(True, torch.arange(1, m + 1) * 7919, rows), calm]


def _first(state: State | None, m: int) -> State | None:
    """The state of the first m clients."""
    if state is None or not state.training:
        return state
    return State(True, None if state.seeds is None else state.seeds[:m], None if state.kept is None else state.kept[:m])


def _try(
    kernel: Kernel, flat: torch.Tensor, data: tuple[torch.Tensor, torch.Tensor, torch.Tensor], state: State | None
) -> list[torch.Tensor] | None:
    """Outputs, the gradient (m, d) and what the clients keep afterwards; None: the kernel cannot."""
    X, Y, index = data
    if state is not None and state.kept is not None and state.training:
        state = State(True, state.seeds, state.kept.clone())
    weights = torch.linspace(0.5, 1.0, 2, dtype=flat.dtype) - 0.02 * torch.arange(len(index))[:, None]
    g = torch.empty(len(index), flat.shape[-1], dtype=flat.dtype)
    views: Views = kernel.views(flat)
    yb = Y.index_select(0, index.reshape(-1)).view(*index.shape, *Y.shape[1:])
    try:
        pieces, outputs = kernel.pieces(views, kernel.take(X, index), yb, weights, state)
        kernel.add(pieces, kernel.views(g), 1.0, overwrite=True)
    except Exception:
        if isinstance(kernel, OneByOne):
            raise
        return None  # whatever it stumbled over, the loop serves
    return [outputs, g] + ([state.kept] if state is not None and state.kept is not None and state.training else [])


def _near(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or not torch.equal(a.isnan(), b.isnan()):
        return False
    a, b, most = a.nan_to_num(), b.nan_to_num(), TOLERANCE.get(a.dtype, 1e-4)
    return a.numel() == 0 or float((a - b).abs().max()) <= most * float(b.abs().max() + 1e-3)
