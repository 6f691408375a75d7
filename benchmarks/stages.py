"""Every method on its stage: the claim, whether it holds, by how much. python -m benchmarks.stages [slug ...]

Writes octolab/lab/stages.json and benchmarks/STAGES.md; ends with 1 if a claim fails whose page does not say so.
"""

from __future__ import annotations

import sys
from pathlib import Path

from octolab.lab import stages
from octolab.methods import get, slugs

TABLE = Path(__file__).parent / "STAGES.md"


def row(found: stages.Outcome) -> str:
    margin = "-" if found.margin is None else f"{found.margin:.3g}"
    holds = {True: "yes", False: "shown losing", None: "no baseline"}[found.holds]
    return f"| {found.slug} | {found.problem} | {found.baseline or '-'} | {found.axis} | {margin} | {holds} | {found.claim} |"


def broken(found: stages.Outcome) -> bool:
    """Whether a page claims what its stage does not show, and does not say so."""
    stage = get(found.slug).own_stage()
    return stage is not None and not found.holds and not stage.loses


def main(chosen: list[str]) -> int:
    outcomes = dict(stages.kept())
    for slug in chosen or slugs():
        try:
            outcomes[slug] = stages.compute(slug)
        except Exception as error:
            print(f"{slug}: {type(error).__name__}: {error}", flush=True)
            continue
        print(row(outcomes[slug]), flush=True)
        stages.write(outcomes)
    shown = [row(outcomes[slug]) for slug in sorted(outcomes)]
    head = (
        "| method | problem | baseline | axis | margin | holds | claim |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    said = "Both sides tuned over the same multiples of their theory step; the margin is the baseline's cost over the method's."
    TABLE.write_text(
        f"# Stages\n\n{said} `make stages` computes it.\n\n{head}\n" + "\n".join(shown) + "\n", encoding="utf-8"
    )
    failed = [slug for slug, found in outcomes.items() if broken(found)]
    if failed:
        print(f"These pages claim what their stage does not show, and do not say so: {', '.join(failed)}.")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
