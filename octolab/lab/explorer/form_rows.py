"""Knobs as the rows of a form: what they hold, what is wrong, what a theory value stands for here."""

from __future__ import annotations

from typing import Any

from octolab.lab import presets
from octolab.lab.controls import row
from octolab.lab.explorer.state import ExplorerState
from octolab.lab.explorer.theory import amount


def rows(b: ExplorerState, paths: list[str], review: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Knobs as rows of a form, with errors, locks, notes and what a theory value stands for."""
    out: list[dict[str, Any]] = []
    known = {k.path: k for k in b.knobs()}
    for path in paths:
        if path == "problem":
            out.append(problem_row(b))
            continue
        if path not in known or not b.visible(path):
            continue
        knob = known[path]
        entered, error = b.errors.get(path, (None, ""))
        more: dict[str, Any] = {"error": error, "locked": b.locked.get(path, ""), "note": b.note(path)}
        if entered is not None:
            more["entered"] = str(entered)
        if review is not None and path in review["values"]:
            value = review["values"][path]
            more |= {"note": f"= {amount(value, 4)}", "resolved": amount(value)}
        if review is not None and review["refused"] == path and not error:
            more["error"] = review["refusal"]
        skew = b.preset.skew
        if skew is not None and path == f"problem.{skew[0]}":
            more |= {
                "label": "heterogeneity",
                "inner": False,
                "slider": {"low": skew[1], "high": skew[2], "log": True, "whole": False},
            }
            more["doc"] = (
                "alpha: small is very different clients"
                if "alpha" in path
                else "spread: large is very different clients"
            )
        out.append(row(knob, **more))
    return out


def problem_row(b: ExplorerState) -> dict[str, Any]:
    name = presets.name_of(b.preset)
    listed = [{"value": n, "label": label, "hint": ""} for n, (label, _) in presets.PRESETS.items()]
    if name is None:
        listed.insert(0, {"value": "", "label": f"{b.problem.name} (yours)", "hint": ""})
    entered, error = b.errors.get("problem", (None, ""))
    return {
        "path": "problem", "label": "problem", "doc": "", "kind": "choice", "value": name or "", "theory": False,
        "optional": False,
        "none": "", "inner": False, "choices": listed, "slider": None, "multiplier": None, "error": error, "entered": entered,
        "note": "", "locked": b.locked.get("problem", ""), "resolved": None,
    }  # fmt: skip


def _above(b: ExplorerState) -> list[str]:
    """The problem and its heterogeneity; what a teacher shows of them."""
    skew = [] if b.preset.skew is None else [f"problem.{b.preset.skew[0]}"]
    return [p for p in ("problem", *skew) if b.visible(p)]


def where(b: ExplorerState, review: dict[str, Any] | None) -> list[dict[str, Any]]:
    return rows(b, _above(b), review)


def front(b: ExplorerState, review: dict[str, Any] | None) -> list[dict[str, Any]]:
    above = _above(b)
    return rows(b, [p for p in b.front() if p not in above], review)
