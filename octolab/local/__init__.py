"""Local training: what a client does with its gradients between two rounds.

    ol.methods.FedAvg(local=ol.local.SGD(momentum=0.9, clip=1.0))
    ol.methods.FedAvg(local=ol.local.Adam(), lr=1e-3)
    ol.methods.FedAvg(local=ol.local.Torch(torch.optim.RMSprop, alpha=0.9))     # any torch optimiser, one client at a time

All clients of a cohort step at once, in stacked tensors. An optimiser's state is new in every round, or each client's own
from round to round (`keep_state=True`).
"""

from octolab.local.optimizers import SGD, Adam, AdamW, LocalOptimizer
from octolab.local.torch import Torch

__all__ = ["SGD", "Adam", "AdamW", "LocalOptimizer", "Torch"]
