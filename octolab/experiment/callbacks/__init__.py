"""Callbacks: early stopping, the best model, rows as CSV or JSONL, and trackers. See `callback` for the protocol.

    ol.run(method, problem, callbacks=[ol.EarlyStopping("accuracy", patience=20), ol.callbacks.JSONL("run.jsonl")])

A tracker's library is imported when the callback is made, never before.
"""

from __future__ import annotations

from typing import Any

from octolab.experiment.callbacks.callback import Callback, View
from octolab.experiment.callbacks.mlflow import MLflow
from octolab.experiment.callbacks.progress_bar import ProgressBar
from octolab.experiment.callbacks.stopping import EarlyStopping, KeepBest
from octolab.experiment.callbacks.stream import CSV, JSONL, Stream
from octolab.experiment.callbacks.tensorboard import TensorBoard
from octolab.experiment.callbacks.wandb import Trackio, WandB
from octolab.faces import face


def __getattr__(name: str) -> Any:
    if name == "LiveChart":  # the lab's: what draws is handed down
        return face("runs.live")
    raise AttributeError(f"octolab.callbacks has no {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "CSV",
    "JSONL",
    "Callback",
    "EarlyStopping",
    "KeepBest",
    "LiveChart",
    "MLflow",
    "ProgressBar",
    "Stream",
    "TensorBoard",
    "Trackio",
    "View",
    "WandB",
]
