"""The README's five lines in a real JupyterLab in a real browser: the chart grows while the cell is busy."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
SHOTS = ROOT / "build" / "screenshots"
READY = """async () => { const w = jupyterapp.shell.currentWidget; await w.context.ready;
    await w.sessionContext.ready; await w.sessionContext.session.kernel.info; }"""
REACHED = "(() => document.querySelector('.js-plotly-plot')?.data?.[0]?.x?.at?.(-1) || 0)()"


def five_lines() -> str:
    return re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]


def notebook(*cells: str) -> str:
    made = [
        {"cell_type": "code", "id": f"c{i}", "execution_count": None, "metadata": {}, "outputs": [], "source": cell}
        for i, cell in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab on loopback over a throwaway folder; gives its address."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed: pip install 'octolab[lab]'")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k not in ("OCTOLAB_FAST", "OCTOLAB_LIVE")}
    for name in ("CONFIG", "DATA", "RUNTIME"):
        env[f"JUPYTER_{name}_DIR"] = str(tmp_path / name.lower())
    news = tmp_path / "config/lab/user-settings/@jupyterlab/apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root",
               "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={work}"]  # fmt: skip
    server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", work
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian's package: chromium)")
def test_the_five_lines_draw_a_curve_that_grows_while_the_cell_is_busy(lab):
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install 'octolab[dev]'"
    )
    address, work = lab
    longer = five_lines().replace(
        "rounds=3000", "rounds=1_000_000"
    )  # until it is interrupted, however slow the page is
    (work / "live.ipynb").write_text(notebook(longer, "print('rounds', 'done:', run.round)"))
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_api.sync_playwright() as pw:
        browser = pw.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1300, "height": 1500})
        page.goto(f"{address}/doc/tree/live.ipynb")
        page.wait_for_function("window.jupyterapp && document.querySelector('.jp-Notebook')", timeout=60_000)
        page.evaluate(READY)
        page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells') }")
        page.wait_for_selector(".js-plotly-plot .main-svg", timeout=120_000)
        page.wait_for_function(REACHED + " > 5", timeout=120_000)
        first = page.evaluate(REACHED)
        page.screenshot(path=str(SHOTS / "live-running.png"))
        page.wait_for_function(f"{REACHED} > {first}", timeout=120_000)
        assert "rounds done" not in page.inner_text(".jp-Notebook")  # the cell is still busy
        page.evaluate("() => { jupyterapp.commands.execute('notebook:interrupt-kernel') }")  # stops at a round's end
        page.wait_for_function(
            "/rounds done: [0-9]+/.test(document.querySelector('.jp-Notebook').innerText)", timeout=120_000
        )
        page.wait_for_timeout(500)
        page.screenshot(path=str(SHOTS / "live-done.png"))
        assert page.locator(".jp-OutputArea-output svg").count() > 0  # a static picture stays
        assert "Traceback" not in page.inner_text(".jp-Notebook")
        browser.close()
