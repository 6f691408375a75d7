"""Slow imports, done in a thread before anybody needs them."""

from __future__ import annotations

import importlib
import threading
from contextlib import suppress
from functools import cache

from octolab.experiment.progress import in_kernel


def in_notebook() -> threading.Thread | None:
    """In a Jupyter kernel, begin to import what the first chart needs; elsewhere nothing."""
    return fetch("octolab.lab.plotly_widget") if in_kernel() else None


@cache
def fetch(module: str) -> threading.Thread:
    """Import a module in a thread, once; whoever imports it meanwhile waits for the rest. Errors are left to them."""

    def work() -> None:
        with suppress(ImportError):  # whoever needs it says so, in words
            importlib.import_module(module)

    thread = threading.Thread(target=work, daemon=True, name="octolab-import")
    thread.start()
    return thread
