"""Everything with a face: the catalogue, the explorer, the dashboard. Needs the extra `lab`; the core never does.

The module can be called, as `ol.lab`:

    ol.lab()                    # the catalogue of all methods
    ol.lab("ef21")              # one method: card, knobs, chart, theory, code
    ol.lab(run), ol.lab(spec)   # the same, opened where a run stands
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

from octolab.lab import early

if TYPE_CHECKING:
    from octolab.experiment.run import Run
    from octolab.lab.presets import Preset
    from octolab.methods import Method
    from octolab.problems import Problem

    Opened = str | Method | Run | dict[str, Any]


def lab(method: Opened | None = None, problem: Problem | Preset | str | None = None, **more: Any) -> Any:
    """The laboratory: the catalogue, or the explorer of one method.

    method: None (the catalogue), a slug, a method, a run, or a spec. problem: the name of a preset or a problem; None: one
    that suits. show, hide, lock: names of knobs that a teacher shows, hides or locks (`lock` may give reasons: name ->
    reason). All other arguments are values of knobs: `ol.lab("ef21", alpha=0.1, rounds=500)`, or `values={"compressor.k": 0.2}`.

    In a notebook this is a widget; without ipywidgets, the same state without a face: it has `.python`, `.spec`, `.prepare()`.
    """
    try:
        import anywidget  # noqa: F401
        import ipywidgets  # noqa: F401
    except ImportError:
        return _without_widgets(method, problem, more)
    if method is None:
        from octolab.lab.catalogue import Catalogue

        return Catalogue(problem=problem, **more)
    from octolab.experiment.run import Run
    from octolab.lab.explorer.explorer import Explorer

    made = Explorer(method, problem, **more)
    if isinstance(method, Run):
        made.run = method
    return made


def _without_widgets(method: Opened | None, problem: Problem | Preset | str | None, more: dict[str, Any]) -> Any:
    if method is None:
        from octolab.methods import catalog

        return catalog()
    from octolab.lab.explorer.state import ExplorerState

    return ExplorerState(method, problem, **more)


class _Callable(types.ModuleType):
    """A module that is `lab` when called, so that `ol.lab("ef21")` and `import octolab.lab.live` both work."""

    def __call__(self, method: Opened | None = None, problem: Problem | Preset | str | None = None, **more: Any) -> Any:
        return lab(method, problem, **more)


__all__ = ["lab"]
_Callable.__call__.__doc__ = lab.__doc__
early.in_notebook()
sys.modules[__name__].__class__ = _Callable
