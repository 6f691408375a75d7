"""Experiments: run, start, compare, repeat, tune, save, resume."""

from octolab.experiment.arrivals import replay
from octolab.experiment.checkpoint import load_run, resume
from octolab.experiment.compare import Comparison, Repetition, compare, repeat, written
from octolab.experiment.halving import Halving, halving, tune_k
from octolab.experiment.launch import run, start
from octolab.experiment.run import Run, Settings, Until
from octolab.experiment.spec import from_spec
from octolab.experiment.tuning import Tuned, tune

__all__ = [
    "Comparison",
    "Halving",
    "Repetition",
    "Run",
    "Settings",
    "Tuned",
    "Until",
    "compare",
    "from_spec",
    "halving",
    "load_run",
    "repeat",
    "replay",
    "resume",
    "run",
    "start",
    "tune",
    "tune_k",
    "written",
]
