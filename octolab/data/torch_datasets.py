"""From a torch data set to a Dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from octolab.arguments import expects, like, number
from octolab.data.conversion import Pair, from_arrays
from octolab.data.dataset import Dataset

if TYPE_CHECKING:
    import torch.utils.data


@expects(
    dataset=like("a torch data set", "__getitem__") | like("its DataLoader", "dataset"),
    test=like("a data set or a pair (X, y)", "__len__"),
    test_share=number(ge=0, lt=1),
)
def from_torch(
    dataset: torch.utils.data.Dataset,
    clients: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    *,
    test: torch.utils.data.Dataset | Pair | None = None,
    kind: str | None = None,
    test_share: float = 0.0,
    name: str = "torch data set",
) -> Dataset:
    """A Dataset from a torch data set of pairs (x, y), such as a TensorDataset or one of torchvision.

    It is read once, from its first sample to its last, so that random transforms are drawn once. Pictures (PIL) become
    arrays of bytes divided by 255. clients, groups: (N,) whose each sample is. Class names come from its `classes`.

    Raises ValueError, in words, for one without a length, or whose samples are no pairs.
    """
    x, y = samples(dataset, name)
    held = test if test is None or isinstance(test, (tuple, list)) else samples(test, f"{name} (test part)")
    names = getattr(dataset, "classes", None)
    numbered = kind != "regression" and np.asarray(y).dtype.kind in "iu"
    classes = list(names) if names is not None and numbered else None
    return from_arrays(x, y, clients, groups, test=held, kind=kind, classes=classes, test_share=test_share, name=name)


def samples(dataset: torch.utils.data.Dataset, name: str) -> Pair:
    """All samples of a torch data set, features and targets stacked."""
    import torch
    from torch.utils.data import IterableDataset, TensorDataset

    if hasattr(dataset, "batch_sampler") and hasattr(dataset, "dataset"):
        raise ValueError(f"{name} is a DataLoader; give its data set, loader.dataset: octolab draws the batches.")
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise ValueError(f"{name} has no length (it is a stream); octolab needs all samples at hand.")
    if isinstance(dataset, TensorDataset):
        if len(dataset.tensors) != 2:
            raise ValueError(f"{name} holds {len(dataset.tensors)} tensors; give TensorDataset(x, y).")
        return dataset.tensors[0].detach().cpu(), dataset.tensors[1].detach().cpu()
    if len(dataset) == 0:
        raise ValueError(f"{name} is empty; a data set needs at least one sample.")
    first = dataset[0]
    if not isinstance(first, (tuple, list)) or len(first) != 2:
        what = f"{len(first)} values" if isinstance(first, (tuple, list)) else type(first).__name__
        raise ValueError(f"{name} gives {what} a sample; octolab needs pairs (x, y).")
    pairs = [first, *(dataset[i] for i in range(1, len(dataset)))]
    x, y = (
        torch.stack(list(part)) if isinstance(part[0], torch.Tensor) else _stacked(part, name)
        for part in zip(*pairs, strict=True)
    )
    return x, y


def _stacked(values: tuple[ArrayLike, ...], name: str) -> np.ndarray:
    """Pictures, arrays or single values as one array; pictures in [0, 1]."""
    try:
        stacked = np.stack([np.asarray(v) for v in values])
    except ValueError:
        raise ValueError(f"{name}: the samples have different shapes; resize them to one shape first.") from None
    picture = hasattr(values[0], "getbands") and stacked.dtype == np.uint8
    return np.multiply(stacked, np.float32(1 / 255), dtype=np.float32) if picture else stacked
