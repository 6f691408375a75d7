"""How a data set is divided among clients: one frozen dataclass per rule, and `split_from_spec`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octolab.arguments import expects, instance
from octolab.data.splits.base import Split
from octolab.data.splits.flower import FromPartitioner
from octolab.data.splits.label import Dirichlet, Shards
from octolab.data.splits.natural import Natural
from octolab.data.splits.quantity import IID, QuantitySkew
from octolab.data.splits.shift import FeatureShift
from octolab.notation import from_json


@expects(spec=instance("a split's spec, a dict", dict))
def split_from_spec(spec: Mapping[str, Any]) -> Split:
    """Rebuild a split from `split.spec` (or from a partition's whole spec).

    `split_from_spec(s.spec) == s` for all of octolab's own. Raises ValueError for an unknown kind or field.
    """
    if not isinstance(spec, Mapping):
        raise ValueError(f"split_from_spec was given {spec!r}; it takes a split's spec, a dict with 'kind'.")
    if "split" in spec and "kind" not in spec:
        return split_from_spec(spec["split"])
    made: Split = from_json(dict(spec), "splits")
    return made


__all__ = [
    "IID",
    "Dirichlet",
    "FeatureShift",
    "FromPartitioner",
    "Natural",
    "QuantitySkew",
    "Shards",
    "Split",
    "split_from_spec",
]
