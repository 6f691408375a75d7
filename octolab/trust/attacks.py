"""Attacks: what liars send. Set on the federation: `ol.run(..., attack=ol.attacks.SignFlip(clients=[0, 1]))`.

An attacker is omniscient: it sees what every honest client of a call sends, the server's state and the problem. Attacks on
messages replace the reply; `LabelFlip` replaces the data, and its clients then follow the method honestly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import torch

from octolab.federation.attack import Attack, AttackContext
from octolab.federation.rule import RuleContext, combined
from octolab.params import param
from octolab.rooms import register
from octolab.trust.aggregators import CoordinateMedian

if TYPE_CHECKING:
    from octolab.problems import Problem

__all__ = [
    "ALIE",
    "IPM",
    "GaussianNoise",
    "LabelFlip",
    "Mimic",
    "OptimizedALIE",
    "OptimizedIPM",
    "ShiftBack",
    "SignFlip",
    "Sleeper",
]


@register("attacks")
@dataclass(frozen=True, eq=False)
class SignFlip(Attack):
    """-scale * own: each attacker sends the opposite of what it would send if it were honest.

    >>> SignFlip(clients=(0, 3), scale=2.0).clients
    (0, 3)
    """

    scale: float = param(1.0, "times what it would send if it were honest", gt=0, main=True)

    def __call__(self, context: AttackContext) -> torch.Tensor:
        return -self.scale * context.own


@register("attacks")
@dataclass(frozen=True, eq=False)
class GaussianNoise(Attack):
    """sigma N(0, I) instead of a message."""

    sigma: float = param(1.0, "standard deviation of each coordinate", gt=0, main=True)

    def __call__(self, context: AttackContext) -> torch.Tensor:
        draws = context.fed.randomness.draws(context.clients, context.event)
        width = context.own[0].numel()
        noise = draws.normal(width, f"attack/{context.part}").to(context.own)
        return self.sigma * noise.view_as(context.own)


@register("attacks")
@dataclass(frozen=True, eq=False)
class LabelFlip(Attack):
    """The attackers' labels are turned round (class c of C becomes C - 1 - c); what they send is honest work on them."""

    def __call__(self, context: AttackContext) -> torch.Tensor:
        return context.own

    def data(self, problem: Problem) -> Problem:
        return problem.mislabelled([int(c) for c in self.clients])


@register("attacks")
@dataclass(frozen=True, eq=False)
class ALIE(Attack):
    """A little is enough: mean - z std of the honest messages, per coordinate; all attackers send the same.

    z None: the largest that hides among the cohort, Phi^-1((r - f - s)/(r - f)), s = floor(r/2 + 1) - f, of r asked and f
    attackers among them. Baruch, Baruch, Goldberg, NeurIPS 2019, arXiv 1902.06156.
    """

    z: float | None = param(None, "standard deviations away from the mean; None: as many as hide", main=True)
    compares = True

    def __call__(self, context: AttackContext) -> torch.Tensor:
        someone_honest(context)
        f = len(context.own)
        z = hidden(context.asked + f, f) if self.z is None else self.z
        return along(context, 1.0, -z)


@register("attacks")
@dataclass(frozen=True, eq=False)
class IPM(Attack):
    """Inner product manipulation: -epsilon times the mean of the honest messages.

    A small epsilon hides; more than honest/attackers turns the mean round. Xie, Koyejo, Gupta, UAI 2019, arXiv 1903.03936.
    """

    epsilon: float = param(0.1, "times the honest mean", gt=0, main=True)
    compares = True

    def __call__(self, context: AttackContext) -> torch.Tensor:
        someone_honest(context)
        return along(context, -self.epsilon, 0.0)


@register("attacks")
@dataclass(frozen=True, eq=False)
class Mimic(Attack):
    """All attackers send what one honest client sends, so that it counts many times over.

    target None: the honest client farthest along the direction in which the messages of this call vary most (power
    steps). The paper warms up over rounds and then keeps its target; here it is chosen anew in every call.
    Karimireddy, He, Jaggi, ICLR 2022, arXiv 2006.09365.
    """

    target: int | None = param(None, "the client that is copied; None: found from the messages", ge=0, main=True)
    compares = True

    def __call__(self, context: AttackContext) -> torch.Tensor:
        honest = someone_honest(context)
        row = self._row(context) if self.target is not None else spread_most(honest)
        return honest[row].expand_as(context.own).clone()

    def _row(self, context: AttackContext) -> int:
        """The target's place among the honest rows of those asked; the first one where it was not asked."""
        replied = [int(c) for c in context.honest_clients]
        return replied.index(self.target) if self.target in replied else 0


@register("attacks")
@dataclass(frozen=True, eq=False)
class ShiftBack(Attack):
    """Where attackers are a strict majority of those asked, they drag the model back to its start; else they behave.

    Their gradient is scale (x - x0); of a difference of gradients that less the server's g, of a model's update minus it.
    Behaving is to send the mean of all honest messages. The sign is that of the authors' code. Malinovsky, Richtárik,
    Horváth, Gorbunov, NeurIPS 2024, arXiv 2311.14127.
    """

    scale: float = param(1.0, "times x - x0", gt=0, main=True)
    sees_all = True
    compares = True

    def __call__(self, context: AttackContext) -> torch.Tensor:
        if len(context.own) <= context.asked:
            return someone_honest(context).mean(0).expand_as(context.own).clone()
        state, fed = context.state, context.fed
        x = fed.x0 if state is None else getattr(state, "x", state)
        back = self.scale * (x - fed.x0)
        kind = context.message
        if kind == "update":
            return (-back).expand_as(context.own).clone()
        if kind == "difference" and state is not None:
            return (back - state.g).expand_as(context.own).clone()
        if kind == "gradient" or state is None:
            return back.expand_as(context.own).clone()
        name = getattr(context.fn, "__qualname__", "this client function")
        raise ValueError(
            f"ShiftBack does not know whether {name} sends a gradient, a difference or an update: its page says so in "
            f"`messages = {{'{getattr(context.fn, '__name__', 'client')}': 'gradient'}}`, or use another attack."
        )


@register("attacks")
@dataclass(frozen=True, eq=False)
class Sleeper(Attack):
    """Honest until round `start`, then another attack: defences that remember trust it by then."""

    attack: Attack = param(SignFlip(), "what it does once awake")
    start: int = param(10, "the first round in which it attacks", ge=0, main=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "clients", tuple(self.clients) or tuple(self.attack.clients))
        object.__setattr__(self, "sees_all", self.attack.sees_all)
        object.__setattr__(self, "compares", self.attack.compares)

    def __init__(self, attack: Attack = SignFlip(), start: int = 10, clients: Sequence[int] = ()):
        for name, value in {"clients": clients, "attack": attack, "start": start}.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __call__(self, context: AttackContext) -> torch.Tensor:
        return context.own if context.fed.round < self.start else self.attack(context)

    def data(self, problem: Problem) -> Problem:
        if self.attack.data(problem) is not problem:
            raise ValueError(f"Sleeper({self.attack!r}): data cannot wake up later: use {self.attack!r} alone.")
        return problem


@dataclass(frozen=True, eq=False)
class Optimized(Attack):
    """The base of attacks that know the server's rule and take the strength that takes it farthest from the honest mean."""

    rule: Callable[..., torch.Tensor] = param(CoordinateMedian(), "the rule that the server uses", room="aggregators")
    strengths: tuple[float, ...] = param((0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0), "what is tried")
    compares = True

    def message(self, context: AttackContext, strength: float) -> torch.Tensor:
        raise NotImplementedError

    def __call__(self, context: AttackContext) -> torch.Tensor:
        honest = someone_honest(context)[: context.asked or None]
        weights = honest.new_ones(len(honest) + len(context.own))
        target, best, worst = honest.mean(0), context.own, -1.0
        for strength in self.strengths:
            rows = self.message(context, strength)
            result = combined(self.rule, torch.cat([honest, rows]), weights, RuleContext())
            away = float((result - target).norm())
            if away > worst:
                best, worst = rows, away
        return best


@register("attacks")
@dataclass(frozen=True, eq=False)
class OptimizedALIE(Optimized):
    """`ALIE` with the z, out of `strengths`, that hurts this rule most in every call (in this form our own line search)."""

    def message(self, context: AttackContext, strength: float) -> torch.Tensor:
        return along(context, 1.0, -strength)


@register("attacks")
@dataclass(frozen=True, eq=False)
class OptimizedIPM(Optimized):
    """`IPM` with the epsilon, out of `strengths`, that hurts this rule most in every call (our own line search)."""

    def message(self, context: AttackContext, strength: float) -> torch.Tensor:
        return along(context, -strength, 0.0)


# -- what attacks share -------------------------------------------------------------------------------------------------
def someone_honest(context: AttackContext) -> torch.Tensor:
    """(g, d) the honest messages; ValueError if there are none to look at."""
    if len(context.honest) == 0:
        raise ValueError(
            f"Call {context.event}: every client asked is an attacker, and this attack is made of honest messages: choose "
            f"fewer attackers, a larger cohort, or SignFlip, GaussianNoise or LabelFlip."
        )
    return context.honest


def along(context: AttackContext, means: float, deviations: float) -> torch.Tensor:
    """The same for every attacker: so many means and standard deviations (ddof 1) of the honest messages."""
    honest = context.honest
    row = means * honest.mean(0)
    if deviations and len(honest) > 1:
        row = row + deviations * honest.std(0)
    return row.expand_as(context.own).clone()


def hidden(r: int, f: int) -> float:
    """The z of ALIE for r clients asked, f of them attackers.

    >>> round(hidden(20, 5), 4), round(hidden(50, 12), 4)
    (0.2533, 0.336)
    """
    supporters = r // 2 + 1 - f
    share = (r - f - supporters) / (r - f) if r > f else 0.0
    if not 0 < share < 1:
        raise ValueError(f"ALIE's z is not defined for {f} attackers among {r} asked: give z yourself.")
    return NormalDist().inv_cdf(share)


def spread_most(rows: torch.Tensor) -> int:
    """The row farthest along the direction in which the rows vary most (eight power steps)."""
    away = (rows - rows.mean(0)).flatten(1)
    direction = away[int(away.norm(dim=1).argmax())]
    for _ in range(8):
        direction = (away @ direction) @ away
        length = float(direction.norm())
        if length == 0:
            return 0
        direction = direction / length
    return int((away @ direction).argmax())
