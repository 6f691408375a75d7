"""Draws docs/quickstart.svg, the picture of the README, from runs made here: python docs/make_picture.py

The same comparison as notebooks/quickstart.ipynb: four methods on skewed digits, 50 clients, each tuned
over the same multiples of its theory step. Some 20 seconds; the same file comes out every time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import octolab as ol

PLACE = Path(__file__).parent / "quickstart.svg"


def picture(clients: int = 50, rounds: int = 80) -> str:
    """The chart as SVG text."""
    problem = ol.problems.classification("digits", clients=clients, split=ol.data.Dirichlet(alpha=0.3))
    methods = ["fedavg", "scaffold", "diana", "ef21"]
    comparison = ol.compare(methods, problem, rounds=rounds, tune=[4**k for k in range(7)], x="bits_up")
    print(comparison, file=sys.stderr)
    return comparison.svg(
        title=f"Handwritten digits on {clients} clients, Dirichlet(0.3): {rounds} rounds each, tuned alike"
    )


if __name__ == "__main__":
    PLACE.write_text(picture() + "\n", encoding="utf-8")
    print(f"wrote {PLACE} ({PLACE.stat().st_size / 1e3:.0f} KB)")
