"""The explorer in a real browser: one method of each family in JupyterLab, then Voila, then a page without a kernel."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import octolab as ol
from tests.browser.browsing import (
    SHOTS,
    eventually,
    fresh_page,
    jupyter,
    needs_chromium,
    notebook,
    open_notebook,
    run_cell,
    said,
    still,
    voila,
)  # fmt: skip

pytestmark = [pytest.mark.browser, needs_chromium]

CARDS = ol.methods.cards()
PREFERRED = ("ef21", "scaffold", "ringmaster", "marina")  # where a family has several, the one that people know
FAMILIES = {c.family: c.slug for c in CARDS} | {c.family: c.slug for c in CARDS if c.slug in PREFERRED}
LENGTHS = "(e) => [...(e.querySelector('.js-plotly-plot')?.data ?? [])].map((t) => (t.x ?? []).length)"
AXES = "(e) => Object.values(e.querySelector('.js-plotly-plot').layout).map((a) => a?.title?.text).filter(Boolean).join('|')"
CODE = """again = ol.from_spec(SPEC).finish()
print("the same numbers:", again.history.equals(lab.run.history), lab.run.round)"""


class Screen:
    """One explorer on a page."""

    def __init__(self, page, root):
        self.page, self.root = page, root

    def status(self) -> str:
        return self.root.locator(".octo-status").first.inner_text()

    def wait_status(self, *words: str) -> str:
        self.page.wait_for_function(
            "([e, words]) => words.some((w) => e.querySelector('.octo-status').innerText.includes(w))",
            arg=[self.root.element_handle(), list(words)],
        )
        return self.status()

    def press(self, what: str) -> None:
        self.root.locator(f".octo-{what}").click()

    def round(self) -> int:
        return int(self.status().split("round ")[1].split(" ")[0].replace(",", ""))

    def lengths(self) -> list[int]:
        return self.root.evaluate(LENGTHS)

    def knob(self, path: str, front: bool = True):
        found = self.root.locator(f'[data-path="{path}"]')
        return found.first if front else found.last

    def type(self, path: str, text: str, front: bool = True) -> None:
        box = self.knob(path, front).locator("input.octo-entry")
        box.fill(text)
        box.press("Enter")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, browser):
    """A page on a notebook with three cells per family: imports, the explorer, a check."""
    with jupyter(tmp_path_factory.mktemp("jupyter")) as (address, work), fresh_page(browser) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
        cells = ["import octolab as ol\nprint('ready')"]
        for slug in FAMILIES.values():
            cells += [f"lab = ol.lab({slug!r}, rounds=100_000, evaluate_every=5)\nlab", ""]
        (work / "explorers.ipynb").write_text(notebook(*cells, "", ""))
        open_notebook(page, address, "explorers.ipynb")
        run_cell(page, 0)
        said(page, 0, "ready")
        SHOTS.mkdir(parents=True, exist_ok=True)
        yield page, address, work


@pytest.mark.parametrize("family", FAMILIES)
def test_a_method_of_each_family_is_run_paused_stepped_stopped_and_reproduced(lab, family):
    page, _, _ = lab
    slug, at = FAMILIES[family], 1 + 2 * list(FAMILIES).index(family)
    run_cell(page, at)
    root = page.locator(".jp-Notebook .jp-Cell").nth(at).locator(".octo-explorer")
    root.locator(".octo-run").wait_for()
    screen = Screen(page, root)
    root.scroll_into_view_if_needed()
    eventually(root.locator("h2").inner_text, ol.methods.get(slug).describe().name.__eq__)

    runs_and_stands_still(screen)
    opens_every_level(screen)
    answers_a_bad_value(screen)
    moves_the_slider(screen)
    changes_the_axis(screen)

    screen.type("run.rounds", "30", front=False)  # short enough to be run again, and compared
    screen.press("run")
    screen.wait_status("finished", "diverged")
    text = root.locator("pre.octo-code").nth(1)
    eventually(text.inner_text, lambda found: json.loads(found)["settings"]["rounds"] == 30)
    root.locator(".octo-copy").nth(1).click()
    spec = eventually(lambda: page.evaluate("navigator.clipboard.readText()"), text.inner_text().__eq__)
    assert json.loads(spec)["method"]["method"] == slug
    run_cell(page, at + 1, f"SPEC = {spec!r}\n{CODE}")
    assert "True 30" in said(page, at + 1, "the same numbers:")
    root.screenshot(path=str(SHOTS / f"explorer-{slug}.png"))
    assert "Traceback" not in page.inner_text(".jp-Notebook")
    run_cell(page, at, "lab.close()")


def runs_and_stands_still(screen: Screen) -> None:
    screen.root.locator(".octo-run").dblclick()  # one run is started
    screen.wait_status("running, round")
    screen.page.wait_for_function(f"(e) => ({LENGTHS})(e).some((n) => n > 2)", arg=screen.root.element_handle())
    screen.press("pause")
    screen.wait_status("paused")
    _, at = still(lambda: (screen.lengths(), screen.round()))  # the last round ends, the painter paints what there is
    screen.press("step")
    eventually(screen.status, lambda found: f"round {at + 1:,} of" in found and "paused" in found)
    screen.press("stop")
    screen.wait_status("stopped")


def opens_every_level(screen: Screen) -> None:
    for level in (1, 2, 3):
        button = screen.root.locator(f".octo-level-{level}")
        eventually(lambda: button.get_attribute("aria-expanded"), "false".__eq__)  # noqa: B023 (called at once)
        button.click()
        screen.page.wait_for_function("(b) => b.getAttribute('aria-expanded') === 'true'", arg=button.element_handle())
    screen.root.locator(".octo-algorithm mjx-container").first.wait_for()
    assert screen.root.locator("mjx-merror, [data-mjx-error]").count() == 0
    eventually(screen.root.locator(".octo-algorithm").inner_text, lambda found: "$" not in found)
    for number, words in ((0, "ol.run("), (1, '"settings"'), (2, "class ")):  # the call, the spec, the page
        code = screen.root.locator("pre.octo-code").nth(number).element_handle()
        screen.page.wait_for_function("([e, words]) => e.innerText.includes(words)", arg=[code, words])


def answers_a_bad_value(screen: Screen) -> None:
    curves, call = still(screen.lengths), screen.root.locator("pre.octo-code").first.inner_text()
    screen.type("run.rounds", "-5", front=False)
    error = screen.knob("run.rounds", front=False).locator(".octo-error")
    error.wait_for()
    eventually(error.inner_text, lambda found: "rounds=-5" in found)
    screen.press("run")
    screen.wait_status("First mend this")
    assert screen.lengths() == curves
    assert screen.root.locator("pre.octo-code").first.inner_text() == call


def moves_the_slider(screen: Screen) -> None:
    ranges = screen.root.locator(".octo-side input[aria-label='heterogeneity, slider']")
    if ranges.count() == 0:  # this method's problem has one objective for all
        assert "share one objective" in screen.root.locator(".octo-clients").inner_text()
        return
    before = screen.root.locator(".octo-clients svg").inner_html()
    ranges.first.focus()
    for _ in range(20):
        screen.page.keyboard.press("PageDown")
    screen.page.wait_for_function(
        "([e, before]) => e.querySelector('.octo-clients svg').innerHTML !== before",
        arg=[screen.root.element_handle(), before],
    )


def changes_the_axis(screen: Screen) -> None:
    select = screen.root.get_by_label("x axis")
    for value, words in (("time", "virtual time"), ("bits_up", "bits sent up")):
        select.select_option(value)
        screen.page.wait_for_function(f"([e, w]) => ({AXES})(e).includes(w)", arg=[screen.root.element_handle(), words])


def test_a_cell_that_runs_again_leaves_no_thread_behind(lab):
    page, address, work = lab
    show = "again = ol.lab('ef21', 'quadratics', rounds=1_000_000)\nagain"
    (work / "twice.ipynb").write_text(notebook("import octolab as ol\nprint('ready')", show, "again.start()", ""))
    open_notebook(page, address, "twice.ipynb")
    run_cell(page, 0)
    said(page, 0, "ready")
    threads = """import threading, time
for _ in range(300):
    left = sorted(t.name for t in threading.enumerate() if t.name.startswith('octolab'))
    if not left: break
    time.sleep(0.1)
print('threads:', left)"""
    for _ in range(2):
        run_cell(page, 1)
        page.locator(".octo-run").first.wait_for()
        run_cell(page, 2)
        page.wait_for_function("document.querySelector('.octo-status')?.innerText.includes('running, round')")
    run_cell(page, 1)
    page.wait_for_function("document.querySelector('.octo-status')?.innerText.startsWith('ready')")
    page.wait_for_function("document.querySelector('.octo-placeholder')?.innerText.startsWith('Press Run')")
    run_cell(page, 3, threads)
    assert "threads: []" in said(page, 3, "threads:")


def test_in_voila_it_is_a_page(tmp_path, browser):
    (tmp_path / "page.ipynb").write_text(notebook("import octolab as ol\nol.lab('diana', rounds=100_000)"))
    with voila(tmp_path / "home", tmp_path / "page.ipynb") as address, fresh_page(browser) as page:
        page.goto(address)
        root = page.locator(".octo-explorer").first
        root.locator(".octo-run").wait_for()
        screen = Screen(page, root)
        runs_and_stands_still(screen)
        opens_every_level(screen)
        page.screenshot(path=str(SHOTS / "explorer-voila.png"), full_page=True)
        eventually(page.locator(".octo-static:visible").count, (0).__eq__)


def test_without_a_kernel_a_static_card_stays(tmp_path, browser):
    source = "import octolab as ol\nlab = ol.lab('ef21', 'quadratics', rounds=20)\nlab"
    (tmp_path / "saved.ipynb").write_text(notebook(source))
    line = [sys.executable, "-m", "nbconvert", "--to", "html", "--execute", "saved.ipynb", "--log-level=ERROR"]
    subprocess.run(line, cwd=tmp_path, check=True, timeout=120)
    html = (tmp_path / "saved.html").read_text()
    with fresh_page(browser, offline=True) as page:
        page.set_content(html, wait_until="domcontentloaded")
        card = page.locator(".octo-static")
        card.wait_for()
        assert "error feedback" in card.inner_text() and "ol.methods.EF21()" in card.inner_text()
        page.screenshot(path=str(SHOTS / "explorer-static.png"))
