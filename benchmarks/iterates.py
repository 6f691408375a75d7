"""Hashes of every method's iterates, to show that a change of the house changes no number.

    python -m benchmarks.iterates > before.json       # on this machine, before
    python -m benchmarks.iterates --compare before.json

Twelve rounds on the three standard problems, seed 3. Hashes of one machine say nothing about another one's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings


def table() -> dict[str, str]:
    import octolab as ol

    try:
        from octolab.testing.problems import STANDARD, NotApplicable, fitted
    except ImportError:  # the name before
        from octolab.testing.worlds import STANDARD, NotApplicable, fitted  # type: ignore[no-redef]

    out = {}
    for slug in ol.methods.slugs():
        method = ol.methods.get(slug)()
        for where, make in STANDARD.items():
            problem = make(method)
            try:
                run = ol.run(fitted(method, problem), problem, rounds=12, seed=3, keep="x", live=False)
            except NotApplicable:
                continue
            bits = (
                int(run.federation.ledger.per_client("up").sum()),
                int(run.federation.ledger.per_client("down").sum()),
            )
            out[f"{slug} {where}"] = hashlib.sha256(run.iterates.numpy().tobytes() + str(bits).encode()).hexdigest()[
                :16
            ]
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--compare", metavar="FILE", help="a table made before: say what differs, end with 1 if anything does"
    )
    before = parser.parse_args().compare
    warnings.simplefilter("ignore")
    now = table()
    if before is None:
        json.dump(now, sys.stdout, indent=1, sort_keys=True)
        return 0
    with open(before) as file:
        then = json.load(file)
    changed = sorted(k for k in then if now.get(k) != then[k])
    print(f"{len(then) - len(changed)} of {len(then)} as before" + "".join(f"\n  other: {k}" for k in changed))
    return 1 if changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
