"""What a careful eye would notice in a run, with a recommendation in words; as data, and on the dashboard.

Every rule reads the record's newest part only (`RECENT` values), so that asking costs the same in a long run as in a
short one. A rule is a function from a `Watched` run to an `Alert` or None; `RULES` is the list that `alerts` asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from octolab.experiment.summary import unanswered as unanswered_rounds
from octolab.federation.timeline import CANCELLED

if TYPE_CHECKING:
    from octolab.experiment.run import Run

RECENT = 2000
LEVELS = ("info", "warning", "error")

STALE_SHARE = 0.2
"""Share of devices whose newest gradient was staler than `stale_after(n)` that is worth a word."""
DROPPED_SHARE = 0.3
UNANSWERED_SHARE = 0.1
"""Share of rounds without any answer that is worth a word."""
SPENT = 0.9
DOMINANT_SHARE = 0.2
"""A client with this share of all updates or bits, and at least three times its fair share, dominates."""


@dataclass(frozen=True)
class Alert:
    """kind: "diverging", "stalled", "stale", "dominant", "budget", "dropouts", "unanswered", "privacy",
    "suspicion", "cap". level: info, warning, error.

    round: when it was noticed. message: what is so; advice: what to do.
    """

    kind: str
    level: str
    round: int
    message: str
    advice: str

    def __str__(self) -> str:
        return f"{self.message} {self.advice}"


def alerts(run: Run) -> list[Alert]:
    """All that is worth a word about a run now, the gravest first."""
    watched = Watched(run)
    found = [alert for rule in RULES if (alert := rule(watched)) is not None]
    return sorted(found, key=lambda a: -LEVELS.index(a.level))


class Watched:
    """The newest part of a run's record."""

    def __init__(self, run: Run):
        self.run, self.n = run, run.problem.n
        now = run.snapshot()
        self.columns: dict[str, np.ndarray] = {
            name: np.array(now.newest(name, RECENT), dtype=float)
            for name in ("loss", "grad_norm_sq", "delay")
            if name in now.columns
        }
        self.lost = float(sum(now.newest("dropped")))
        self.first: dict[str, float] = {
            name: float(now.columns[name].values[0]) for name in ("loss", "grad_norm_sq") if name in now.columns
        }
        self.void = unanswered_rounds(run)
        self.rows, self.last = now.length, now.last
        self.round = max(run.round, 0)

    @property
    def lr(self) -> float | None:
        lr = getattr(self.run.method, "lr", None)
        return lr if isinstance(lr, (int, float)) else None

    @property
    def method(self) -> str:
        return type(self.run.method).__name__

    def alert(self, kind: str, level: str, message: str, advice: str) -> Alert:
        return Alert(kind, level, self.round, message, advice)


def stale_after(n: int) -> float:
    """Delays beyond this are stale: with n devices at work, a delay of n is what a fair queue gives."""
    return max(4.0, 2.0 * n)


# -- the rules ---------------------------------------------------------------------------------------------------------
def diverging(w: Watched) -> Alert | None:
    """The model is no longer finite, or the gradient or the loss has grown well beyond where it began."""
    smaller = f"Try lr={w.lr / 4:.3g} instead of {w.lr:.3g}." if w.lr else "Try a smaller step size."
    if w.run.status == "diverged":
        return w.alert("diverging", "error", f"{w.method} diverged: {_sentence(w.run.error)}", smaller)
    for name, word, factor in (("grad_norm_sq", "squared gradient norm", 100.0), ("loss", "loss", 10.0)):
        values = w.columns.get(name)
        if values is None or len(values) < 3 or not w.first[name] > 0:
            continue
        grown = values[-1] / max(w.first[name], 1e-12)
        if grown > factor and values[-1] >= np.median(values[-10:]):
            message = f"{w.method} is diverging: the {word} is {grown:,.3g} times what it was at the start."
            return w.alert("diverging", "error", message, smaller)
    return None


def stalled(w: Watched) -> Alert | None:
    """Nothing is under way any more, or the loss has stood still over the last third of the run, far from an optimum."""
    if w.run.status == "stalled":
        return w.alert(
            "stalled",
            "error",
            f"{w.method} stalled: {_sentence(w.run.error)}",
            "Use a fleet whose devices answer (lower dropout, no Hang), or a method that goes on without them.",
        )
    losses, gradients = w.columns.get("loss"), w.columns.get("grad_norm_sq")
    if losses is None or gradients is None or len(losses) < 30 or not np.isfinite(losses).all():
        return None
    if gradients[-1] <= 1e-8 * max(w.first["grad_norm_sq"], 1e-300):
        return None  # this is an optimum, not a stall
    part = max(10, len(losses) // 3)
    before, lately = losses[:-part], losses[-part:]
    reached = float(losses.max() - losses.min())
    flattens = np.median(gradients[-part:]) < 0.8 * np.median(gradients[-2 * part : -part])  # slow progress is progress
    if reached <= 0 or before.min() - lately.min() > 1e-3 * reached or flattens or diverging(w) is not None:
        return None
    swing = float(np.std(lately))
    noisy = swing > 1e-6 * max(abs(float(np.mean(lately))), 1e-300)
    if noisy:
        advice = "It circles at the noise of its step: try a smaller lr, a larger batch, or variance reduction."
    else:
        larger = f" (now {w.lr:.3g})" if w.lr else ""
        advice = (
            f"It stands still away from an optimum: try a larger lr{larger}; with local steps or biased compression, "
            f"a method that corrects for the clients' differences (SCAFFOLD, EF21)."
        )
    message = f"{w.method} has stalled: no better loss in the last {part} evaluations (now {losses[-1]:.4g})."
    return w.alert("stalled", "warning", message, advice)


def stale(w: Watched) -> Alert | None:
    """Too many devices send gradients of models that are long gone."""
    delays = w.columns.get("delay")
    if delays is None or len(delays) < w.n:
        return None
    limit = stale_after(w.n)
    newest = newest_delays(w.run, delays)
    if newest is not None:
        share, whose = float(np.mean(newest > limit)), "devices"
    else:
        share, whose = float(np.mean(delays[-max(200, w.n) :] > limit)), "arrivals"
    if share < STALE_SHARE:
        return None
    return w.alert(
        "stale",
        "warning",
        f"{share:.0%} of the {whose} bring gradients more than {limit:.0f} updates old (largest: {delays.max():.0f}).",
        "Discard late gradients (Ringmaster ASGD with R), make the step shrink with the delay, or wait for more replies "
        "per update.",
    )


def newest_delays(run: Run, delays: np.ndarray) -> np.ndarray | None:
    """(devices,) the newest delay of every device heard of lately; None where arrivals cannot be matched to devices."""
    timeline = getattr(run.federation, "timeline", None)
    if timeline is None:
        return None
    _, clients, _, states = timeline.jobs()
    arrived = clients[states != CANCELLED][::-1][: len(delays)]
    if len(arrived) == 0 or len(arrived) < min(len(delays), run.problem.n):
        return None
    _, first = np.unique(arrived, return_index=True)  # the newest of each
    return np.asarray(delays[::-1][first], dtype=float)


def dominant(w: Watched) -> Alert | None:
    """One client gives far more than its share of the updates, or of the bits."""
    if w.n < 4 or w.rows < 2:
        return None
    for column, word in (("replies", "updates"), ("up", "uploaded bits")):
        counts = per_client(w.run, column)
        if counts is None or counts.sum() <= max(10, w.n):
            continue
        share = counts / counts.sum()
        who = int(share.argmax())
        if share[who] > max(DOMINANT_SHARE, 3 / w.n):
            return w.alert(
                "dominant",
                "warning",
                f"Client {who} gives {share[who]:.0%} of all {word}; its fair share of {w.n} clients is {1 / w.n:.1%}.",
                "The model leans towards its data: sample clients evenly, cap the jobs of fast devices, or use a method that "
                "weighs clients equally (Ringleader ASGD, synchronous rounds).",
            )
    return None


def per_client(run: Run, column: str) -> np.ndarray | None:
    """(n,) cumulative counts of the ledger, or None where it does not keep that column."""
    try:
        return np.asarray(run.federation.ledger.per_client(column), dtype=float)
    except KeyError:
        return None


def budget(w: Watched) -> Alert | None:
    """Bits, seconds or rounds are nearly spent, and the target is not reached."""
    until = w.run.settings.until
    if until is None or not w.last or w.run.status in ("diverged", "stalled"):
        return None
    spent: list[tuple[float, str]] = []
    if until.bits is not None:
        spent.append((w.last["bits_up"] / until.bits, "bits"))
    if until.seconds is not None:
        spent.append((w.last["time"] / until.seconds, "virtual seconds"))
    if until.loss is not None or until.grad_norm_sq is not None:
        spent.append((w.round / max(1, w.run.settings.rounds), "rounds"))
    share, what = max(spent, default=(0.0, ""))
    loss = w.last.get("loss", np.inf)
    if share < SPENT or (until.loss is not None and loss <= until.loss):
        return None
    over = share >= 1
    target = "" if until.loss is None else f", and the loss is {loss:.4g} where {until.loss:.4g} was asked for"
    return w.alert(
        "budget",
        "info" if over and until.loss is None else "warning",
        f"The budget of {what} is {'spent' if over else f'{share:.0%} spent'}{target}.",
        "Raise the budget, or spend it better: a stronger compressor or more local steps for bits, faster or fewer clients "
        "per round for seconds.",
    )


def dropouts(w: Watched) -> Alert | None:
    """Many replies are lost, so that the average stands on few clients."""
    answered = per_client(w.run, "replies")
    if answered is None or w.rows < 5 or w.lost == 0:
        return None
    share = w.lost / max(1.0, float(answered.sum()) + w.lost)
    if share < DROPPED_SHARE:
        return None
    return w.alert(
        "dropouts",
        "warning",
        f"About {share:.0%} of the replies are lost (dropped out or late).",
        "Ask more clients per round than you need, extend the deadline, or use a method whose memory survives absence (EF21, "
        "DIANA with `weighted_sum()`).",
    )


def unanswered(w: Watched) -> Alert | None:
    """Rounds pass in which nobody answers: they are no progress."""
    if w.void == 0 or w.run.status == "stalled" or w.void < UNANSWERED_SHARE * w.round:
        return None
    return w.alert(
        "unanswered",
        "error" if w.void >= w.round else "warning",
        f"{w.round - w.void:,} of {w.round:,} rounds had an answer: in the others nobody replied, and nothing was learned.",
        "Give clients more time (a longer deadline; on Flower timeout= and patience=), or ask more of them per round.",
    )


def unprotected(w: Watched) -> Alert | None:
    """A private method that adds no noise."""
    noise = getattr(w.run.method, "noise_multiplier", None)
    if noise is None or noise > 0 or "privacy" not in w.run.method.tags:
        return None
    return w.alert(
        "privacy",
        "warning" if w.method.startswith("DP") else "info",
        f"{w.method} adds no noise: its epsilon is infinite, which is no privacy.",
        "Give noise_multiplier=; ol.trust.accounting.noise_for(epsilon=...) says how much an epsilon needs.",
    )


def suspicious(w: Watched) -> Alert | None:
    """Replies that were not finite, or that many rounds flag."""
    rejected, flagged = w.last.get("rejected", 0), w.last.get("flagged", 0)
    if not rejected and not flagged:
        return None
    what = (
        f"{rejected:.0f} replies were not finite and left out"
        if rejected
        else f"{flagged:.0f} replies lie far from the rest"
    )
    return w.alert(
        "suspicion",
        "warning",
        f"In the newest round {what}.",
        "Look at who sent them, and compare rules with ol.trust.worst_case(...): a flag is a diagnosis, not a proof.",
    )


def out_of_reach(w: Watched) -> Alert | None:
    """Caps on groups' losses that no model reaches: the multipliers stand at their bound."""
    share = w.last.get("saturation")
    if share is None or w.round < 20 or not share > 0.95:
        return None
    return w.alert(
        "cap",
        "warning",
        f"The multipliers are at {share:.0%} of their bound: a group stays above its cap.",
        "Raise that cap, a larger B holds caps more tightly, or the model needs to be richer.",
    )


def _sentence(error: Exception | None) -> str:
    return "" if error is None else str(error).split(". ")[0].rstrip(".") + "."


RULES: list[Callable[[Watched], Alert | None]] = [
    diverging,
    stalled,
    stale,
    dominant,
    budget,
    dropouts,
    unanswered,
    unprotected,
    suspicious,
    out_of_reach,
]

__all__ = ["RULES", "Alert", "alerts"]
