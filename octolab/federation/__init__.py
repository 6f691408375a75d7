"""The world a method runs in: federation, cohorts, payloads, ledger, randomness, devices, virtual clock."""

from octolab.federation.attack import Attack, AttackContext
from octolab.federation.cohort import Cohort
from octolab.federation.executor import Each
from octolab.federation.federation import Federation
from octolab.federation.fleet import Exponential, Fleet, HalfNormal, Hang, LogNormal
from octolab.federation.jobs import Job
from octolab.federation.ledger import Ledger
from octolab.federation.memory import Memory
from octolab.federation.randomness import Randomness, Scripted
from octolab.federation.replies import Replies
from octolab.federation.sampling import Block, Cyclic, Full, Importance, Nice, Poisson, Sampler, Stratified, Weighted

__all__ = [
    "Attack",
    "AttackContext",
    "Block",
    "Cohort",
    "Cyclic",
    "Each",
    "Exponential",
    "Federation",
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
    "Poisson",
    "Randomness",
    "Replies",
    "Sampler",
    "Scripted",
    "Stratified",
    "Weighted",
]
