"""What noise buys: epsilon of releases that were really made, on Google's `dp-accounting` (the extra `privacy`).

    epsilon(noise_multiplier=1.0, sample_rate=0.01, steps=1000, delta=1e-5)     # 1.83
    noise_for(epsilon=2, delta=1e-5, sample_rate=0.1, steps=100)                # 2.25

A noise multiplier is the standard deviation of the noise on a sum, divided by the most that one unit (a client, or an
example) can add to it: also where a unit is replaced, which moves the sum by twice that. Three ways of choosing who takes
part are told apart, because they are not worth the same:

    sampling="poisson"      everybody by an own coin of probability sample_rate; neighbours: one unit added or removed
    sampling="fixed-size"   so many out of so many, without replacement; neighbours: one unit replaced; RDP only
    sampling="none"         everybody always, or the cohorts are public: no amplification

Sampling amplifies only while nobody sees who was drawn. What cannot be accounted is refused, never estimated.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

ADJACENCIES = ("add-or-remove-one", "replace-one")
ACCOUNTANTS = ("pld", "rdp")
SAMPLINGS = ("poisson", "fixed-size", "none")
WHOLE = 10**9  # what a share of clients is a share of

__all__ = ["Guarantee", "composed", "epsilon", "epsilon_of_zcdp", "noise_for", "steps_within", "zcdp"]


@dataclass(frozen=True)
class Guarantee:
    """An epsilon with everything that it depends on. unit: whose data is protected. note: what else has to hold.

    epsilon inf: no noise was added. epsilon None: nothing can be said, and the note says why.
    """

    epsilon: float | None
    delta: float
    steps: int
    noise_multiplier: float | None
    sample_rate: float
    sampling: str
    adjacency: str
    accountant: str
    unit: str = "client"
    note: str = ""

    def __repr__(self) -> str:
        if self.epsilon is None:
            return f"no guarantee: {self.note}"
        drawn = {
            "poisson": f"each drawn with probability {self.sample_rate:g}",
            "fixed-size": f"a share of {self.sample_rate:g} drawn without replacement",
            "none": "no amplification by sampling",
        }[self.sampling]
        noise = "no noise" if self.noise_multiplier is None else f"noise multiplier {self.noise_multiplier:g}"
        text = (
            f"({self.epsilon:.4g}, {self.delta:g})-DP for one {self.unit} ({self.adjacency}), {self.steps} releases, {noise}, "
            f"{drawn}, {self.accountant.upper()} accountant"
        )
        return f"{text}. {self.note}" if self.note else text

    @property
    def holds(self) -> bool:
        """Whether there is a finite epsilon."""
        return self.epsilon is not None and math.isfinite(self.epsilon)


def epsilon(
    noise_multiplier: float,
    sample_rate: float = 1.0,
    steps: int = 1,
    delta: float = 1e-5,
    accountant: str = "pld",
    adjacency: str = "add-or-remove-one",
    *,
    sampling: str = "poisson",
    clients: int | None = None,
    cohort: int | None = None,
) -> float:
    """The epsilon of `steps` Gaussian releases at this delta.

    sample_rate: the probability of taking part (Poisson). clients, cohort: of sampling="fixed-size". No noise: inf.

    Raises:
        ValueError: for a number out of its range, and for what no accountant here covers (Poisson with replace-one, PLD with
            fixed-size cohorts).
        ModuleNotFoundError: without the extra `privacy`.
    """
    z, q, delta = float(noise_multiplier), float(sample_rate), float(delta)
    steps = _checked(z, q, steps, delta, accountant, adjacency, sampling)
    if sampling == "fixed-size":
        if clients is None or cohort is None or not 1 <= cohort <= clients:
            raise ValueError(
                f"sampling='fixed-size': give clients= and cohort=, 1 <= cohort <= clients; got clients={clients!r}, "
                f"cohort={cohort!r}."
            )
        q = cohort / clients
    if steps == 0:
        return 0.0
    if z == 0:
        return math.inf
    if math.isinf(z):
        return 0.0
    return _composed(((z, q if sampling != "none" else 1.0, sampling, steps),), delta, accountant, adjacency)


_spent = epsilon  # for functions with an argument of that name


@lru_cache(maxsize=512)
def _composed(
    releases: tuple[tuple[float, float, str, int], ...], delta: float, accountant: str, adjacency: str
) -> float:
    """The library's epsilon of (noise multiplier, sample rate, sampling, steps), one after the other."""
    dp = _library()
    replaced = adjacency == "replace-one"
    relation = dp.NeighboringRelation.REPLACE_ONE if replaced else dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    pld = accountant == "pld"
    made = dp.pld.PLDAccountant(relation) if pld else dp.rdp.RdpAccountant(neighboring_relation=relation)
    for z, q, sampling, steps in releases:
        # a unit replaced moves the sum by twice its bound: the library's PLD doubles it itself, its RDP does not
        event: Any = dp.GaussianDpEvent(z / 2 if replaced and not pld else z)
        if sampling == "fixed-size" and q < 1:
            event = dp.SampledWithoutReplacementDpEvent(WHOLE, round(q * WHOLE), event)  # the share alone matters
        elif q < 1:
            event = dp.PoissonSampledDpEvent(q, event)
        made.compose(event, steps)
    with _quiet():
        return float(made.get_epsilon(delta))


def noise_for(
    epsilon: float,
    delta: float = 1e-5,
    sample_rate: float = 1.0,
    steps: int = 1,
    accountant: str = "pld",
    adjacency: str = "add-or-remove-one",
    *,
    sampling: str = "poisson",
    clients: int | None = None,
    cohort: int | None = None,
) -> float:
    """The smallest noise multiplier whose `epsilon` is no larger than the given one, to 4 digits, rounded up."""
    if not (isinstance(epsilon, (int, float)) and 0 < float(epsilon) < math.inf):
        raise ValueError(f"epsilon={epsilon!r}: give a number in (0, inf).")
    known: dict[str, Any] = {"sampling": sampling, "clients": clients, "cohort": cohort}

    def over(logarithm: float, how: str = accountant) -> float:
        """How far the epsilon of this noise is over the target, in logarithms, which are nearly a straight line."""
        found = _spent(math.exp(logarithm), sample_rate, steps, delta, how, adjacency, **known)
        return math.log(max(found, 1e-300)) - math.log(epsilon)

    cheap = "rdp" if accountant == "pld" and sampling == "poisson" else accountant  # always above PLD, and fast
    top = 0.0
    while over(top, cheap) > 0:
        top += math.log(2)
        if top > math.log(1e6):
            raise ValueError(f"epsilon={epsilon!r} at delta={delta!r} over {steps} steps is out of reach of any noise.")
    bottom = top - math.log(2)
    while over(bottom) <= 0:
        bottom -= math.log(2)
    while top - bottom > 1e-4:
        low, high = over(bottom), over(top)
        line = bottom + (top - bottom) * low / (low - high)  # where the line between the two crosses the target
        for guess in (line + 4e-5, line - 4e-5):
            guess = min(max(guess, bottom + 2e-5), top - 2e-5)
            top, bottom = (guess, bottom) if over(guess) <= 0 else (top, guess)
            if top - bottom <= 1e-4:
                break
    return math.exp(top)


def steps_within(
    budget: float,
    noise_multiplier: float,
    sample_rate: float = 1.0,
    delta: float = 1e-5,
    accountant: str = "pld",
    adjacency: str = "add-or-remove-one",
    *,
    sampling: str = "poisson",
    clients: int | None = None,
    cohort: int | None = None,
) -> int:
    """The largest number of releases whose epsilon stays within the budget (at most 10 million)."""
    if not (isinstance(budget, (int, float)) and 0 <= float(budget) < math.inf):
        raise ValueError(f"budget={budget!r}: give an epsilon >= 0.")

    def fits(steps: int) -> bool:
        known = {"sampling": sampling, "clients": clients, "cohort": cohort}
        return epsilon(noise_multiplier, sample_rate, steps, delta, accountant, adjacency, **known) <= budget  # type: ignore[arg-type]

    return largest(fits)


def largest(fits: Callable[[int], bool]) -> int:
    """The largest number of releases that fits, at most 10 million; `fits` is true up to it and false beyond."""
    if not fits(1):
        return 0
    high = 2
    while high < 10_000_000 and fits(high):
        high *= 2
    low, high = high // 2, min(high, 10_000_000)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def zcdp(noise_multiplier: float, steps: int = 1) -> float:
    """rho of so many Gaussian releases to everybody's data, without sampling: steps/(2 z^2). (Bun, Steinke, TCC 2016.)

    >>> zcdp(2.0, steps=4)
    0.5
    """
    z = float(noise_multiplier)
    if z < 0 or math.isnan(z):
        raise ValueError(f"noise_multiplier={noise_multiplier!r}: give a number >= 0.")
    return math.inf if z == 0 and steps else steps / (2 * z * z) if steps else 0.0


def epsilon_of_zcdp(rho: float, delta: float = 1e-5) -> float:
    """rho-zCDP is (rho + 2 sqrt(rho log 1/delta), delta)-DP. (Bun, Steinke, TCC 2016, Proposition 1.3.)"""
    if not rho >= 0:
        raise ValueError(f"rho={rho!r}: give a number >= 0.")
    if not 0 < delta < 1:
        raise ValueError(f"delta={delta!r}: give a number in (0, 1).")
    return math.inf if math.isinf(rho) else rho + 2 * math.sqrt(rho * math.log(1 / delta))


def composed(guarantees: Sequence[Guarantee], delta: float) -> float:
    """The epsilon at this delta of several sets of releases of the same data, together.

    They must have the same neighbours and accountant. ValueError for what cannot be added up.
    """
    real = [g for g in guarantees if g.steps]
    if not real:
        return 0.0
    if any(g.epsilon is None for g in real):
        raise ValueError("Some of these releases have no guarantee, so that their sum has none.")
    if any(g.noise_multiplier in (None, 0) for g in real):
        return math.inf
    kinds = {(g.adjacency, g.accountant, g.unit) for g in real}
    if len(kinds) > 1:
        raise ValueError(
            f"Releases of different kinds cannot be added up: {sorted(kinds)}. Use one accountant and adjacency."
        )
    adjacency, accountant, _ = kinds.pop()
    releases = tuple((float(g.noise_multiplier or 0.0), g.sample_rate, g.sampling, g.steps) for g in real)
    return _composed(releases, delta, accountant, adjacency)


# -- what is checked ----------------------------------------------------------------------------------------------------
def _checked(z: float, q: float, steps: int, delta: float, accountant: str, adjacency: str, sampling: str) -> int:
    """The number of steps as a whole number; ValueError for what is not allowed."""
    for name, value, allowed in (
        ("accountant", accountant, ACCOUNTANTS),
        ("adjacency", adjacency, ADJACENCIES),
        ("sampling", sampling, SAMPLINGS),
    ):
        if value not in allowed:
            raise ValueError(f"{name}={value!r}: choose {' or '.join(map(repr, allowed))}.")
    if not z >= 0:
        raise ValueError(f"noise_multiplier={z!r}: give a number >= 0.")
    if not 0 < q <= 1:
        raise ValueError(f"sample_rate={q!r}: give a probability in (0, 1].")
    if isinstance(steps, bool) or int(steps) != steps or steps < 0:
        raise ValueError(f"steps={steps!r}: give a whole number >= 0.")
    if not 0 < delta < 1:
        raise ValueError(f"delta={delta!r}: give a number in (0, 1), smaller than one over the number of clients.")
    if adjacency == "replace-one" and sampling == "poisson" and q < 1:
        raise ValueError(
            "adjacency='replace-one' with Poisson sampling: no accountant here covers it. Use add-or-remove-one, or "
            "sampling='fixed-size'."
        )
    if sampling == "fixed-size" and (accountant != "rdp" or adjacency != "replace-one"):
        raise ValueError(
            f"sampling='fixed-size' is covered by accountant='rdp' and adjacency='replace-one' alone; got {accountant!r} and "
            f"{adjacency!r}."
        )
    return int(steps)


def _library() -> Any:
    try:
        import dp_accounting
        import dp_accounting.pld
        import dp_accounting.rdp
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "An epsilon needs Google's dp-accounting: pip install 'octolab[privacy]'. Training with noise works without it."
        ) from None
    return dp_accounting


class _quiet:
    """Without the library's remarks on orders that it leaves out."""

    def __enter__(self) -> None:
        self._level = logging.getLogger("absl").level
        logging.getLogger("absl").setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("absl").setLevel(self._level)
