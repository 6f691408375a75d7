"""Callbacks: early stopping, the best model, rows as CSV or JSONL, and trackers. See `callback` for the protocol.

    ol.run(method, problem, callbacks=[ol.EarlyStopping("accuracy", patience=20), ol.callbacks.JSONL("run.jsonl")])

A tracker's library is imported when the callback is made, never before.
"""

from __future__ import annotations

from octolab.experiment.callbacks.callback import Callback, View
from octolab.experiment.callbacks.mlflow import MLflow
from octolab.experiment.callbacks.progress_bar import ProgressBar
from octolab.experiment.callbacks.stopping import EarlyStopping, KeepBest
from octolab.experiment.callbacks.stream import CSV, JSONL, Stream
from octolab.experiment.callbacks.tensorboard import TensorBoard
from octolab.experiment.callbacks.wandb import Trackio, WandB

__all__ = [
    "CSV",
    "JSONL",
    "Callback",
    "EarlyStopping",
    "KeepBest",
    "MLflow",
    "ProgressBar",
    "Stream",
    "TensorBoard",
    "Trackio",
    "View",
    "WandB",
]
