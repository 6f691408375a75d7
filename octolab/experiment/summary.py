"""A run in words: its status, its last numbers in human units, and three or four lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from octolab.params import Value, values

if TYPE_CHECKING:
    from octolab.experiment.run import Run


def bits(amount: float) -> str:
    """Bits in human units: 1234567 is '1.23 Mbit'."""
    for size, unit in ((1e12, "Tbit"), (1e9, "Gbit"), (1e6, "Mbit"), (1e3, "kbit")):
        if abs(amount) >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount:.0f} bit"


def status(run: Run) -> str:
    """What became of a run: its status, or 'diverging' if its last gradient is over ten times its first one."""
    _, what = run.recorder.sparse.get("grad_norm_sq", ([], []))
    if run.status in ("finished", "stopped") and len(what) > 1 and not what[-1] <= 100 * max(what[0], 1e-12):
        return "diverging"
    return "paused" if run.status == "running" and run.paused else run.status


OBJECTIVE = ("loss", "|∇f|²", "accuracy")


def unanswered(run: Run) -> int:
    """Rounds in which nobody answered: time passed, and the model stayed what it was."""
    return len(run.recorder.sparse.get("skipped", ([], []))[0])


def facts(run: Run) -> list[tuple[str, str]]:
    """The last numbers of a run, in words and human units."""
    from octolab.experiment.run import FOREVER

    last = run.last
    rounds = "" if run.settings.rounds >= FOREVER else f" of {run.settings.rounds:,}"
    out = [
        ("status", status(run)),
        ("round", f"{max(run.round, 0):,}{rounds}" if last else f"not started{rounds}"),
    ]
    if not last:
        return out
    of = "" if last.get("evaluated", run.round) == run.round else f" of round {last['evaluated']:,}"
    for name, word, form in (
        ("loss", "loss", ".6g"),
        ("grad_norm_sq", "|∇f|²", ".3g"),
        ("accuracy", "accuracy", ".1%"),
    ):
        if name in last:
            out.append((word + of, format(last[name], form)))
    if void := unanswered(run):
        out.append(("answers", f"{run.round - void:,} of {run.round:,} rounds had an answer"))
    out += [("up", f"{bits(last['bits_up'])} per client"), ("down", f"{bits(last['bits_down'])} per client")]
    return [*out, ("virtual time", f"{last['time']:,.4g} s")]


def resolved(run: Run) -> list[Value]:
    """The method's parameters, with the number that each `Theory()` stands for on this problem, in this round."""
    return values(run.given, run.method)


def text(run: Run) -> str:
    """A run in three or four lines; works before it starts and after it diverged."""
    found = dict(facts(run))
    lines = [
        f"{run.given!r} on {run.problem.name} ({run.problem.n} clients, d={run.problem.d:,}), seed {run.settings.seed}"
    ]
    lines.append(f"  {found.pop('status')}, round {found.pop('round')}")
    theory = [f"{v.name} = {v.text}" for v in resolved(run) if "Theory(" in repr(v.given)]
    if theory:
        lines.append("  theory: " + ", ".join(theory))
    measured = [f"{word} {found.pop(word)}" for word in list(found) if word.startswith(OBJECTIVE)]
    if measured:
        lines.append("  " + ", ".join(measured))
    if "answers" in found:
        lines.append("  " + found.pop("answers"))
    if found:
        lines.append("  " + ", ".join(f"{word} {value}" for word, value in found.items()))
    if run.error is not None:
        lines.append(f"  {run.error}")
    return "\n".join(lines)
