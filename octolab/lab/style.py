"""Colours and lettering: one colour and dash per run everywhere, in light and in dark, and the style sheet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from octolab.lab.chart import Mark

# Okabe and Ito's colour-blind safe colours, the strongest on white first; dashes tell lines apart in grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
PATTERNS: dict[str, tuple[float, ...]] = {
    "solid": (),
    "dash": (7, 4),
    "dot": (2, 3),
    "dashdot": (7, 3, 2, 3),
    "longdash": (12, 4),
    "longdashdot": (12, 3, 2, 3),
}
"""Drawn and left out, in turn, in pixels."""
# Okabe and Ito's colours again, the dark ones lifted so that they stand out on a dark page
DARK_COLOURS = ("#4DA3DE", "#F0803C", "#2FC79A", "#E69F00", "#DE97BF", "#7CC7F2", "#F2F2F2", "#F0E442")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"


@dataclass
class Style:
    """name -> number, kept for good: a method keeps its colour when others come and go."""

    dark: bool = False
    numbers: dict[str, int] = field(default_factory=dict)

    def know(self, names: Iterable[str]) -> Style:
        for name in names:
            if name not in self.numbers:
                taken = set(self.numbers.values())
                self.numbers[name] = next(k for k in range(len(taken) + 1) if k not in taken)
        return self

    def colour(self, mark: Mark | str) -> str:
        """The colour of a mark, or of a run by its name."""
        if isinstance(mark, Mark):
            if not mark.run and mark.colour is None:
                return self.grey
            if mark.colour is not None:
                return mark.colour
            mark = mark.run
        palette = DARK_COLOURS if self.dark else COLOURS
        return palette[self.numbers.get(mark, 0) % len(palette)]

    def dash(self, mark: Mark | str) -> str:
        if isinstance(mark, Mark):
            if mark.dash is not None:
                return mark.dash
            mark = mark.run
        return DASHES[self.numbers.get(mark, 0) % len(DASHES)] if mark else "dash"

    @property
    def ink(self) -> str:
        return "#E6E6E6" if self.dark else "#222222"

    @property
    def paper(self) -> str:
        return "#1E1E1E" if self.dark else "#FFFFFF"

    @property
    def grey(self) -> str:
        return "#A8A8A8" if self.dark else "#6B6B6B"

    @property
    def grid(self) -> str:
        return "rgba(255,255,255,0.13)" if self.dark else "rgba(0,0,0,0.09)"

    @property
    def axis(self) -> str:
        return "rgba(255,255,255,0.35)" if self.dark else "rgba(0,0,0,0.35)"


def faint(colour: str, opacity: float) -> str:
    """#RRGGBB as rgba(...)."""
    r, g, b = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({r},{g},{b},{opacity:g})"


def stroke(style: Style, mark: Mark) -> dict[str, Any]:
    """A mark's line, as plotly says it."""
    return {"color": style.colour(mark), "dash": style.dash(mark), "width": mark.width or 2}
