"""What a classifier answers to test samples: class by class, which it takes for which, and how sure it may be."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from octolab.lab.chart import Chart, Mark
from octolab.lab.dashboard.feed import Feed
from octolab.lab.dashboard.view import View
from octolab.metrics import Scored

MOST_CLASSES, BINS = 40, 10


class Answers(NamedTuple):
    """confusion (C, C): samples of class i that were called j. confidence, right (N,): the probability that the model gave
    its answer, and whether it was so. names: of the classes.
    """

    confusion: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    names: tuple[str, ...]

    @property
    def recall(self) -> np.ndarray:
        """(C,) the share of a class's samples that were found; NaN where it has none."""
        return _share(self.confusion.diagonal(), self.confusion.sum(1))

    @property
    def precision(self) -> np.ndarray:
        """(C,) the share of right ones among the answers; NaN where a class was never said."""
        return _share(self.confusion.diagonal(), self.confusion.sum(0))

    def calibration(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Mean confidence and share of right answers in each bin that holds samples, and the expected calibration error
        (Guo et al., ICML 2017): their mean distance.
        """
        place = np.minimum((self.confidence * BINS).astype(int), BINS - 1)
        count = np.bincount(place, minlength=BINS)
        sure, so = (np.bincount(place, v, BINS)[count > 0] / count[count > 0] for v in (self.confidence, self.right))
        return sure, so, float(np.abs(sure - so) @ count[count > 0] / len(place))


def answers(scored: Scored, names: tuple[str, ...] = ()) -> Answers | None:
    """None for what is no choice of one class out of at most 40."""
    labels, scores = scored.labels, scored.scores
    if labels.ndim != 1 or scores.ndim > 2 or not len(labels) or labels.dtype.kind not in "iub":
        return None
    if scores.ndim == 1:
        one = 1 / (1 + np.exp(-np.clip(scores, -60, 60)))
        chances = np.stack([1 - one, one], 1)
    else:
        chances = np.exp(scores - scores.max(1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
    classes = chances.shape[1]
    heard = (labels >= 0) & (labels < classes)  # others are ignored by the loss
    if not 2 <= classes <= MOST_CLASSES or not heard.any():
        return None
    labels, chances = labels[heard], chances[heard]
    said = chances.argmax(1)
    confusion = np.bincount(labels * classes + said, minlength=classes**2).reshape(classes, classes)
    known = names if len(names) == classes else tuple(map(str, range(classes)))
    return Answers(confusion, chances.max(1), (said == labels).astype(float), known)


def charts(view: View) -> list[Chart]:
    """Of the newest model that was looked at: precision and recall, the focused run's confusion, calibration."""
    found = {name: a for name in view.groups if (a := of(view.newest(name))) is not None}
    if not found:
        return []
    return [*by_class(found), *confusion(found, view.focus), calibration(found)]


def of(feed: Feed | None) -> Answers | None:
    """What a run's model answers, as its observer saw it last."""
    if feed is None or feed.run.observer.scored is None:
        return None
    return answers(feed.run.observer.scored, feed.run.problem.class_names)


def by_class(found: dict[str, Answers]) -> list[Chart]:
    notes = {
        "recall": "share of each class's test samples that were found",
        "precision": "share of the answers that were right",
    }
    return [
        Chart(key, f"{key.capitalize()} by class", "", "", _bars(found, key), note, percent=True)
        for key, note in notes.items()
    ]


def _bars(found: dict[str, Answers], key: str) -> list[Mark]:
    return [
        Mark(name, list(a.names), a.recall if key == "recall" else a.precision, "bars") for name, a in found.items()
    ]


def confusion(found: dict[str, Answers], focus: str) -> list[Chart]:
    """Rows: what is so; columns: what was said; as shares of the rows."""
    if focus not in found:
        return []
    one = found[focus]
    shares = _share(one.confusion, one.confusion.sum(1, keepdims=True))
    mark = Mark("", list(one.names), list(one.names), "heat", z=shares, part="share of the row")
    note = f"{focus}: rows are the true classes, columns the answers"
    return [Chart("confusion", "Confusion", "said", "is", [mark], note)]


def calibration(found: dict[str, Answers]) -> Chart:
    marks, words = [], []
    for name, one in found.items():
        sure, so, error = one.calibration()
        marks.append(Mark(name, sure, so))
        words.append(f"{name} {error:.1%}")
    marks.append(
        Mark("", np.array([0.0, 1.0]), np.array([0.0, 1.0]), part="perfectly calibrated", dash="dot", width=1.2)
    )
    note = f"share of right answers among those of one confidence; mean distance to the dotted line: {', '.join(words)}"
    return Chart("calibration", "Calibration", "confidence", "", marks, note, percent=True)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
