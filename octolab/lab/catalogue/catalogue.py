"""`ol.lab()`: all methods on one screen. A click opens one in place; a view of `Search`."""

from __future__ import annotations

import warnings
from html import escape
from typing import Any

import ipywidgets

from octolab.lab import display, theme
from octolab.lab.catalogue.parts import part_card
from octolab.lab.catalogue.search import NEEDS, PAINS, Match, Search
from octolab.lab.controls import View
from octolab.lab.explorer.explorer import Explorer
from octolab.lab.latex import pretty
from octolab.lab.presets import Preset
from octolab.problems import Problem


class Catalogue(ipywidgets.VBox):
    """All methods. `search` is what is looked for; `visit(slug)` shows one, `back()` returns; `explorer` is the one shown."""

    def __init__(self, problem: Problem | Preset | str | None = None, **more: Any):
        super().__init__()
        self.add_class("octo-catalogue")
        self.search, self._given = Search(), {"problem": problem, **more}
        self.explorer: Explorer | None = None
        words = "<span class='octo-summary'>one page each. Pick one and run it.</span>"
        head = f"<div class='octo-title-line'><h2>{len(self.search.cards)} methods</h2>{words}</div>"
        self._head = View("html", {"html": head})
        self.ticked: list[str] = []
        self._part = View("html", {"html": ""})
        self.list_view = View("catalogue", self._state(), self.receive)
        self._back = View(
            "html",
            {
                "html": "<button type='button' class='octo-button octo-back' data-send='back'>← all methods</button>",
                "top": True,
            },
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
        shelves = [("Best first", s.ranked())] if s.pains and s.found() else s.by_family()
        families = [{"title": name, "methods": [self._entry(m) for m in matches]} for name, matches in shelves]
        shown, every, parts = sum(len(f["methods"]) for f in families), len(s.cards), s.parts()
        found = f"{shown} of {every} methods" if s.narrowed else f"{every} methods in {len(families)} families"
        if not s.narrowed:
            families.insert(0, {"title": "Start here", "methods": [self._entry(Match(card)) for card in s.start()]})
        names = {card.slug: card.name for card in s.cards}
        return {
            "key": str(id(self)),  # the browser keeps the place in the list by it
            "ticked": [{"slug": slug, "name": names[slug]} for slug in self.ticked],
            "parts": [{"room": p.room, "name": p.name, "noun": p.noun, "summary": p.summary} for p in parts],
            "query": s.query, "narrowed": s.narrowed, "families": families,
            "found": found if shown else f"no method, {len(parts)} other parts" if parts else s.advice(),
            "pains": [
                {"name": p.name, "label": f"{p.label} ({s.helped(p)})", "hint": p.hint, "on": p.name in s.pains}
                for p in PAINS.values()
            ],
            "tags": [{"name": t, "label": t, "hint": "", "on": t in s.tags} for t in s.all_tags()],
            "needs": [{"name": n, "label": NEEDS.get(n, n), "hint": "hide what needs it", "on": n in s.without}
                      for n in s.all_needs()],
        }  # fmt: skip

    def _entry(self, match: Match) -> dict[str, Any]:
        """A method on a shelf. Where the reason is what it solves, the line above says what it is."""
        about = match.card
        line = about.summary if any(w.startswith("solves ") for w in match.why) else about.solves or about.summary
        return {"slug": about.slug, "name": about.name, "solves": pretty(line), "why": "; ".join(match.why)}

    def tick(self, slug: str) -> None:
        """Tick a method, or untick it; two at most, the older one gives way."""
        self.ticked = [s for s in self.ticked if s != slug] if slug in self.ticked else [*self.ticked[-1:], slug]

    def compare(self) -> Explorer:
        """Show the first ticked method with the second as its baseline."""
        if len(self.ticked) != 2:
            raise ValueError("Tick two methods to compare them.")
        first, second = self.ticked
        return self.visit(first, baseline=second)

    def show_part(self, room: str, name: str) -> None:
        """Show a part that is no method in place of the list."""
        self._part.update(html=part_card(room, name))
        self.children = [self._back, self._part]

    def receive(self, content: dict[str, Any]) -> None:
        if "open" in content:
            self.visit(content["open"])
        elif "query" in content:
            self.search.query = str(content["query"])
        elif "toggle" in content:
            self.search.toggle(content["toggle"], content["name"])
        elif "tick" in content:
            self.tick(str(content["tick"]))
        elif "compare" in content and len(self.ticked) == 2:
            self.compare()
        elif "part" in content:
            self.show_part(*map(str, content["part"]))
        elif "clear" in content:
            self.search.clear()
        self.refresh()

    def refresh(self) -> None:
        """Draw what `search` finds now."""
        self.list_view.state = self._state()

    def visit(self, slug: str, **more: Any) -> Explorer:
        """Show one method in place of the list; more: knobs of its explorer."""
        if self.explorer is not None:
            self.explorer.close()
        self.explorer = Explorer(slug, **self._given, **more)
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
        for widget in (self, self._head, self.list_view, self._back, self._part):  # some of them are not on the screen
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
