"""Metrics by name, computed by scikit-learn, which loads when the first is used.

Of several classes, f1, precision, recall, auroc and average_precision are macro: the plain mean over the classes, one
against the rest; of several labels a sample all are the mean over the labels. What is not defined on the samples at hand
(auroc where only one class occurs) is NaN.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from octolab.arguments import expects, text

Function = Callable[[np.ndarray, np.ndarray], float]
"""f(labels, scores) -> float; see `octolab.metrics.Scored` for the shapes."""


def _each_label(function: Function) -> Function:
    """Of several labels a sample, (N, L) zeros and ones with one score each: the mean over the labels on which it
    is defined.
    """

    @functools.wraps(function)
    def measure(labels: np.ndarray, scores: np.ndarray) -> float:
        if labels.ndim < 2:
            return function(labels, scores)
        each = np.array([function(of, said) for of, said in zip(labels.astype(np.int64).T, scores.T, strict=True)])
        return float(np.nanmean(each)) if np.isfinite(each).any() else math.nan

    return measure


def predicted(scores: np.ndarray) -> np.ndarray:
    """(N,) the class that the scores speak for."""
    return scores.argmax(1) if scores.ndim == 2 else (scores > 0).astype(np.int64)


def probabilities(scores: np.ndarray) -> np.ndarray:
    """(N, C): softmax of class scores; of (N,) scores of class 1, the logistic function."""
    both = scores if scores.ndim == 2 else np.stack([np.zeros_like(scores), scores], 1)
    shifted = np.exp(both - both.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


@_each_label
def accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    return float((predicted(scores) == labels).mean())


@_each_label
def balanced_accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import recall_score

    found = predicted(scores)
    return float(recall_score(labels, found, labels=np.unique(labels), average="macro", zero_division=0))


@_each_label
def f1(labels: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted(scores), average=_average(scores), zero_division=0))


@_each_label
def precision(labels: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import precision_score

    return float(precision_score(labels, predicted(scores), average=_average(scores), zero_division=0))


@_each_label
def recall(labels: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import recall_score

    return float(recall_score(labels, predicted(scores), average=_average(scores), zero_division=0))


@_each_label
def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return _one_against_rest(roc_auc_score, labels, scores)


@_each_label
def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import average_precision_score

    return _one_against_rest(average_precision_score, labels, scores)


@_each_label
def log_loss(labels: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import log_loss as loss

    found = probabilities(scores)
    return float(loss(labels, found, labels=np.arange(found.shape[1])))


def mae(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(np.abs(labels - scores).mean())


def mse(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(((labels - scores) ** 2).mean())


def rmse(labels: np.ndarray, scores: np.ndarray) -> float:
    return math.sqrt(mse(labels, scores))


def r2(labels: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import r2_score

    return float(r2_score(labels, scores)) if len(labels) > 1 else math.nan


def _average(scores: np.ndarray) -> str:
    return "macro" if scores.ndim == 2 and scores.shape[1] > 2 else "binary"


def _one_against_rest(measure: Callable[..., float], labels: np.ndarray, scores: np.ndarray) -> float:
    """The mean over the classes that occur beside others; NaN if only one class does."""
    if scores.ndim == 1:
        return float(measure(labels, scores)) if len(np.unique(labels)) > 1 else math.nan
    found = probabilities(scores)
    classes = [1] if found.shape[1] == 2 else np.unique(labels).tolist()
    values = [float(measure(labels == c, found[:, c])) for c in classes if 0 < (labels == c).sum() < len(labels)]
    return float(np.mean(values)) if values else math.nan


CLASSES = (accuracy, balanced_accuracy, f1, precision, recall, auroc, average_precision, log_loss)
TARGETS = (mae, mse, rmse, r2)
NAMED: dict[str, Function] = {f.__name__: f for f in (*CLASSES, *TARGETS)}
"""name -> function."""
NAMED["roc_auc"] = auroc

_LESS = {"loss", "grad_norm_sq", "log_loss", "mae", "mse", "rmse"}


@expects(column=text("a column's name"))
def greater_is_better(column: str) -> bool:
    """Whether more of a column is better; also of validation_accuracy, personal_f1_worst10, ... Unknown ones: less is."""
    name = column.removesuffix("_worst10")
    for prefix in ("client_", "personal_", "validation_"):
        name = name.removeprefix(prefix)
    return name in NAMED and name not in _LESS
