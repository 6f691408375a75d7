"""octolab: a Jupyter-first laboratory for federated learning.

    import octolab as ol
    problem = ol.problems.classification("digits", model="logistic", clients=50, split=ol.data.Dirichlet(alpha=0.3))
    run = ol.run(ol.methods.EF21(compressor=ol.compressors.TopK(0.05)), problem, rounds=500) run.history

Importing octolab imports nothing heavy: everything loads at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from octolab import faces

__version__ = "0.1.0"

_MODULES = {
    "compressors": "octolab.compressors",
    "data": "octolab.data",
    "errors": "octolab.errors",
    "experiment": "octolab.experiment",
    "federation": "octolab.federation",
    "fleets": "octolab.fleets",
    "lab": "octolab.lab",
    "flower": "octolab.flower",
    "local": "octolab.local",
    "methods": "octolab.methods",
    "payloads": "octolab.payloads",
    "models": "octolab.models",
    "problems": "octolab.problems",
    "schedules": "octolab.schedules",
    "rooms": "octolab.rooms",
    "staleness": "octolab.staleness",
    "testing": "octolab.testing",
    "callbacks": "octolab.experiment.callbacks",
    "metrics": "octolab.metrics",
    "aggregators": "octolab.trust.aggregators",
    "attacks": "octolab.trust.attacks",
    "trust": "octolab.trust",
}
_NAMES = {
    "run": "octolab.experiment",
    "start": "octolab.experiment",
    "compare": "octolab.experiment",
    "repeat": "octolab.experiment",
    "replay": "octolab.experiment",
    "tune": "octolab.experiment",
    "tune_k": "octolab.experiment",
    "load_run": "octolab.experiment",
    "load_model": "octolab.models",
    "resume": "octolab.experiment",
    "from_spec": "octolab.experiment",
    "dashboard": "octolab.lab.dashboard",
    "EarlyStopping": "octolab.experiment.callbacks",
    "Run": "octolab.experiment",
    "Until": "octolab.experiment",
    "Fleet": "octolab.federation",
    "Recorded": "octolab.fleets",
    "Federation": "octolab.federation",
    "Randomness": "octolab.federation",
    "Scripted": "octolab.federation",
    "Method": "octolab.methods",
    "Theory": "octolab.params",
    "param": "octolab.params",
    "register": "octolab.rooms",
}

for _name, _place in {
    "value.html": "values:value_card",
    "run.html": "cards:run_card",
    "run.figure": "figures:figure",
    "run.export": "export:export",
    "run.described": "export:described",
    "run.dashboard": "dashboard:dashboard",
    "runs.live": "live:LiveChart",
    "curves.figure": "figures:curves_figure",
    "run.plot": "pictures:run_plot",
    "curves.plot": "pictures:plot",
    "curves.svg": "svg:curves_svg",
    "comparison.html": "cards:comparison_card",
    "comparison.latex": "export:latex_of",
    "repetition.html": "cards:repetition_card",
    "partition.html": "partition:html",
    "partition.figure": "partition:figure",
}.items():
    faces.offer(_name, f"octolab.lab.{_place}")
faces.offer("worst_case.figure", "octolab.lab.heatmap:figure")
faces.offer("trust.worst_case", "octolab.experiment.worst_case:worst_case")
faces.offer("run.flower_app", "octolab.flower:export")

if TYPE_CHECKING:
    from octolab import (  # noqa: F401
        compressors,
        data,
        errors,
        experiment,
        federation,
        fleets,
        flower,
        local,
        methods,
        metrics,
        models,
        payloads,
        problems,
        rooms,
        schedules,
        staleness,
        testing,
        trust,
    )
    from octolab.experiment import (  # noqa: F401  # noqa: F401
        Run,
        Until,
        callbacks,
        from_spec,
        load_run,
        repeat,
        replay,
        resume,
        start,
        tune,
        tune_k,
    )
    from octolab.experiment.callbacks import EarlyStopping  # noqa: F401
    from octolab.experiment.compare import compare  # noqa: F401
    from octolab.experiment.launch import run  # noqa: F401
    from octolab.federation import Federation, Fleet, Randomness, Scripted  # noqa: F401
    from octolab.fleets import Recorded  # noqa: F401
    from octolab.lab import lab  # noqa: F401
    from octolab.lab.dashboard import dashboard  # noqa: F401
    from octolab.methods import Method, param  # noqa: F401
    from octolab.models import load_model  # noqa: F401
    from octolab.params import Theory  # noqa: F401
    from octolab.rooms import register  # noqa: F401
    from octolab.trust import aggregators, attacks  # noqa: F401


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    elif name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
    else:
        raise AttributeError(f"octolab has no {name!r}; it has {', '.join(__all__)}.")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


__all__ = sorted([*_MODULES, *_NAMES, "__version__"])
