"""What the arguments of several problems may be."""

from __future__ import annotations

import torch

from octolab.arguments import SEED, Fact, instance, number, one_of, sequence, text, whole
from octolab.data import Split

FLOAT = Fact(lambda v: v in (torch.float32, torch.float64), "torch.float64 or torch.float32")
FLOAT_NAME = one_of("float64", "float32")
CLIENTS = sequence("a list with one array per client", least=1)
PAIR = sequence("a pair (features, labels)", least=2)
MADE: dict[str, Fact] = {
    "clients": whole(1),
    "seed": SEED,
    "test_share": number(ge=0, lt=1),
    "validation_share": number(ge=0, lt=1),
    "dtype": FLOAT | FLOAT_NAME,
    "hidden": sequence("widths, whole numbers >= 1", whole(1)),
    "split": instance("a split, such as ol.data.Dirichlet(0.3)", Split),
    "l2": number("the ridge", ge=0),
}
"""Of problems made from data sets."""
SAMPLES: dict[str, Fact] = {
    "features": CLIENTS,
    "l2": number("the ridge", ge=0),
    "dtype": FLOAT,
    "name": text(),
    "test": sequence("a pair (features, labels) for each client", PAIR),
    "global_test": PAIR,
}
"""Of the linear models."""
