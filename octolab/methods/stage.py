"""A page's stage: the problem, devices, axis and baseline that its paper's claim is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """Where a method shows what it is for. The explorer opens there, and `make stages` computes whether the claim holds.

    claim: in one sentence. problem: a preset of the laboratory, "" for the one that suits. axis: what is compared, out of
    "bits_up", "round", "time", "gradients", "bits_total"; "" for the one that suits. baseline: a method's slug, or "auto".
    values: knobs by their short names, as `ol.lab` takes them. loses: the claim is known not to hold here, and the card
    says so.
    """

    claim: str
    problem: str = ""
    axis: str = ""
    baseline: str = "auto"
    values: Mapping[str, object] = field(default_factory=dict)
    loses: bool = False
