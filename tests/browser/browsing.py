"""A JupyterLab, a Voila and a Chromium for the tests of what has a face; each says why where it cannot be had."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "screenshots"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
READY = """async () => { const w = jupyterapp.shell.currentWidget; await w.context.ready;
    await w.sessionContext.ready; await w.sessionContext.session.kernel.info; }"""

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian's package: chromium)")


def notebook(*cells: str) -> str:
    made = [
        {"cell_type": "code", "id": f"c{i}", "execution_count": None, "metadata": {}, "outputs": [], "source": cell}
        for i, cell in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


@contextmanager
def serving(home: Path, *command: str) -> Iterator[str]:
    """A server on loopback with its settings in `home`; gives its address. `{port}` in the command is filled in."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k not in ("OCTOLAB_FAST", "OCTOLAB_LIVE")}
    for name in ("CONFIG", "DATA", "RUNTIME"):
        env[f"JUPYTER_{name}_DIR"] = str(home / name.lower())
    settings = home / "config/lab/user-settings/@jupyterlab"
    for name, text in {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "none"},
    }.items():
        (settings / name).parent.mkdir(parents=True, exist_ok=True)
        (settings / f"{name}.jupyterlab-settings").write_text(json.dumps(text))
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
    line = [part.format(port=port) for part in command]
    server = subprocess.Popen(
        [sys.executable, "-m", *line], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def jupyter(home: Path) -> Iterator[tuple[str, Path]]:
    """A JupyterLab over a throwaway folder: its address and the folder for notebooks."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed: pip install 'octolab[lab]'")
    work = home / "work"
    work.mkdir()
    options = ["--no-browser", "--ip=127.0.0.1", "--port={port}", "--allow-root", "--IdentityProvider.token="]
    lab = ["jupyterlab", *options, "--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={work}"]
    with serving(home, *lab) as address:
        yield address, work


@contextmanager
def voila(home: Path, path: Path) -> Iterator[str]:
    """A Voila that serves one notebook as a page."""
    pytest.importorskip("voila", reason="Voila is not installed: pip install 'octolab[lab]'")
    with serving(home, "voila", str(path), "--no-browser", "--port={port}", "--Voila.ip=127.0.0.1") as address:
        yield address


@contextmanager
def fresh_page(browser, **options) -> Iterator:
    """A page with a profile of its own."""
    context = browser.new_context(viewport={"width": 1400, "height": 1200}, **options)
    context.set_default_timeout(120_000)
    yield context.new_page()
    context.close()


def eventually(look: Callable[[], T], good: Callable[[T], bool] = bool, seconds: float = 120) -> T:
    """What `look` finds on the page, once it is `good`: a page may always be a little behind its kernel."""
    end = time.monotonic() + seconds
    while not good(found := look()):
        assert time.monotonic() < end, f"after {seconds:g} s the page still shows {found!r}"
        time.sleep(0.1)
    return found


def still(look: Callable[[], T], seconds: float = 1.6) -> T:
    """What `look` finds on the page, once it has not changed for a while."""
    found, since = look(), time.monotonic()
    while time.monotonic() < since + seconds:
        time.sleep(0.2)
        if (now := look()) != found:
            found, since = now, time.monotonic()
    return found


def open_notebook(page, address: str, name: str) -> None:
    page.goto(f"{address}/doc/tree/{name}")
    page.wait_for_function("window.jupyterapp && document.querySelector('.jp-Notebook')")
    page.evaluate(READY)


def run_cell(page, index: int, source: str | None = None) -> None:
    """Run one cell of the open notebook, with another source if one is given; does not wait for it."""
    page.evaluate(
        """([index, source]) => { const notebook = jupyterapp.shell.currentWidget.content; notebook.activeCellIndex = index;
           if (source !== null) notebook.activeCell.model.sharedModel.setSource(source);
           jupyterapp.commands.execute('notebook:run-cell'); }""",
        [index, source],
    )


def said(page, index: int, word: str) -> str:
    """The output of a cell, once it holds `word`."""
    page.wait_for_function(
        """([index, word]) => document.querySelectorAll('.jp-Notebook .jp-Cell')[index]
           ?.querySelector('.jp-Cell-outputArea')?.innerText.includes(word)""",
        arg=[index, word],
    )
    return page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".jp-Cell-outputArea").inner_text()
