"""Who the clients are, as a small inline SVG: the labels each one holds, or how far apart their optima lie.

Drawn from the split alone, before any problem is built: a slider can ask for it at every move.
"""

from __future__ import annotations

from html import escape

import numpy as np

from octolab.lab.partition import palette
from octolab.lab.presets import Preset, QuadraticClients

MOST = 120
WIDTH, HEIGHT = 330, 92


def picture(preset: Preset) -> str:
    """HTML for a preset's clients; a sentence where there is nothing to draw. ValueError if its split does not work."""
    if isinstance(preset, QuadraticClients):
        return _distances(preset)
    found = preset.histogram()
    if found is None or found[0].shape[1] < 2:
        words = (
            "All clients share one objective here."
            if preset.skew is None
            else "These clients have no labels to compare."
        )
        return f"<span class='octo-doc'>{words}</span>"
    return _labels(*found)


def _labels(counts: np.ndarray, names: list[str]) -> str:
    """A stacked bar per client, a colour per class; the height is the number of samples."""
    n, classes = counts.shape
    shown, colours = counts[:MOST], palette(classes)
    top = max(1, int(counts.sum(1).max()))
    step = WIDTH / len(shown)
    gap = min(2.0, step * 0.2)
    parts = []
    for i, row in enumerate(shown):
        y = float(HEIGHT)
        for c in np.flatnonzero(row):
            height = HEIGHT * float(row[c]) / top
            y -= height
            parts.append(
                f"<rect x='{i * step:.2f}' y='{y:.2f}' width='{step - gap:.2f}' height='{height:.2f}' fill='{colours[c]}'/>"
            )
    held = (counts > 0).sum(1)
    most = counts.max(1) / np.maximum(counts.sum(1), 1)
    words = (
        f"{n:,} clients; in the middle one holds {int(np.median(held))} of {classes} labels, and {np.median(most):.0%} of its "
        f"samples are of one label"
    )
    more = f" The first {MOST} are drawn." if n > MOST else ""
    return _svg(parts, f"{words}.{more}", f"Labels of each client ({', '.join(names[:12])})")


def _distances(preset: QuadraticClients) -> str:
    """A bar per client: how far its own minimiser lies from the common one, for spread 1 at the middle of the scale."""
    problem = preset.build()
    own = problem.minimisers()
    assert problem.x_star is not None  # a strongly convex quadratic knows it
    far = np.linalg.norm(own - problem.x_star.numpy(), axis=1)
    shown = far[:MOST]
    step = WIDTH / len(shown)
    scale = np.clip(np.log10(np.maximum(shown, 1e-3) / 0.05) / np.log10(4000), 0.01, 1)
    parts = [
        f"<rect x='{i * step:.2f}' y='{HEIGHT * (1 - s):.2f}' width='{step - min(2.0, step * 0.2):.2f}' "
        f"height='{HEIGHT * s:.2f}' fill='#44AA99'/>"
        for i, s in enumerate(scale)
    ]
    words = f"{preset.n:,} clients; their own minimisers lie {far.min():.3g} to {far.max():.3g} from the common one."
    return _svg(parts, words, "Distance of each client's minimiser from the common one, on a logarithmic scale")


def _svg(parts: list[str], words: str, title: str) -> str:
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{escape(f'{title}. {words}', quote=True)}' "
        f"preserveAspectRatio='none' style='height:{HEIGHT}px'><title>{escape(title)}</title>{''.join(parts)}</svg>"
        f"<span class='octo-doc'>{escape(words)}</span>"
    )
