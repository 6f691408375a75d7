"""The world a method runs in: federation, cohorts, payloads, ledger, randomness, devices, virtual clock."""

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
