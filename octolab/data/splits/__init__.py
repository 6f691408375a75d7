"""How a data set is divided among clients: one frozen dataclass per rule, and `split_from_spec`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from octolab.data.splits.base import Split
from octolab.data.splits.flower import FromPartitioner, partitioner_from_spec
from octolab.data.splits.label import Dirichlet, Shards
from octolab.data.splits.natural import Natural
from octolab.data.splits.quantity import IID, QuantitySkew
from octolab.data.splits.shift import FeatureShift

KINDS: dict[str, type[Split]] = {c.__name__: c for c in (IID, Dirichlet, Shards, QuantitySkew, FeatureShift, Natural)}


def split_from_spec(spec: Mapping[str, Any]) -> Split:
    """Rebuild a split from `split.spec` (or from a partition's whole spec).

    `split_from_spec(s.spec) == s` for all of octolab's own. Raises ValueError for an unknown kind or field.
    """
    if not isinstance(spec, Mapping):
        raise ValueError(f"split_from_spec was given {spec!r}; it takes a split's spec, a dict with 'kind'.")
    if "split" in spec and "kind" not in spec:
        return split_from_spec(spec["split"])
    kind = spec.get("kind")
    if kind == "FromPartitioner":
        return partitioner_from_spec(dict(spec))
    if kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, 1)
        raise ValueError(
            f"There is no split {kind!r}; known are {', '.join([*KINDS, 'FromPartitioner'])}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    arguments = {k: split_from_spec(v) if k == "base" else v for k, v in spec.items() if k != "kind"}
    try:
        return KINDS[kind](**arguments)
    except TypeError:
        allowed = ", ".join(KINDS[kind].__dataclass_fields__) or "none"
        raise ValueError(f"{kind} cannot be built from {arguments!r}; its fields are: {allowed}.") from None


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
