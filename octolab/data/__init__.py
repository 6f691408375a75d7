"""Data sets and how they are divided among clients.

    from octolab.data import Dirichlet, load

    ds = load("fashion-mnist-7k")                       # arrays with provenance; catalog() lists the names
    partition = Dirichlet(alpha=0.3).split(ds, 10, seed=0)
    print(partition)                                    # sizes and labels of every client; partition.figure()
    x, y, x_test, y_test = partition.client(3, ds)

Data of your own: `from_arrays(X, y)`, `from_frame(df, target=...)`, `from_torch`, `from_hugging_face`, `load("file:...")`.

Everything is seeded numpy; nothing here reads the network but `load("hub:...")`.
"""

from __future__ import annotations

from octolab.data.catalogue import available, catalog, load
from octolab.data.conversion import from_arrays
from octolab.data.dataset import Dataset, Provenance
from octolab.data.errors import ChecksumError, DatasetUnavailable, DataWarning
from octolab.data.frame import from_frame
from octolab.data.given import as_dataset
from octolab.data.hub import from_hugging_face
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
from octolab.data.torch_datasets import from_torch

__all__ = [
    "IID",
    "ChecksumError",
    "DataWarning",
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
    "as_dataset",
    "available",
    "catalog",
    "from_arrays",
    "from_frame",
    "from_hugging_face",
    "from_torch",
    "load",
    "split_from_spec",
]
