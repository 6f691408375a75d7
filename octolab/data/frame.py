"""From a pandas DataFrame to a Dataset."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from octolab.arguments import expects, like, sequence, text
from octolab.data.arrays import as_float, plain
from octolab.data.conversion import Members, assemble, members, parts, sha256_of
from octolab.data.dataset import Dataset, Provenance, listed
from octolab.data.errors import DataWarning
from octolab.data.table import Encoder, feature_columns, kind_of
from octolab.data.targets import read_targets

if TYPE_CHECKING:
    import pandas as pd


@expects(
    df=like("a pandas DataFrame", "columns", "iloc"),
    target=text("a column's name") | sequence("several of them", text()),
    client=text("a column's name"),
    groups=text("a column's name"),
    features=sequence("columns' names", text()),
)
def from_frame(
    df: pd.DataFrame,
    target: str | Sequence[str] = "label",
    client: str | None = None,
    groups: str | None = None,
    categorical: str = "one-hot",
    missing: str = "median+flag",
    *,
    features: Sequence[str] | None = None,
    kind: str | None = None,
    scale: str | None = None,
    statistics: str = "pooled",
    test: pd.DataFrame | None = None,
    test_share: float = 0.0,
    name: str = "frame",
    licence: str = "not stated",
) -> Dataset:
    """A Dataset from a pandas DataFrame.

    Args:
        target: the column to predict; several: of zeros and ones (labels) or of numbers (a regression of several).
        client: column of natural client ids. groups: column of groups, for fairness. Neither is a feature unless
            `features` names it.
        features: columns of x; default all others, less indices, identifiers and times, which a DataWarning names.
        kind: "classification", "multi-label" or "regression"; None: as the target's values suggest.
        categorical: text and categories as "one-hot" columns, as "codes", or "refuse". A column of many different
            sentences becomes counts of words, hashed into 256 columns.
        missing: "median+flag", "median", "drop" (rows) or "refuse". A missing category is all zeros.
        scale: None, or "standard": numbers get mean 0 and variance 1.
        statistics: medians, means and deviations "pooled" over all training rows, or "per client", of its own rows
            (a client without a value takes the clients' mean), which a federation can do.
        test: a table kept for testing alone. test_share: share of the rows, where `test` gives none.

    `notes` of the result say what was done. Raises ValueError, in words, for what does not fit.
    """
    encoder = Encoder(categorical, missing, scale, statistics, where=name)
    made = read_frame(df, encoder, target, client, groups, features, kind, test, test_share)
    if encoder.took and client is not None:
        warnings.warn(
            f"{name}: {listed(encoder.took, 4)} were taken over all clients' training samples together, which a "
            "federation cannot do without sharing them. statistics='per client' takes each client's own.",
            DataWarning,
            stacklevel=2,
        )
    provenance = replace(made.provenance, source="a table given by the user", licence=licence)
    return replace(made, provenance=provenance, given=True)


def read_frame(
    df: pd.DataFrame,
    encoder: Encoder,
    target: str | Sequence[str],
    client: str | None = None,
    groups: str | None = None,
    features: Sequence[str] | None = None,
    kind: str | None = None,
    test: pd.DataFrame | None = None,
    test_share: float = 0.0,
) -> Dataset:
    """`from_frame` with an encoder of one's own; its `where` is the data set's name."""
    name = encoder.where
    targets = [target] if isinstance(target, str) else [str(t) for t in target]
    frame = checked_frame(df, name, targets, client, groups, features)
    names = list(features) if features is not None else feature_columns(frame, [*targets, client, groups], name)
    held = None if test is None else checked_frame(test, f"{name} (test part)", targets, None, None, names)
    if encoder.missing == "drop":
        frame, held = encoder.complete(frame, names), None if held is None else encoder.complete(held, names)
    n = len(frame)
    of_client = members(None if client is None else frame[client], n, f"{name}, column {client!r}")
    of_group = members(None if groups is None else frame[groups], n, f"{name}, column {groups!r}")
    whole = frame if held is None else _joined(frame, held, [*names, *targets], name)
    train, rest = parts(n, len(whole), test_share)
    encoder.train = np.zeros(len(whole), bool)
    encoder.train[train] = True
    encoder.clients = None if of_client is None else _clients_of_all(of_client, held, client, len(whole) - n)
    x, titles = encoder.features(whole, names)
    raw = whole[targets[0]] if len(targets) == 1 else whole[targets]
    what = f"{name}, column {targets[0]!r}" if len(targets) == 1 else f"{name}, columns {listed(targets, 6)}"
    read = read_targets(raw, what, kind, targets if len(targets) > 1 else ())
    if encoder.single and read.kind == "regression":
        read = read._replace(y=as_float(read.y, np.dtype(np.float32), what))
    provenance = Provenance(
        "a table", "not stated", sha256_of(x, read.y, [str(c) for c in read.classes]), x.nbytes, len(x)
    )
    made = assemble(name, x, read, train, rest, provenance, clients=of_client, groups=of_group, notes=encoder.notes)
    return replace(made, feature_names=titles)


def checked_frame(
    df: pd.DataFrame,
    name: str,
    targets: Sequence[str],
    client: str | None,
    groups: str | None,
    features: Sequence[str] | None,
) -> pd.DataFrame:
    """The table with its columns' names as text and its rows counted anew; ValueError for columns that it lacks."""
    if not hasattr(df, "columns") or not hasattr(df, "iloc"):
        raise ValueError(f"{name} is a {type(df).__name__}; give a pandas DataFrame.")
    frame = df.reset_index(drop=True)
    frame.columns = [str(c) for c in frame.columns]
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise ValueError(f"{name} has two columns {twice[0]!r}; rename one.")
    wanted = [("target", t) for t in targets] + [("features", f) for f in features or ()]
    for option, column in [*wanted, ("client", client), ("groups", groups)]:
        if column is not None and column not in frame.columns:
            raise ValueError(
                f"{name} has no column {column!r}; its columns are {listed(frame.columns, 20)}. Say which one to use "
                f"with {option}=..."
            )
    if len(frame) == 0:
        raise ValueError(f"{name} has no rows; a data set needs at least one sample. Check the table.")
    if features is not None and set(features) & set(targets):
        raise ValueError(f"{name}: the target {listed(targets, 3)} is among the features, which would give it away.")
    return frame


def _joined(frame: pd.DataFrame, held: pd.DataFrame, columns: Sequence[str], name: str) -> pd.DataFrame:
    """Training and test rows, one after the other; ValueError where a column holds numbers in one and not the other."""
    import pandas as pd

    for column in columns:
        kinds = [kind_of(part[column]) for part in (frame, held)]
        if len(set(kinds)) > 1 and set(kinds) != {"text", "category"}:
            raise ValueError(
                f"{name}: column {column!r} is a {kinds[0]} column in training and a {kinds[1]} column in the test "
                "part; give both in one form."
            )
    return pd.concat([frame[list(columns)], held[list(columns)]], ignore_index=True)


def _clients_of_all(of_client: Members, held: pd.DataFrame | None, client: str | None, more: int) -> np.ndarray:
    """Codes of all rows' clients; -1 for test rows of no training client."""
    assert of_client.codes is not None
    place = {name: k for k, name in enumerate(of_client.names)}
    known = [] if held is None or client not in held.columns else plain(held[client], "clients").tolist()
    rest = [place.get(str(value), -1) for value in known] or [-1] * more
    return np.concatenate([of_client.codes, np.asarray(rest, np.int64)])
