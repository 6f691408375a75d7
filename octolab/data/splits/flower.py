"""Any of Flower's partitioners (the package flwr-datasets) as a split."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

from octolab.data.splits.base import Draft, Samples, Split
from octolab.rooms import register

INDEX = "octolab_index"


@register("splits")
@dataclass(frozen=True, eq=False)
class FromPartitioner(Split):
    """A fresh flwr-datasets partitioner as a split: FromPartitioner(IidPartitioner(num_partitions=10)).

    It is given a table with the columns "label" (or whatever its `partition_by` says: natural client ids for
    NaturalIdPartitioner and GroupedNaturalIdPartitioner, labels for the others) and is asked for its
    partitions. It draws with its own seed; octolab's seed decides only on train and test. A copy is used:
    the object given can be used again. Samples that it gives to nobody are left out (a note says how many).
    """

    partitioner: Any

    def __post_init__(self) -> None:
        if not (hasattr(self.partitioner, "load_partition") and hasattr(self.partitioner, "is_dataset_assigned")):
            raise ValueError(
                f"FromPartitioner was given {self.partitioner!r}; it takes a partitioner object of "
                "flwr-datasets, e.g. flwr_datasets.partitioner.IidPartitioner(num_partitions=10)."
            )
        if self.partitioner.is_dataset_assigned():
            raise ValueError(
                f"This {type(self.partitioner).__name__} already has a data set, and can have only one. Make a new one."
            )

    @property
    def spec(self) -> dict[str, Any]:
        """{"kind", "class", "arguments"}: the partitioner's class and its constructor's arguments.

        An argument that JSON cannot hold (a function) is noted as text; such a spec cannot be rebuilt.
        """
        arguments = {}
        for name in inspect.signature(type(self.partitioner).__init__).parameters:
            if name != "self" and hasattr(self.partitioner, f"_{name}"):
                arguments[name] = _plain(getattr(self.partitioner, f"_{name}"))
        return {"kind": "FromPartitioner", "class": type(self.partitioner).__name__, "arguments": arguments}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> FromPartitioner:
        """The way back from `spec`. ImportError without flwr-datasets, ValueError if impossible."""
        return partitioner_from_spec(spec)

    def assign(self, samples: Samples, n: int | None, seed: int) -> Draft:
        partitioner = copy.deepcopy(self.partitioner)
        name = type(partitioner).__name__
        partitioner.dataset = _table(partitioner, samples)
        count = partitioner.num_partitions
        if n is not None and n != count:
            raise ValueError(
                f"{n:,} clients were asked for, and this {name} makes {count:,} partitions. Leave n out, or "
                f"make a partitioner for {n:,}."
            )
        owners = np.full(len(samples), -1, np.int64)
        for i in range(count):
            try:
                part = partitioner.load_partition(i)
            except (IndexError, ValueError) as error:
                raise ValueError(
                    f"{name} cannot make partition {i} of {count:,} from {len(samples):,} samples: {error} "
                    "Every client needs samples; ask it for fewer partitions."
                ) from error
            if INDEX not in part.column_names:
                raise ValueError(
                    f"{name} divides columns, not samples; octolab's clients hold whole samples. Use another."
                )
            index = part.with_format("numpy")[INDEX] if len(part) else np.empty(0, np.int64)
            if len(index) == 0:
                raise ValueError(
                    f"{name} leaves client {i} without samples; every client needs one. Ask it for fewer partitions."
                )
            if (owners[index] >= 0).any():
                raise ValueError(f"{name} gives a sample to two clients (client {i} is the second). Use another one.")
            owners[index] = i
        left_out = int((owners < 0).sum())
        notes = (f"{left_out:,} samples are left out by {name}",) if left_out else ()
        return Draft(owners, count, notes)


def partitioner_from_spec(spec: dict[str, Any]) -> FromPartitioner:
    """As `FromPartitioner.from_spec`."""
    try:
        from flwr_datasets import partitioner as flower
    except ImportError:
        raise ImportError(
            f"The split {spec.get('class')} comes from flwr-datasets, which is not installed. Install flwr-datasets."
        ) from None
    made = getattr(flower, str(spec.get("class")), None)
    base = flower.Partitioner
    if not (isinstance(made, type) and issubclass(made, base)):
        raise ValueError(f"flwr-datasets has no partitioner {spec.get('class')!r}. Check the spec's 'class'.")
    try:
        return FromPartitioner(made(**spec.get("arguments", {})))
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"{spec.get('class')} cannot be rebuilt from {spec.get('arguments')!r}: {error}. Make it by hand."
        ) from error


def _table(partitioner: Any, samples: Samples) -> Any:
    """The `datasets.Dataset` that is divided: indices, labels, and the column the partitioner asks for."""
    import datasets

    columns: dict[str, Any] = {INDEX: np.arange(len(samples))}
    if samples.codes.ndim == 1:
        columns["label"] = samples.codes
    if samples.clients is not None:
        columns["client"] = samples.clients
    wanted = getattr(partitioner, "_partition_by", None)
    if isinstance(wanted, str) and wanted not in columns:
        natural = "NaturalId" in type(partitioner).__name__
        source = columns.get("client" if natural else "label")
        if source is None:
            lacking = "natural clients" if natural else "one label per sample"
            raise ValueError(
                f"{type(partitioner).__name__} needs {lacking}, and these data have none. Use another partitioner."
            )
        columns[wanted] = source
    return datasets.Dataset.from_dict(columns)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)
