"""The dashboard in a real JupyterLab: live while runs go on, every panel, every choice, and what stays in the file."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

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
)
from tests.browser.test_accessibility import CHECK
from tests.browser.test_accessibility import axe as axe  # a fixture

pytestmark = [pytest.mark.browser, needs_chromium]

SYNCHRONOUS = """import warnings; warnings.simplefilter("ignore")
import numpy as np, octolab as ol
problem = ol.problems.classification("digits", clients=50, split=ol.data.Dirichlet(alpha=0.3))
fleet = ol.Fleet(seconds=np.linspace(1, 3, 50), up=1e5, dropout=0.1)
long = dict(rounds=1_000_000, evaluate_every=50, fleet=fleet)
runs = {
    "EF21, Top-5%": ol.start(ol.methods.EF21(compressor=ol.compressors.TopK(0.05), lr=0.2), problem, **long),
    "GD": ol.start(ol.methods.GD(), problem, **long),
    "SCAFFOLD": ol.start(ol.methods.SCAFFOLD(lr=0.1), problem, **long),
}"""
SHOW = "board = ol.dashboard(runs)\nboard"
ASYNCHRONOUS = """p = ol.problems.Tridiagonal(d=200, n=1000)
fleet = ol.Fleet(seconds=np.sqrt(np.arange(1, 1001)), jitter=ol.fleets.LogNormal(0.3))
ring = ol.start(ol.methods.Ringmaster(R=1500, lr=0.002), p, rounds=1_000_000, fleet=fleet)
asgd = ol.start(ol.methods.ASGD(lr=0.0005), p, rounds=1_000_000, fleet=fleet)
events = ol.dashboard({"Ringmaster": ring, "ASGD": asgd}, panel="time")
events"""
NETWORK = """net = ol.problems.classification("fashion-mnist-7k", "mlp", clients=40, split=ol.data.Dirichlet(alpha=0.2))
method = ol.methods.FedAvg(lr=0.05, local_epochs=1, batch_size=20, cohort=10)
one = ol.start(method, net, rounds=100_000, fleet=ol.Fleet(seconds=np.linspace(1, 4, 40), up=5e6, down=2e7), deadline=90)
layers = ol.dashboard(one, panel="model", x="time")
layers"""
PARTS = {"include": [[".octo-dash"], [".octo-gantt"]]}
THREADS = """import threading, time
def painters(): return [t.name for t in threading.enumerate()].count("octolab-dashboard")
end = time.monotonic() + 60
while painters() > {most} and time.monotonic() < end: time.sleep(0.1)
print("painters:", painters())"""


class Screen:
    """One dashboard on a page."""

    def __init__(self, page, number: int = 0):
        self.page, self.root = page, page.locator(".octo-dashboard").nth(number)
        self.root.locator(".js-plotly-plot .main-svg").first.wait_for()

    def traces(self) -> list[dict]:
        return self.root.locator(".js-plotly-plot").evaluate(
            "(g) => g.data.map((t) => ({name: t.name, run: t.meta?.[0], points: (t.x ?? []).length, visible: t.visible !== false,"
            " opacity: t.opacity ?? 1}))"
        )

    def points(self) -> int:
        return sum(t["points"] for t in self.traces())

    def titles(self) -> str:
        return self.root.locator(".js-plotly-plot").evaluate(
            "(g) => (g.layout.annotations ?? []).map((a) => a.text).join('|')"
        )

    def axis_titles(self) -> str:
        return self.root.locator(".js-plotly-plot").evaluate(
            "(g) => Object.entries(g.layout).map(([k, a]) => /^xaxis/.test(k) && a.title?.text).filter(Boolean).join('|')"
        )

    def wait(self, condition: str, arg=None) -> None:
        """Until `condition` (of e, the dashboard, and arg) holds in the browser."""
        self.page.wait_for_function(f"([e, arg]) => {condition}", arg=[self.root.element_handle(), arg])

    def open(self, panel: str, title: str) -> None:
        self.root.locator(f'[data-panel="{panel}"]').click()
        self.wait("e.querySelector('.js-plotly-plot').layout.annotations?.some((a) => a.text.includes(arg))", title)

    def shot(self, name: str) -> None:
        self.page.wait_for_timeout(500)
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.root.scroll_into_view_if_needed()
        self.root.screenshot(path=str(SHOTS / f"dashboard-{name}.png"))

    def column(self, name: str) -> list[str]:
        return self.root.locator(f'td[data-column="{name}"]').all_inner_texts()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    home = tmp_path_factory.mktemp("dashboard")
    with jupyter(home) as (address, work):
        yield address, work


def page_with(lab, page, name, *cells):
    address, work = lab
    page.set_viewport_size({"width": 1400, "height": 1500})
    (work / name).write_text(notebook(*cells))
    open_notebook(page, address, name)


def test_a_dashboard_is_live_and_every_choice_works(lab, browser, axe):
    with fresh_page(browser, bypass_csp=True) as page:
        page_with(
            lab,
            page,
            "live.ipynb",
            SYNCHRONOUS,
            SHOW,
            THREADS.format(most=0),
            "[r.stop().result() for r in runs.values()]; print('all done')",
        )
        run_cell(page, 0)
        run_cell(page, 1)
        screen = Screen(page)
        reached = "Math.max(...e.querySelector('.js-plotly-plot').data.map((t) => (t.meta[2] ? 0 : t.x[t.x.length - 1] ?? 0)))"
        screen.wait(f"{reached} > 0")
        first = screen.root.evaluate(f"(e) => {reached}")
        screen.wait(f"{reached} > arg", first)  # the first chart's curves go on
        eventually(lambda: screen.column("status"), lambda found: "running" in found)
        screen.shot("overview")
        for panel, title in {
            "comparison": "Pareto front", "convergence": "Squared gradient norm", "communication": "Bits so far",
            "time": "devices' time", "clients": "Participation", "model": "Gradient norm",
        }.items():  # fmt: skip
            screen.open(panel, title)
            screen.wait("[...e.querySelector('.js-plotly-plot').data].some((t) => (t.x ?? []).length > 1)")
            screen.shot(panel)

        run_cell(page, 3)
        said(page, 3, "all done")
        screen.wait("[...e.querySelectorAll('td[data-column=status]')].every((td) => td.innerText !== 'running')")
        run_cell(page, 2)
        assert "painters: 0" in said(page, 2, "painters:")
        the_axis_the_table_and_the_legend_work(screen)
        the_keyboard_is_enough(screen)
        page.evaluate(axe)
        for panel, title in {"comparison": "Pareto front", "time": "devices' time", "clients": "Participation"}.items():
            screen.open(panel, title)
            eventually(lambda: page.evaluate(CHECK, PARTS), [].__eq__, seconds=10)

        page.evaluate("() => jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
        screen.wait("e.querySelector('.octo-dark')")
        screen.wait("e.querySelector('.js-plotly-plot').layout.font?.color === '#E6E6E6'")
        for panel, title in {"comparison": "Pareto front", "time": "devices' time"}.items():
            screen.open(panel, title)
            screen.shot(f"{panel}-dark")
            eventually(lambda: page.evaluate(CHECK, PARTS), [].__eq__, seconds=10)
        assert "Traceback" not in page.inner_text(".jp-Notebook")
        page.evaluate("() => jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Light' })")


def the_axis_the_table_and_the_legend_work(screen: Screen) -> None:
    screen.open("convergence", "Squared gradient norm")
    screen.root.locator(".octo-x").select_option("bits_up")
    screen.wait("e.querySelector('.js-plotly-plot').layout.xaxis?.title?.text?.includes('bits sent up')")
    eventually(screen.axis_titles, lambda found: set(found.split("|")) == {"bits sent up, per client"})
    eventually(screen.root.locator("details code").text_content, lambda found: "x='bits_up'" in found)

    def rounds():
        return [int(t.replace(",", "")) for t in screen.column("round")]

    ordered = sorted(still(rounds))
    screen.root.locator('th[data-column="round"] button').click()
    eventually(rounds, ordered.__eq__)
    screen.root.locator('th[data-column="round"] button').click()
    eventually(rounds, ordered[::-1].__eq__)
    assert screen.root.locator('th[data-column="round"]').get_attribute("aria-sort") == "descending"

    row = screen.root.locator('tr[data-run="GD"]')
    row.locator("button").click()
    screen.wait("e.querySelector('.js-plotly-plot').data.every((t) => (t.visible !== false) === (t.meta[0] !== 'GD'))")
    row.locator("button").click()
    screen.wait("e.querySelector('.js-plotly-plot').data.every((t) => t.visible !== false)")
    row.hover()
    screen.wait(
        "e.querySelector('.js-plotly-plot').data.every((t) => (t.opacity ?? 1) === (['GD', ''].includes(t.meta[0]) ? 1 : 0.2))"
    )
    screen.shot("highlight")
    at = screen.root.locator(".js-plotly-plot").evaluate(
        """(g) => { const t = g.data.find((t) => t.meta[0] === 'SCAFFOLD'), k = Math.floor(t.x.length / 2);
            const box = g.getBoundingClientRect();
            const { xaxis, yaxis } = g._fullLayout;
            return [box.x + xaxis._offset + xaxis.d2p(t.x[k]), box.y + yaxis._offset + yaxis.d2p(t.y[k])]; }"""
    )
    screen.page.mouse.move(at[0] - 3, at[1])
    screen.page.mouse.move(*at)  # the other way round: over a curve, its row lights up
    screen.wait("e.querySelector('tr.octo-lit')?.dataset.run === 'SCAFFOLD'")
    screen.page.mouse.move(5, 5)
    screen.wait("e.querySelector('.js-plotly-plot').data.every((t) => (t.opacity ?? 1) === 1)")


def the_keyboard_is_enough(screen: Screen) -> None:
    page = screen.page
    screen.root.locator('[data-panel="convergence"]').focus()
    page.keyboard.press("ArrowRight")
    screen.wait("document.activeElement.dataset.panel === 'communication'")
    screen.wait("e.querySelector('.js-plotly-plot').layout.annotations?.some((a) => a.text.includes('Bits so far'))")
    screen.open("time", "devices' time")
    canvas = screen.root.locator(".octo-gantt canvas")
    before = canvas.get_attribute("aria-label")
    canvas.focus()
    page.keyboard.press("+")
    screen.wait("e.querySelector('.octo-gantt canvas').getAttribute('aria-label') !== arg", before)
    page.keyboard.press("Home")
    screen.wait("e.querySelector('.octo-gantt button[aria-label^=\"Show everything\"]').ariaPressed === 'true'")


def test_a_thousand_asynchronous_devices_on_the_canvas(lab, browser):
    with fresh_page(browser) as page:
        page_with(
            lab,
            page,
            "events.ipynb",
            SYNCHRONOUS.split("problem =")[0],
            ASYNCHRONOUS,
            "ring.stop().result(), asgd.stop().result(); print('all done')",
        )
        run_cell(page, 0)
        run_cell(page, 1)
        screen = Screen(page)
        coloured = """(() => { const c = e.querySelector('.octo-gantt canvas');
            if (!c.width) return 0;
            const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
            for (let k = 0; k < d.length; k += 4) n += d[k + 3] > 100 && Math.abs(d[k] - d[k + 2]) > 60; return n; })()"""
        screen.wait(f"{coloured} > 20000")
        label = screen.root.locator(".octo-gantt canvas").get_attribute("aria-label")
        assert "Timeline of 1,000 devices" in label.replace("1000", "1,000")
        screen.wait("e.querySelector('.octo-gantt canvas').getAttribute('aria-label') !== arg", label)  # it moves
        screen.shot("thousand-devices")
        box = screen.root.locator(".octo-gantt canvas").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
        screen.wait(
            "!e.querySelector('.octo-tip').hidden && e.querySelector('.octo-tip').innerText.startsWith('device')"
        )
        screen.root.locator(".octo-gantt select").select_option("slow")
        shown = re.compile(r"Shown: computing \d+ %, .* idle \d+ % of the devices' time\.")
        eventually(screen.root.locator(".octo-sum").inner_text, shown.fullmatch)
        screen.open("overview", "Staleness")
        screen.shot("asynchronous")
        screen.root.locator(".octo-focus").wait_for(state="hidden")
        screen.open("time", "devices' time")
        run_cell(page, 2)
        said(page, 2, "all done")

        page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
        page.wait_for_timeout(1500)
        page.reload()  # the same kernel, a page that knows nothing: the picture and the record come back
        open_notebook(page, lab[0], "events.ipynb")
        again = Screen(page)
        again.wait("e.querySelector('.js-plotly-plot').layout.annotations?.some((a) => a.text.includes('Staleness'))")
        again.wait(f"{coloured} > 20000")
        eventually(again.points, lambda found: found > 100)
        eventually(lambda: set(again.column("status")), {"stopped"}.__eq__)


def test_running_a_cell_again_leaves_one_painter_and_the_file_stays_small(lab, browser):
    address, work = lab
    with fresh_page(browser) as page:
        page_with(
            lab,
            page,
            "network.ipynb",
            SYNCHRONOUS.split("problem =")[0],
            NETWORK,
            THREADS.format(most=1),
            "one.stop(); one.result(); print('done')",
        )
        run_cell(page, 0)
        run_cell(page, 1)
        Screen(page)
        page.evaluate("() => { document.querySelector('.octo-dashboard').dataset.old = 1 }")
        run_cell(page, 1)
        page.locator("[data-old]").wait_for(state="detached")
        screen = Screen(page)
        run_cell(page, 2)
        assert "painters: 1" in said(page, 2, "painters:")
        run_cell(page, 3)
        said(page, 3, "done")
        screen.wait("e.querySelector('td[data-column=status]').innerText === 'stopped'")
        screen.shot("layers")
        page.wait_for_timeout(1000)
        page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
        page.wait_for_timeout(1500)
        text = (work / "network.ipynb").read_text()
        assert len(text) < 200_000 and "<svg" in text
        page.evaluate("() => jupyterapp.serviceManager.sessions.shutdownAll()")
    with fresh_page(browser) as page:  # opened again, without a kernel that knows the widget
        page.set_viewport_size({"width": 1400, "height": 1500})
        open_notebook(page, address, "network.ipynb")
        page.locator(".jp-OutputArea-output svg").first.wait_for()
        page.wait_for_timeout(1500)
        assert "Error displaying widget" not in page.inner_text(".jp-Notebook")
        page.screenshot(path=str(SHOTS / "dashboard-reopened.png"))


def test_executed_without_a_screen_a_notebook_holds_the_static_card(tmp_path):
    pytest.importorskip("nbclient", reason="nbclient is not installed: pip install 'octolab[lab]'")
    cells = [
        "import octolab as ol\nrun = ol.start('gd', ol.problems.quadratics(n=4, d=6), rounds=300)",
        "ol.dashboard(run)",
        "run.result()",
    ]
    (tmp_path / "a.ipynb").write_text(notebook(*cells))
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output", "b.ipynb", "a.ipynb"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    text = (tmp_path / "b.ipynb").read_text()
    assert len(text) < 200_000
    html = "".join("".join(o["data"].get("text/html", "")) for o in json.loads(text)["cells"][1]["outputs"])
    assert "<svg" in html and "finished" in html


def test_voila_shows_a_live_dashboard(tmp_path, browser):
    (tmp_path / "page.ipynb").write_text(notebook(SYNCHRONOUS, SHOW))
    with voila(tmp_path / "home", tmp_path / "page.ipynb") as address, fresh_page(browser) as page:
        page.goto(address)
        screen = Screen(page)
        screen.open("communication", "Bits so far")
        screen.wait("[...e.querySelector('.js-plotly-plot').data].some((t) => (t.x ?? []).length > 1)")
        screen.shot("voila")
