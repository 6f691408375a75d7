"""The README's five lines in a real JupyterLab in a real browser: the chart grows while the cell is busy."""

from __future__ import annotations

import re

import pytest

from tests.browser.browsing import ROOT, SHOTS, fresh_page, jupyter, needs_chromium, notebook, open_notebook

pytestmark = [pytest.mark.browser, needs_chromium]

REACHED = "(() => document.querySelector('.js-plotly-plot')?.data?.[0]?.x?.at?.(-1) || 0)()"


def five_lines() -> str:
    return re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]


def test_the_five_lines_draw_a_curve_that_grows_while_the_cell_is_busy(tmp_path, browser):
    longer = five_lines().replace(
        "rounds=3000", "rounds=1_000_000"
    )  # until it is interrupted, however slow the page is
    SHOTS.mkdir(parents=True, exist_ok=True)
    with jupyter(tmp_path) as (address, work), fresh_page(browser) as page:
        (work / "live.ipynb").write_text(notebook(longer, "print('rounds', 'done:', run.round)"))
        open_notebook(page, address, "live.ipynb")
        page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells') }")
        page.locator(".js-plotly-plot .main-svg").first.wait_for()
        page.wait_for_function(f"{REACHED} > 5")
        first = page.evaluate(REACHED)
        page.screenshot(path=str(SHOTS / "live-running.png"))
        page.wait_for_function(f"{REACHED} > {first}")
        assert "rounds done" not in page.inner_text(".jp-Notebook")  # the cell is still busy
        page.evaluate("() => { jupyterapp.commands.execute('notebook:interrupt-kernel') }")  # stops at a round's end
        page.wait_for_function("/rounds done: [0-9]+/.test(document.querySelector('.jp-Notebook').innerText)")
        page.locator(".jp-OutputArea-output svg").first.wait_for()  # a static picture stays
        page.screenshot(path=str(SHOTS / "live-done.png"))
        assert "Traceback" not in page.inner_text(".jp-Notebook")
