"""Flights that left New York in 2013: the bundled table with natural clients."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace

from octolab.data.builtin import read_bundled
from octolab.data.dataset import Dataset
from octolab.data.frame import read_frame
from octolab.data.table import Encoder

CLIENTS = {"aircraft": "aircraft", "carrier": "carrier", "airport": "origin"}
TARGETS = {"late": ("late", "classification"), "delay": ("arrival_delay_minutes", "regression")}
NUMBERS = (
    "minute_of_day", "distance", "seats", "built", "temp_f", "dewpoint_f", "wind_mph", "rain_hundredths_inch",
    "pressure_mb", "visibility_miles",
)  # fmt: skip
CATEGORIES = ("month", "weekday", "origin", "carrier")
CODES = ("month", "weekday")  # numbers that are names: one column for each


def nycflights(
    clients: str = "aircraft",
    target: str = "late",
    groups: str | None = None,
    scale: str | None = "standard",
    missing: str = "median+flag",
    statistics: str = "pooled",
    test_share: float = 0.0,
) -> Dataset:
    """80,446 flights of 1,000 aircraft, 16 carriers, 3 airports: was the flight late, or by how many minutes?

    Args:
        clients: "aircraft" (1,000 natural clients of 1 to 462 flights), "carrier" (16) or "airport" (3).
        target: "late" (more than 15 minutes at arrival: 23.5 % of the flights) or "delay" (in minutes, a regression).
        groups: "carrier" or "airport", for fairness between groups that are not the clients.
        scale, missing, statistics: as in `from_frame`. Aircraft data are missing for 15 % of the flights, the air
            pressure for 11 %.
        test_share: share of the flights kept as global test set.

    Features: the numbers (minute of day, distance, seats, year built, weather), and month, weekday, origin and carrier
    one-hot; what makes the clients or groups is no feature.
    """
    _check(clients, CLIENTS, "clients")
    _check(target, TARGETS, "target")
    if groups is not None:
        _check(groups, CLIENTS, "groups")
    import pandas as pd

    raw, provenance = read_bundled("nycflights", n=0)
    frame = pd.read_parquet(io.BytesIO(raw))
    for name in CODES:
        frame[name] = frame[name].astype("category")
    column, kind = TARGETS[target]
    client, group = CLIENTS[clients], None if groups is None else CLIENTS[groups]
    features = [name for name in (*NUMBERS, *CATEGORIES) if name not in (client, group)]
    encoder = Encoder("one-hot", missing, scale, statistics, where="nycflights", single=True)
    made = read_frame(frame, encoder, column, client, group, features, kind, test_share=test_share)
    return replace(made, provenance=replace(provenance, n=len(frame)))


def _check(value: str, allowed: Mapping[str, object], name: str) -> None:
    if value not in allowed:
        raise ValueError(f"nycflights' {name} is {value!r}; choose {', '.join(map(repr, allowed))}.")
