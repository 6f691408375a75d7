"""The world a method runs in: federation, cohorts, payloads, ledger, randomness, devices, virtual clock."""

import importlib
import warnings
from typing import Any

from octolab.federation.attack import Attack, AttackContext
from octolab.federation.cohort import Cohort
from octolab.federation.executor import Each
from octolab.federation.federation import Federation
from octolab.federation.jobs import Job
from octolab.federation.ledger import Ledger
from octolab.federation.memory import Memory
from octolab.federation.replies import Replies, Reply
from octolab.federation.sampling import (
    Block,
    Cyclic,
    Filled,
    Full,
    Importance,
    Nice,
    ParticipationFloor,
    Poisson,
    Reshuffled,
    Sampler,
    Stratified,
    Weighted,
)
from octolab.federation.timeline import Timeline
from octolab.fleets.fleet import Exponential, Fleet, HalfNormal, Hang, LogNormal
from octolab.randomness import Randomness, Scripted

_MOVED = {"payloads": "octolab.payloads", "randomness": "octolab.randomness", "fleet": "octolab.fleets"}


def __getattr__(name: str) -> Any:
    """The rooms that were modules here before 0.2."""
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"octolab.federation.{name} is now {_MOVED[name]}.", DeprecationWarning, stacklevel=2)
    return importlib.import_module(_MOVED[name])


__all__ = [
    "Attack",
    "AttackContext",
    "Block",
    "Cohort",
    "Cyclic",
    "Each",
    "Exponential",
    "Federation",
    "Filled",
    "Fleet",
    "Full",
    "HalfNormal",
    "Hang",
    "Importance",
    "Job",
    "Ledger",
    "LogNormal",
    "Memory",
    "Nice",
    "ParticipationFloor",
    "Poisson",
    "Randomness",
    "Replies",
    "Reply",
    "Reshuffled",
    "Sampler",
    "Scripted",
    "Stratified",
    "Timeline",
    "Weighted",
]
