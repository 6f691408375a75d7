"""What the paper promises, for this very problem: constants, step sizes, assumptions, and the rate over the measured curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from octolab.errors import OctolabError
from octolab.experiment import curves
from octolab.experiment.curves import Line
from octolab.experiment.run import Run
from octolab.experiment.tuning import quiet
from octolab.lab import latex
from octolab.lab.explorer.state import ExplorerState
from octolab.lab.svg import curves_svg


@dataclass(frozen=True)
class Fact:
    """A constant: its symbol (LaTeX), its value, what it is."""

    symbol: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Check:
    """An assumption on this problem. holds: True, False, or None where it cannot be told. why: in words."""

    text: str
    holds: bool | None
    why: str = ""


def amount(value: Any, digits: int = 6) -> str:
    """A resolved value: a number, or the range of one per client."""
    numbers = np.asarray(value, dtype=float).ravel()
    low, high = float(numbers.min()), float(numbers.max())
    return f"{low:.{digits}g}" if low == high else f"{low:.{digits}g} to {high:.{digits}g}"


def _number(value: Any) -> str:
    return "unknown" if value is None else f"{float(value):.4g}"


def constants(state: ExplorerState) -> list[Fact]:
    """What the theorems read from the problem and the compressors, evaluated."""
    p = state.problem
    facts = [
        Fact("n", f"{p.n:,}", "clients"),
        Fact("d", f"{p.d:,}", "dimension of the model"),
        Fact("L", _number(p.L), "smoothness of f"),
    ]
    if p.L_i is not None:
        low, high = float(p.L_i.min()), float(p.L_i.max())
        same = f"{low:.4g}" if math.isclose(low, high, rel_tol=1e-9) else f"{low:.4g} to {high:.4g}"
        facts += [Fact("L_i", same, "smoothness of the clients"), Fact(r"\bar L", _number(p.L_mean), "their mean")]
    facts.append(Fact(r"\mu", _number(p.mu), "strong convexity"))
    if p.L and p.mu:
        facts.append(Fact(r"\kappa", f"{p.L / p.mu:.4g}", "condition number"))
    if getattr(p, "sigma_sq", None):
        facts.append(Fact(r"\sigma^2", _number(p.sigma_sq), "variance of a stochastic gradient of one sample"))
    for knob in state.knobs("method"):
        c = knob.value
        if knob.kind != "kind" or not hasattr(c, "omega") or not hasattr(c, "alpha"):
            continue
        try:
            d = p.d
            alpha, omega = c.alpha(d), c.omega(d)
            if alpha is not None:
                facts.append(Fact(r"\alpha", _number(alpha), f"of {c!r}: 1 keeps everything, 0 nothing"))
            if omega is not None:
                facts.append(Fact(r"\omega", _number(omega), f"of {c!r}: its variance"))
            bits = c.expected_bits(d)
            if bits and c.axes == 1:
                facts.append(
                    Fact(
                        r"b",
                        f"{bits:,.0f} bits",
                        f"a message of {c!r}; dense: {32 * d:,} bits ({32 * d / bits:.3g} times more)",
                    )
                )
        except (ValueError, OctolabError):
            continue
    return facts


def steps(state: ExplorerState) -> list[Fact]:
    """What every theory value stands for here."""
    review = state.review()
    found = []
    for path, value in review["values"].items():
        knob = state.knob(path)
        times = "" if knob.value.multiplier == 1 else f", times {knob.value.multiplier:g}"
        found.append(Fact(latex.formula(knob.name), amount(value), f"{knob.doc}: by theory{times}"))
    return found


def checks(state: ExplorerState) -> list[Check]:
    """The assumptions, ticked or crossed on this problem: what the page says it needs, then what it warns of or refuses."""
    p, method = state.problem, state.method
    held = [
        k.value
        for k in state.knobs("method")
        if k.kind == "kind" and hasattr(k.value, "omega") and getattr(k.value, "axes", 1) == 1
    ]
    fleet = state.fleet
    out = []
    known = {
        "unbiased": ("the compressor is unbiased", all(c.unbiased for c in held)),
        "contractive": ("the compressor is contractive", all(_alpha(c, p.d) is not None for c in held)),
        "homogeneous": ("every client has the same objective", bool(p.homogeneous or p.n == 1)),
        "strongly convex": ("f is strongly convex", bool(p.strongly_convex)),
        "hessian": ("Hessians can be had", bool(getattr(p, "has_hessian", False))),
        "full participation": ("everybody takes part in every round", fleet is None or fleet.lossless),
    }
    for need in method.needs:
        text, holds = known.get(need, (need, None))
        out.append(Check(text, holds))
    smooth = p.L is not None
    out.append(
        Check(
            "f is smooth, with a known constant", True if smooth else None, "" if smooth else (p.constants_note or "")
        )
    )
    review = state.review()
    out += [Check(text, False) for text in review["warnings"]]
    if review["refusal"]:
        out.append(Check(review["refusal"], False))
    return out


def _alpha(compressor: Any, d: int) -> float | None:
    try:
        return compressor.alpha(d)
    except ValueError:
        return None


def rate(state: ExplorerState) -> float | None:
    """The theorem's factor per step, in (0, 1), with the present values; None if there is none."""
    try:
        with quiet():
            resolved = state.method.resolve(state.problem)
            found = resolved.proved_rate(state.problem)
    except (OctolabError, ValueError, TypeError, ZeroDivisionError, AttributeError):
        return None
    return float(found) if found is not None and 0 < found < 1 else None


def predicted(state: ExplorerState, run: Run) -> tuple[Line, Line, str] | None:
    """The measured curve and the rate's over it, from the same start; and what is measured. None: nothing to draw."""
    factor = rate(state)
    if factor is None:
        return None
    y = "suboptimality" if run.problem.f_star is not None and run.problem.convex else "grad_norm_sq"
    if len(run.snapshot().newest("loss", 2)) < 2:
        return None
    curve = curves.line(run.name, [run], "round", y, most=400)
    good = np.isfinite(curve.y) & (curve.y > 1e-15 * max(1.0, float(np.nanmax(curve.y))))
    x, values = curve.x[good], curve.y[good]
    if len(x) < 2:
        return None
    promised = values[0] * factor ** (x - x[0])
    return Line(f"{run.name}, measured", x, values), Line(f"the theorem's factor {factor:.6g} per step", x, promised), y


def chart(state: ExplorerState, run: Run | None) -> str:
    """The predicted rate over the measured curve, as SVG; or the sentence that says why there is none."""
    factor = rate(state)
    if factor is None:
        words = "No linear rate to draw: the theorem claims none here, or its constants are unknown for this problem."
        return f"<p class='octo-doc'>{words}</p>"
    half = math.log(0.5) / math.log(factor)
    steps = f"{half:.3g}" if half < 100 else f"{half:,.0f}"
    words = f"<p>The theorem's quantity shrinks by $\\rho = {factor:.6g}$ per step: it halves every {steps} steps.</p>"
    if run is None:
        return words + "<p class='octo-doc'>Press Run, and the measured curve is drawn against it.</p>"
    found = predicted(state, run)
    if found is None:
        return words
    measured, promised, y = found
    return words + curves_svg([measured, promised], "round", y, "", width=560, height=290)


# -- HTML ------------------------------------------------------------------------------------------------------------
def table(facts: list[Fact], caption: str) -> str:
    rows = "".join(
        f"<tr><td>${f.symbol}$</td><td class='octo-number'>{escape(f.value)}</td><td>{escape(f.meaning)}</td></tr>"
        for f in facts
    )
    return f"<h4>{escape(caption)}</h4><table><tbody>{rows}</tbody></table>" if facts else ""


def marks(found: list[Check]) -> str:
    glyphs = {
        True: ("✓", "octo-yes", "holds"),
        False: ("✗", "octo-no", "does not hold"),
        None: ("?", "octo-open", "cannot be told"),
    }
    items = []
    for check in found:
        glyph, style, spoken = glyphs[check.holds]
        why = f" <span class='octo-doc'>{escape(check.why)}</span>" if check.why else ""
        items.append(
            f"<li><span class='{style}' role='img' aria-label='{spoken}'>{glyph}</span>"
            f"<span>{escape(check.text)}{why}</span></li>"
        )
    return f"<ul class='octo-checks'>{''.join(items)}</ul>"


def algorithm(state: ExplorerState) -> str:
    """The algorithm, the theorem and the step size, for a renderer of LaTeX."""
    card = state.method.card
    theorem = f"<h4>Theorem</h4><p>{escape(card.theorem, quote=False)}</p>" if card.theorem else ""
    step = f"<h4>Step size</h4><p>{latex.prose(card.step_size)}</p>" if card.step_size else ""
    traffic = f"<p><b>Up:</b> {latex.prose(card.up)}. <b>Down:</b> {latex.prose(card.down)}.</p>" if card.up else ""
    return f"<h4>Algorithm</h4>{latex.algorithm(card.algorithm)}{traffic}{theorem}{step}"


def numbers(state: ExplorerState) -> str:
    """Assumptions and constants on this problem, for a renderer of LaTeX; a sentence if the problem cannot be built."""
    card = state.method.card
    open_points = (
        f"<h4>Unconfirmed</h4><p class='octo-open'>{latex.prose(card.unconfirmed)}</p>" if card.unconfirmed else ""
    )
    assumes = f"<p><b>Assumes:</b> {latex.prose(card.assumes)}</p>" if card.assumes else ""
    try:
        on = f"<h4>Assumptions, on {escape(state.problem.name)}</h4>{assumes}{marks(checks(state))}"
        return (
            on
            + table(steps(state), "Theory values here")
            + table(constants(state), "Constants of this problem")
            + open_points
        )
    except (ValueError, OctolabError) as error:
        return f"{assumes}<p class='octo-no'>{escape(str(error))}</p>{open_points}"


__all__ = ["Check", "Fact", "algorithm", "amount", "chart", "checks", "constants", "numbers", "rate", "steps"]
