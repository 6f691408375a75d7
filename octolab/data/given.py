"""Whatever a user hands in as data, as a Dataset: a name, arrays, a table, a data set of torch or Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from octolab.arguments import expects, sequence, text
from octolab.data.arrays import is_frame
from octolab.data.catalogue import load
from octolab.data.conversion import from_arrays
from octolab.data.dataset import Dataset
from octolab.data.frame import from_frame
from octolab.data.hub import from_hugging_face
from octolab.data.targets import CLASSES, REGRESSION
from octolab.data.torch_datasets import from_torch

if TYPE_CHECKING:
    import torch.utils.data

FORMS = (
    "a name for ol.data.load, (X, y), a DataFrame with target=..., a torch or Hugging Face data set, or an "
    "ol.data.Dataset"
)


@expects(
    target=text("a column's name") | sequence("several of them", text()),
    client=text("a column's name"),
    groups=text("a column's name"),
)
def as_dataset(
    given: object,
    *,
    target: str | Sequence[str] | None = None,
    client: str | None = None,
    groups: str | None = None,
    kind: str | None = None,
) -> Dataset:
    """`given` as a Dataset. target, client, groups: columns, where it has columns. kind: CLASSES (labels, one or several
    a sample), "regression", or None: as the values suggest.

    Raises ValueError, in words, for what is none of the forms and for columns where there are none.
    """
    named: dict[str, Any] = {
        k: v for k, v in (("target", target), ("client", client), ("groups", groups)) if v is not None
    }
    if isinstance(given, str):
        table = given.startswith(("file:", "hub:")) or (given.startswith("system:") and "/" in given)
        return _of_kind(load(given, **named, **({"kind": kind} if table and kind else {})), kind)
    if is_frame(given):
        return from_frame(given, kind=kind, **named)
    if hasattr(given, "to_pandas") and hasattr(given, "columns"):  # a table of Arrow or Polars
        return from_frame(given.to_pandas(), kind=kind, **named)
    if hasattr(given, "column_names") and not isinstance(given, Dataset):
        return from_hugging_face(given, kind=kind, **named)
    if named:
        raise ValueError(
            f"{', '.join(named)}: {_what(given)} has no columns to choose from. Give a DataFrame, or ol.data.from_arrays("
            "X, y, clients=..., groups=...)."
        )
    if isinstance(given, Dataset):
        return _of_kind(given, kind)
    if isinstance(given, (tuple, list)):
        if len(given) != 2:
            raise ValueError(
                f"a {type(given).__name__} of {len(given)} things is no data set: give (X, y), and a test part with "
                "ol.data.from_arrays(X, y, test=(X_test, y_test))."
            )
        return from_arrays(given[0], given[1], kind=kind)
    if _is_torch(given):
        return from_torch(given, kind=kind)
    raise ValueError(f"{_what(given)} is no data set: give {FORMS}.")


def _is_torch(given: object) -> TypeGuard[torch.utils.data.Dataset]:
    """A torch data set, or whatever is indexed like one."""
    return hasattr(given, "__getitem__") and not hasattr(given, "dtype") and not isinstance(given, dict)


def _what(given: object) -> str:
    return f"an object of type {type(given).__name__}"


def _of_kind(held: Dataset, kind: str | None) -> Dataset:
    """The data set, class codes turned into the numbers that they stand for where a regression is asked for."""
    if kind == REGRESSION and held.kind == "classification":
        values = np.asarray(held.classes)
        if values.dtype.kind not in "iufb":
            raise ValueError(f"{held.name} has the classes {held.classes[:3]}, no numbers: it is no regression.")
        values = values.astype(np.float32)
        y_test = None if held.y_test is None else values[held.y_test]
        return replace(held, y=values[held.y], y_test=y_test, classes=(), kind=REGRESSION)
    wanted = {CLASSES: ("classification", "multi-label"), REGRESSION: (REGRESSION,)}.get(kind or "", (held.kind,))
    if held.kind not in wanted:
        advice = {"text": "ol.problems.language", "regression": "ol.problems.regression"}
        raise ValueError(
            f"{held.name} is a {held.kind} data set, no {kind if kind == REGRESSION else 'classification'}. Use "
            f"{advice.get(held.kind, 'ol.problems.classification')}."
        )
    return held
