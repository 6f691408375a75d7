"""How gradients of many networks are computed at once: tiers behind one interface.

1. `Chain`: Linear/ReLU chains under cross entropy, by hand; local steps never form a weight's gradient.
2. `Stacked`: autograd through batched layers, convolutions grouped by client.
3. `Batched`: any other module, its forward called once for all clients; `OneByOne` for few of them, or where it cannot be.

All agree to rounding. `choose` gives the fastest that fits.
"""

from __future__ import annotations

import warnings

from torch import nn

from octolab.problems.kernels.batched import Batched
from octolab.problems.kernels.chain import Chain
from octolab.problems.kernels.general import OneByOne
from octolab.problems.kernels.kernel import CALM, Conduct, Kernel, State
from octolab.problems.kernels.losses import Loss
from octolab.problems.kernels.stacked import Stacked

TIERS: dict[str, type[Kernel]] = {
    "chain": Chain,
    "stacked": Stacked,
    "batched": Batched,
    "loop": OneByOne,
}


def choose(
    module: nn.Module, loss: Loss, sample: tuple[int, ...], tier: str = "auto", conduct: Conduct = CALM
) -> Kernel | None:
    """The kernel of a tier, or of the first hand-written one that fits; None: "batched" or "loop", as the cohort asks.

    sample: shape of one input. Raises ValueError if a named tier does not fit.
    """
    if tier == "vmap":
        warnings.warn("kernel='vmap' is called 'batched' now.", DeprecationWarning, stacklevel=5)
        tier = "batched"
    if tier not in ("auto", *TIERS):
        raise ValueError(f"kernel={tier!r}: choose one of 'auto', {', '.join(map(repr, TIERS))}.")
    for name in ("chain", "stacked") if tier == "auto" else (tier,):
        if TIERS[name].fits(module, loss, sample, conduct):
            return TIERS[name](module, loss, sample, conduct)
        if tier != "auto":
            raise ValueError(f"kernel={tier!r} does not fit this module and loss: leave it at 'auto'.")
    return None


__all__ = [
    "CALM",
    "TIERS",
    "Batched",
    "Chain",
    "Conduct",
    "Kernel",
    "Loss",
    "OneByOne",
    "Stacked",
    "State",
    "choose",
]
