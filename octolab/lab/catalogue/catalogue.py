"""`ol.lab()`: all methods on one screen. A click opens one in place; a view of `Search`."""

from __future__ import annotations

import warnings
from html import escape
from typing import Any

import ipywidgets

from octolab.lab import display, theme
from octolab.lab.catalogue.search import NEEDS, PAINS, Search
from octolab.lab.controls import View
from octolab.lab.explorer.explorer import Explorer
from octolab.lab.latex import pretty


class Catalogue(ipywidgets.VBox):
    """All methods. `search` is what is looked for; `visit(slug)` shows one, `back()` returns; `explorer` is the one shown."""

    def __init__(self, problem: Any = None, **more: Any):
        super().__init__()
        self.add_class("octo-catalogue")
        self.search, self._given = Search(), {"problem": problem, **more}
        self.explorer: Explorer | None = None
        words = "<span class='octo-summary'>one page each. Pick one and run it.</span>"
        head = f"<div class='octo-title-line'><h2>{len(self.search.cards)} methods</h2>{words}</div>"
        self._head = View("html", {"html": head})
        self.list_view = View("catalogue", self._state(), self.receive)
        self._back = View(
            "html",
            {"html": "<button type='button' class='octo-button octo-back' data-send='back'>← all methods</button>"},
            lambda c: self.back(),
        )
        self.children = [self._head, self.list_view]

    @property
    def shelf(self) -> Search:
        """The old name of `search`."""
        warnings.warn("catalogue.shelf is now catalogue.search.", DeprecationWarning, stacklevel=2)
        return self.search

    def _state(self) -> dict[str, Any]:
        s = self.search
        families = [
            {"title": family, "methods": [
                {"slug": m.card.slug, "name": m.card.name, "solves": pretty(m.card.solves or m.card.summary),
                 "why": "; ".join(m.why)}
                for m in matches
            ]}
            for family, matches in s.by_family()
        ]  # fmt: skip
        shown, every = sum(len(f["methods"]) for f in families), len(s.cards)
        found = f"{shown} of {every} methods" if s.narrowed else f"{every} methods in {len(families)} families"
        return {
            "query": s.query, "narrowed": s.narrowed, "families": families,
            "found": found if shown else "None fits all of this. Let go of something.",
            "pains": [
                {"name": p.name, "label": f"{p.label} ({s.helped(p)})", "hint": p.hint, "on": p.name in s.pains}
                for p in PAINS.values()
            ],
            "tags": [{"name": t, "label": t, "hint": "", "on": t in s.tags} for t in s.all_tags()],
            "needs": [{"name": n, "label": NEEDS.get(n, n), "hint": "hide what needs it", "on": n in s.without}
                      for n in s.all_needs()],
        }  # fmt: skip

    def receive(self, content: dict[str, Any]) -> None:
        if "open" in content:
            self.visit(content["open"])
        elif "query" in content:
            self.search.query = str(content["query"])
        elif "toggle" in content:
            self.search.toggle(content["toggle"], content["name"])
        elif "clear" in content:
            self.search.clear()
        self.refresh()

    def refresh(self) -> None:
        """Draw what `search` finds now."""
        self.list_view.state = self._state()

    def visit(self, slug: str) -> Explorer:
        """Show one method in place of the list."""
        if self.explorer is not None:
            self.explorer.close()
        self.explorer = Explorer(slug, **self._given)
        self.children = [self._back, self.explorer]
        self.explorer.warm()
        return self.explorer

    def back(self) -> None:
        """Return to the list; the method's threads end."""
        explorer, self.explorer = self.explorer, None
        self.children = [self._head, self.list_view]
        if explorer is not None:
            explorer.close()

    def close(self) -> None:
        if self.explorer is not None:
            self.explorer.close()
        for widget in (self, self._head, self.list_view, self._back):  # two of them are not on the screen
            display.close_tree(widget)

    def _repr_html_(self) -> str:
        body = [f"<div class='octo-title-line'><h2>{len(self.search.cards)} methods</h2></div>"]
        for family, matches in self.search.by_family():
            items = "".join(
                f"<li><b>{escape(m.card.name)}</b> <code>{escape(m.card.slug)}</code>: {escape(m.card.summary)}</li>"
                for m in matches
            )
            body.append(f"<h3>{escape(family)}</h3><ul>{items}</ul>")
        return theme.static("".join(body), "octo-catalogue")

    def __repr__(self) -> str:
        return repr(self.search)

    def _ipython_display_(self, **_: Any) -> None:
        display.show(self)
