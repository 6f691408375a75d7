"""The levels below the glance: every knob, the theory, the code. Each opens in place and is built when first opened."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from octolab.errors import OctolabError
from octolab.lab.controls import View
from octolab.lab.explorer import form_rows, static_cards, theory
from octolab.methods import slugs

if TYPE_CHECKING:
    from octolab.lab.explorer.explorer import Explorer

FORMATS = {
    "csv": ("CSV", "text/csv"), "parquet": ("Parquet", "application/octet-stream"), "html": ("HTML page", "text/html"),
    "svg": ("SVG", "image/svg+xml"), "png": ("PNG", "image/png"),
    "pdf": ("PDF", "application/pdf"), "tex": ("LaTeX table", "text/x-tex"),
}  # fmt: skip


class Level:
    """A header that opens and closes a body. A subclass builds the body, and draws it again when the state changed."""

    number, title, hint = 1, "", ""

    def __init__(self, explorer: Explorer):
        self.explorer, self.state = explorer, explorer.state
        self.header = View("disclosure", self._state(False), lambda c: self.toggle(bool(c["open"])))
        self.body = ipywidgets.VBox([])
        self.body.add_class("octo-body")
        self.body.layout.display = "none"
        self.open = False

    def _state(self, is_open: bool) -> dict[str, Any]:
        return {"title": self.title, "hint": self.hint, "open": is_open, "level": self.number}

    def toggle(self, is_open: bool = True) -> None:
        """Open or close it."""
        self.open = is_open
        self.header.state = self._state(is_open)
        self.body.layout.display = "" if is_open else "none"
        if is_open and not self.body.children:
            self.build()
        if is_open:
            self.refresh()

    def build(self) -> None:
        raise NotImplementedError

    def refresh(self) -> None:
        """The state has changed."""

    def draw_forms(self, review: dict[str, Any] | None) -> None:
        """Errors, notes or values of knobs have changed."""

    def tick(self) -> None:
        """A run goes on, or has just ended."""


class More(Level):
    number, title, hint = 1, "More knobs", "every hyperparameter, compressor, devices, seed, stop rules"

    def build(self) -> None:
        self.form = View("form", {"groups": self.groups(self.explorer.reviewed)}, self.explorer.receive)
        self.form.add_class("octo-wide")
        self.body.children = [self.form]

    def groups(self, review: dict[str, Any] | None) -> list[dict[str, Any]]:
        titles = {"method": "Hyperparameters", "problem": "Problem", "fleet": "Devices", "run": "Run"}
        found = []
        for section, title in titles.items():
            rows = form_rows.rows(self.state, [k.path for k in self.state.knobs(section)], review)
            for r in rows:
                if r["path"] == "run.baseline":
                    words = {"auto": "the natural one", "none": "nothing"}
                    names = ["auto", "none", *slugs()]
                    r |= {
                        "kind": "choice",
                        "choices": [{"value": n, "label": words.get(n, n), "hint": ""} for n in names],
                    }
            if rows:
                found.append({"title": title, "rows": rows})
        return found

    def draw_forms(self, review: dict[str, Any] | None) -> None:
        if self.open:
            self.form.update(groups=self.groups(review))

    def refresh(self) -> None:
        self.draw_forms(self.explorer.reviewed)


class TheoryLevel(Level):
    number, title, hint = (
        2,
        "Theory",
        "algorithm and theorem, constants of this problem, the promised rate over the measured one",
    )

    def build(self) -> None:
        self.algorithm, self.numbers, self.rate = ipywidgets.HTMLMath(), ipywidgets.HTMLMath(), ipywidgets.HTMLMath()
        left, right = ipywidgets.VBox([self.algorithm, self.rate]), ipywidgets.VBox([self.numbers])
        both = ipywidgets.Box([left, right])
        both.add_class("octo-two")
        self.body.children = [both]
        self._drawn: tuple[Any, int] | None = None
        self._at = 0.0

    def refresh(self) -> None:
        if not self.open:
            return
        self.algorithm.value = theory.algorithm(self.state)
        self.numbers.value = theory.numbers(self.state)
        self._drawn = None
        self.tick()

    def tick(self) -> None:
        """The picture of the rate, at most once a second, and when a run has ended."""
        if not self.open:
            return
        run = self.explorer.run
        key = (id(run), -1 if run is None else run.round)
        ended = run is None or run.done or run.paused
        if key == self._drawn or (self._drawn is not None and not ended and time.monotonic() - self._at < 1):
            return
        self._drawn, self._at = key, time.monotonic()
        try:
            self.rate.value = f"<h4>Rate</h4>{theory.chart(self.state, run)}"
        except (ValueError, OctolabError) as error:
            self.rate.value = f"<p class='octo-no'>{error}</p>"


class Code(Level):
    number, title, hint = (
        3,
        "Code",
        "the page of the method, the Python call and the JSON spec of what is set now, downloads",
    )

    def build(self) -> None:
        self.call = View("code", {"title": "The same in Python", "text": ""})
        self.spec = View("code", {"title": "The same as a JSON spec: ol.from_spec(...)", "text": ""})
        self.page = View("code", {"title": "The method's page", "text": ""})
        state = {
            "formats": [{"ending": k, "label": label} for k, (label, _) in FORMATS.items()],
            "ready": False,
            "status": "",
        }
        self.exports = View("exports", state, lambda c: self.export(c["format"]))
        left, right = ipywidgets.VBox([self.call, self.spec, self.exports]), ipywidgets.VBox([self.page])
        both = ipywidgets.Box([left, right])
        both.add_class("octo-two")
        self.body.children = [both]

    def refresh(self) -> None:
        if not self.open:
            return
        self.call.update(text=self.state.python)
        self.page.update(text=static_cards.source_of(self.state))
        try:
            text = json.dumps(self.state.spec, indent=2)
        except (ValueError, OctolabError) as error:
            text = str(error)
        self.spec.update(text=text)
        self.tick()

    def tick(self) -> None:
        if self.open:
            run = self.explorer.run
            self.exports.update(ready=run is not None and len(run.recorder.rows) > 0)

    def export(self, ending: str) -> str:
        """Send the run to the browser as a file of this kind; the name, or the sentence that says why not."""
        run = self.explorer.run
        label, mime = FORMATS[ending]
        if run is None:
            said = "There is no run yet: press Run first."
        else:
            name = f"{run.given.slug}.{ending}"
            try:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / name
                    self.explorer.export(path)
                    data = path.read_bytes()
                self.exports.send({"download": name, "type": mime}, buffers=[data])
                said = f"{name}: {len(data):,} bytes"
            except Exception as error:  # a missing optional library, say: its sentence belongs on the screen
                said = f"{label}: {error}"
        self.exports.update(status=said)
        return said


def make(explorer: Explorer) -> list[Level]:
    return [More(explorer), TheoryLevel(explorer), Code(explorer)]
