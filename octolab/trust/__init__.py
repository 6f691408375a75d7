"""Trust: attackers, robust aggregators, and what may be said of privacy.

ol.trust.aggregators    rules that a server uses instead of the mean (also `ol.aggregators`)
ol.trust.attacks        what liars send (also `ol.attacks`)
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from octolab.faces import face

if TYPE_CHECKING:
    from octolab.trust import accounting, aggregators, attacks, audit
    from octolab.trust.budget import Budget
    from octolab.trust.fairness import evenness, fairness_table, groups, jain
    from octolab.trust.flags import detection
    from octolab.trust.secure_sum import SecureSum

_MODULES = ("accounting", "aggregators", "attacks", "audit")
_NAMES = {
    "Budget": "octolab.trust.budget",
    "SecureSum": "octolab.trust.secure_sum",
    "detection": "octolab.trust.flags",
    "evenness": "octolab.trust.fairness",
    "fairness_table": "octolab.trust.fairness",
    "groups": "octolab.trust.fairness",
    "jain": "octolab.trust.fairness",
}

__all__ = [
    "Budget",
    "SecureSum",
    "accounting",
    "aggregators",
    "attacks",
    "audit",
    "detection",
    "evenness",
    "fairness_table",
    "groups",
    "jain",
    "worst_case",
]


def worst_case(*arguments: Any, **options: Any) -> Any:
    """Every rule against every attack, with the worst beside them: see `octolab.experiment.worst_case`."""
    return face("trust.worst_case")(*arguments, **options)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        module: ModuleType = importlib.import_module(f"octolab.trust.{name}")
        return module
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"octolab.trust has no {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
