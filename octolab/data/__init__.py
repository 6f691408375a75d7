"""Data sets and how they are divided among clients.

    from octolab.data import Dirichlet, load

    ds = load("fashion-mnist-7k")                       # arrays with provenance; available() lists the names
    partition = Dirichlet(alpha=0.3).split(ds, 10, seed=0)
    print(partition)                                    # sizes and labels of every client; partition.figure()
    x, y, x_test, y_test = partition.client(3, ds)

Everything is seeded numpy; nothing here reads the network but `load("hub:...")`.
"""

from __future__ import annotations

from octolab.data.catalogue import available, load
from octolab.data.dataset import Dataset, Provenance
from octolab.data.errors import ChecksumError, DatasetUnavailable
from octolab.data.partition import Partition
from octolab.data.splits import (
    IID,
    Dirichlet,
    FeatureShift,
    FromPartitioner,
    Natural,
    QuantitySkew,
    Shards,
    Split,
    split_from_spec,
)

__all__ = [
    "IID",
    "ChecksumError",
    "Dataset",
    "DatasetUnavailable",
    "Dirichlet",
    "FeatureShift",
    "FromPartitioner",
    "Natural",
    "Partition",
    "Provenance",
    "QuantitySkew",
    "Shards",
    "Split",
    "available",
    "load",
    "split_from_spec",
]
