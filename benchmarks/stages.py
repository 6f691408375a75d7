"""Every method on its stage: the claim, whether it holds, by how much. python -m benchmarks.stages [slug ...]

Writes octolab/lab/stages.json and benchmarks/STAGES.md; ends with 1 if a claim fails whose page does not say so.

    python -m benchmarks.stages --changed [seconds]

computes those of the pages that the last commit changed and a tenth of the others, another one for each commit, for so many
seconds (60); it writes nothing, and ends with 1 also where what is kept is no longer so.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import time
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


def turn(slugs: list[str], commit: str, changed: set[str]) -> list[str]:
    """Whose stage is computed at a commit: those whose page changed, then the tenth of the others whose turn it is."""
    mine = [slug for slug in slugs if Path(inspect.getfile(get(slug))).name in changed]
    return mine + [slug for k, slug in enumerate(slugs) if slug not in mine and k % 10 == int(commit, 16) % 10]


def differs(found: stages.Outcome, kept: stages.Outcome | None) -> bool:
    """Whether the verdict that is kept, and shown in the explorer, is no longer so."""
    return kept is None or found.holds is not kept.holds or found.claim != kept.claim


def check(seconds: float) -> int:
    """The turn's stages within so many seconds; 1 if one fails silently, or is not what is kept."""
    git = ["git", "-C", str(TABLE.parents[1])]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    names = subprocess.run(
        [*git, "diff", "--name-only", "HEAD~1", "--", "octolab/methods"], capture_output=True, text=True
    )
    todo = turn(slugs(), commit, {Path(line).name for line in names.stdout.split()})
    end, wrong = time.monotonic() + seconds, []
    while todo and time.monotonic() < end:
        found = stages.compute(todo.pop(0))
        print(row(found), flush=True)
        if broken(found) or differs(found, stages.kept().get(found.slug)):
            wrong.append(found.slug)
    print(f"not reached in {seconds:g} s: {', '.join(todo)}" if todo else "all of this turn computed")
    if wrong:
        print(
            f"Not as kept, or a claim fails silently: {', '.join(wrong)}. Run python -m benchmarks.stages {' '.join(wrong)}."
        )
    return bool(wrong)


def main(chosen: list[str]) -> int:
    if chosen[:1] == ["--changed"]:
        return check(float(chosen[1]) if len(chosen) > 1 else 60)
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
