"""What is seen while runs go on: a bar in a terminal, a live chart in a notebook, nothing anywhere else.

OCTOLAB_LIVE=0 (or OCTOLAB_FAST=1) switches live charts off, for notebooks that run without a browser. Drawing
never decides anything: a run has the same numbers with and without it, and goes on if it fails.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from octolab.experiment.callbacks.callback import Callback
from octolab.experiment.callbacks.progress_bar import ProgressBar
from octolab.experiment.run import Run
from octolab.faces import face


def in_kernel() -> bool:
    """Whether this is a Jupyter kernel."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()  # not imported here: whoever runs a kernel has done it
    return getattr(shell, "kernel", None) is not None


def is_live(live: bool | None) -> bool:
    """Whether to draw while running. None: in a Jupyter kernel, unless OCTOLAB_LIVE=0 or OCTOLAB_FAST=1."""
    if live is False or not in_kernel():
        return False
    return bool(live) or (os.environ.get("OCTOLAB_LIVE", "1") != "0" and os.environ.get("OCTOLAB_FAST", "0") != "1")


def watch(run: Run, live: bool | None = None) -> Run:
    """Finish a run, showing how it goes."""
    watch_all({run.name: [run]}, live, run)
    return run


def watch_all(runs: Mapping[str, Sequence[Run]], live: bool | None, result: Any) -> None:
    """Finish runs (name -> seeds) in turn; those that are done are only drawn. `result` is what stays shown.

    What shows them is a callback like any other: a live chart in a notebook, a bar in a terminal.
    A stopped run (Ctrl-C, the kernel's stop button) ends the whole: the rest does not start.
    """
    chart = _chart(runs, result) if is_live(live) else None
    shown: list[Callback] = [] if chart is None else [chart]
    try:
        for name, group in runs.items():
            for run in group:
                if run.status == "new" and not _finish(run, [*shown, *([ProgressBar(name)] if _is_terminal() else [])]):
                    return
    finally:
        if chart is not None:
            chart.close()


def _finish(run: Run, shown: Sequence[Callback]) -> bool:
    if shown:
        run.listen([*run.callbacks, *shown])
    run.finish()
    return run.status != "stopped" or run.stop_reason is not None  # a callback ends its own run only


def _chart(runs: Mapping[str, Sequence[Run]], result: Any) -> Any:
    """The lab's live chart of these runs; None, with a sentence, where it cannot be drawn."""
    try:
        return face("runs.live")(runs, result)
    except Exception as error:
        warnings.warn(
            f"The live chart cannot be drawn ({type(error).__name__}: {error}); the run goes on without it. "
            f"It needs the extra: pip install 'octolab[lab]'.",
            RuntimeWarning,
            stacklevel=4,
        )
        return None


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and not in_kernel()


def counted(values: Sequence[Any], what: str) -> Iterable[Any]:
    """The values, with a bar over them in a terminal."""
    if not _is_terminal():
        return values
    from tqdm import tqdm

    return tqdm(values, desc=what, delay=2, leave=False, file=sys.stderr)


__all__ = ["in_kernel", "is_live", "watch", "watch_all"]
