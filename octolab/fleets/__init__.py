"""Devices: how fast they compute, how they are connected, when they are online, what their batteries hold.

`Fleet` is the description that a run takes. Presets (illustrative): `phones`, `iot`, `hospitals`. A table of devices:
`Fleet.from_csv`. What to do with them: `allocate`, `advise`, `LatencyPredictor`.
"""

from octolab.fleets.advice import Advice, advise
from octolab.fleets.allocation import Allocation, allocate
from octolab.fleets.availability import Always, Availability, Diurnal, Intervals, Powers
from octolab.fleets.fleet import Fleet
from octolab.fleets.jitter import Exponential, HalfNormal, Hang, Jitter, LogNormal
from octolab.fleets.latency import LatencyPredictor, profile
from octolab.fleets.presets import hospitals, iot, lognormal, phones
from octolab.fleets.recorded import Recorded
from octolab.fleets.tables import from_csv, from_frame, to_frame

__all__ = [
    "Advice",
    "Allocation",
    "Always",
    "Availability",
    "Diurnal",
    "Exponential",
    "Fleet",
    "HalfNormal",
    "Hang",
    "Intervals",
    "Jitter",
    "LatencyPredictor",
    "LogNormal",
    "Powers",
    "Recorded",
    "advise",
    "allocate",
    "from_csv",
    "from_frame",
    "hospitals",
    "iot",
    "lognormal",
    "phones",
    "profile",
    "to_frame",
]
