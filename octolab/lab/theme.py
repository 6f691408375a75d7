"""How octolab's widgets look: one style sheet, for the widgets and for what stays of them in a saved notebook."""

from __future__ import annotations

from functools import cache
from pathlib import Path

HERE = Path(__file__).parent


@cache
def css() -> str:
    return (HERE / "theme.css").read_text(encoding="utf-8")


def static(body: str, hides: str) -> str:
    """HTML that stands alone and hides itself wherever the live widget with the class `hides` is in the same output."""
    live = f".jp-OutputArea:has(.{hides}.widget-box) .octo-static {{ display: none; }}"
    return f"<style>{css()}\n{live}</style><div class='octo-static'>{body}</div>"
