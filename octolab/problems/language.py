"""Next-character prediction: every role of a play is a client, the model a small GPT."""

from __future__ import annotations

import numpy as np
import torch

from octolab import data
from octolab.arguments import SEED, expects, number, whole
from octolab.problems.division import Weights
from octolab.problems.facts import FLOAT, FLOAT_NAME
from octolab.problems.network import Network
from octolab.problems.networks import CharGPT


@expects(
    clients=whole(1),
    context=whole(1),
    samples=whole(1),
    test_samples=whole(0),
    width=whole(1),
    heads=whole(1),
    blocks=whole(1),
    seed=SEED,
    test_share=number(ge=0, lt=1),
    dtype=FLOAT | FLOAT_NAME,
)
def language(
    dataset: str | data.Dataset = "shakespeare",
    *,
    clients: int | None = None,
    context: int = 64,
    samples: int | None = 16,
    test_samples: int = 128,
    width: int = 64,
    heads: int = 4,
    blocks: int = 3,
    weights: Weights = "examples",
    seed: int = 0,
    test_share: float = 0.1,
    dtype: torch.dtype | str = torch.float32,
) -> Network:
    """A character-level GPT over a text data set's natural clients (Shakespeare: 64 roles).

    clients: how many of them (None: all). context: characters a window holds. samples: at most so many
    training windows per client (None: all; f and its gradient are then costly to evaluate). test_samples:
    windows of the global test set. width, heads, blocks: of the model (default: 163,335 parameters).
    Accuracy: share of characters predicted right.
    """
    held = data.load(dataset, seq_len=context) if isinstance(dataset, str) else dataset
    if getattr(held, "kind", None) != "text":
        raise ValueError(f"{dataset!r} is no text data set: language needs one, e.g. 'shakespeare'.")
    partition = data.Natural().split(held, clients, seed=seed, test_share=test_share)
    parts = [partition.client(i, held) for i in range(partition.n)]
    most = None if samples is None else int(samples)
    spec = {
        "kind": "language",
        "dataset": held.spec,
        "clients": partition.n,
        "context": context,
        "samples": samples,
        "test_samples": test_samples,
        "width": width,
        "heads": heads,
        "blocks": blocks,
        "weights": weights if weights is None or isinstance(weights, str) else np.asarray(weights).tolist(),
        "seed": seed,
        "test_share": test_share,
    }
    module = CharGPT(len(held.classes), held.x.shape[1], width, heads, blocks, seed=seed)
    whole = None
    if held.x_test is not None and held.y_test is not None:
        pick = np.sort(np.random.default_rng(seed).permutation(len(held.x_test))[:test_samples])
        whole = (held.x_test[pick], held.y_test[pick])
    problem = Network(
        module,
        "cross_entropy",
        [x[:most] for x, _, _, _ in parts],
        [y[:most] for _, y, _, _ in parts],
        weights=weights,
        test=[(x[:most], y[:most]) for _, _, x, y in parts],
        global_test=whole,
        dtype=getattr(torch, dtype) if isinstance(dtype, str) else dtype,
        name=f"{held.name} (CharGPT)",
        spec=spec,
    )
    problem.partition = partition
    return problem
