"""Fleets as tables: one device per row, units in the columns' names.

| column | meaning | left out |
| --- | --- | --- |
| seconds | seconds per unit of work | 1 |
| up_mbps, down_mbps | link speeds in megabits per second | no limit |
| latency_ms | milliseconds per message | 0 |
| dropout | probability that a device that was asked never replies | 0 |
| battery_wh | watt-hours of a full battery (inf: on the mains) | inf |
| power_w, radio_w | watts while it computes, while it sends | 3, 1 |
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from octolab.arguments import FLEET, expects, like, path, whole
from octolab.fleets.fleet import RULES, Fleet
from octolab.fleets.rows import bad_rows, columns_of, read_csv

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {  # column -> field of Fleet, and by what it is multiplied
    "seconds": ("seconds", 1.0),
    "up_mbps": ("up", 1e6),
    "down_mbps": ("down", 1e6),
    "latency_ms": ("latency", 1e-3),
    "dropout": ("dropout", 1.0),
    "battery_wh": ("battery", 1.0),
    "power_w": ("power", 1.0),
    "radio_w": ("radio", 1.0),
}


@expects(table=like("a pandas table", "columns", "iloc"))
def from_frame(table: pd.DataFrame, *, where: str = "The table", first: int = 0, **settings: Any) -> Fleet:
    """The fleet of a table. settings: other fields of `Fleet`, e.g. jitter, availability, timeout.

    where, first: how errors call the table, and the number of its first row.
    """
    columns = columns_of(table, dict.fromkeys(COLUMNS, False), where)
    if not columns or len(table) == 0:
        raise ValueError(f"{where} has no devices: give one row per device and columns out of {', '.join(COLUMNS)}.")
    twice = [field for field, _ in (COLUMNS[c] for c in columns) if field in settings]
    if twice:
        raise ValueError(
            f"{where} has a column for {', '.join(twice)}, which was given beside it too: give one of them."
        )
    wrong: dict[int, list[str]] = {}
    for name, values in columns.items():
        allowed, words = RULES[COLUMNS[name][0]]
        for row in np.flatnonzero(np.isnan(values) | ~np.asarray(allowed(values), dtype=bool)).tolist():
            shown = table[next(c for c in table.columns if str(c).strip() == name)].iloc[row]
            wrong.setdefault(row, []).append(f"{name}={shown} ({_in_units(name, words)})")
    if wrong:
        kind = "line" if first else "row"
        raise ValueError(bad_rows(where, [f"{kind} {row + first}: {', '.join(wrong[row])}" for row in sorted(wrong)]))
    made: dict[str, Any] = {COLUMNS[c][0]: values * COLUMNS[c][1] for c, values in columns.items()}
    return Fleet(**made, **settings)


def _in_units(name: str, words: str) -> str:
    return words.replace("bits per second", "megabits per second") if name.endswith("_mbps") else words


@expects(path=path("the path of a CSV file"))
def from_csv(path: str | os.PathLike, **settings: Any) -> Fleet:
    """The fleet of a CSV file with a header line. Lines are numbered as an editor does, the header being line 1."""
    table = read_csv(path, f"columns out of {', '.join(COLUMNS)}")
    return from_frame(table, where=f"The file {str(path)!r}", first=2, **settings)


@expects(fleet=FLEET, n=whole(1))
def to_frame(fleet: Fleet, n: int | None = None) -> pd.DataFrame:
    """The way back: one row per device. n: how many, where no array says it."""
    import pandas as pd

    count = fleet.n or n
    if count is None:
        raise ValueError("This fleet has no arrays, so it does not say how many devices there are: give n=...")
    return pd.DataFrame({c: np.ones(count) * getattr(fleet, field) / by for c, (field, by) in COLUMNS.items()})


def summary(fleet: Fleet) -> pd.DataFrame:
    """Percentiles over the devices of every column that is not the same for all.

    The last row, `slow and badly connected`: the share of devices that are in the slowest quarter and in the quarter with
    the slowest uplink (1/16 if the two have nothing to do with each other).
    """
    import pandas as pd

    table = to_frame(fleet, fleet.n or 1)
    kept = table.loc[:, table.nunique() > 1]
    out = kept.quantile([0, 0.01, 0.1, 0.5, 0.9, 0.99, 1]).T
    out.columns = pd.Index(["min", "p1", "p10", "p50", "p90", "p99", "max"])
    out["p99/p1"] = out["p99"] / out["p1"]
    if {"seconds", "up_mbps"} <= set(kept.columns):
        both = (table["seconds"] >= table["seconds"].quantile(0.75)) & (
            table["up_mbps"] <= table["up_mbps"].quantile(0.25)
        )
        out.loc["slow and badly connected", "p50"] = float(both.mean())
    return out
