"""Which kernel serves a cohort: the fastest that was shown to equal plain autograd on this module and these data."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import nn

from octolab.problems.kernels import Conduct, Kernel, Loss, OneByOne, Vmapped, choose
from octolab.problems.kernels.probe import agrees
from octolab.problems.modules import products

MANY = 8  # clients from which vmap can beat a loop, and below how many
PARAMETERS, PRODUCTS = 2**14, 2**18  # parameters and multiplications a step per parameter tensor (measured)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)  # torch has fast loops of its own for these, which vmap takes apart


class KernelChoice:
    """The kernels of one module, loss and data set X (N, ...), Y (N, ...), tried at x0 (d,).

    The choice depends on the module, the cohort and the batch alone, never on a clock, so that runs repeat.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        conduct: Conduct,
        data: tuple[torch.Tensor, torch.Tensor],
        x0: torch.Tensor,
        kept: torch.Tensor | None,
        tier: str = "auto",
    ):
        sample = tuple(data[0].shape[1:])
        self.module, self.conduct, self._data, self._x0, self._kept = module, conduct, data, x0, kept
        self.loop = OneByOne(module, loss, sample, conduct)
        self.vmap = Vmapped(module, loss, sample, conduct)
        self.fast = choose(module, loss, sample, tier, conduct)
        if tier == "auto" and self.fast is not None and not self._agrees(self.fast):
            self.fast = None

    @staticmethod
    def trial(module: nn.Module, loss: Loss, conduct: Conduct, sample: tuple[int, ...]) -> OneByOne:
        """The kernel that serves any module, to see what it gives."""
        return OneByOne(module, loss, sample, conduct)

    def _agrees(self, kernel: Kernel) -> bool:
        return agrees(kernel, self.loop, self._x0, *self._data, self._kept)

    @property
    def single(self) -> Kernel:
        """For one model that all share, and for scores alone."""
        return self.fast or self.loop

    def of(self, m: int, samples: int = 1, even: bool = True) -> Kernel:
        """For m clients at once, each with so many samples a step. even: all of them with samples that all count."""
        if not even and not self.conduct.steady:
            return self.loop  # padding must not enter a batch's statistics, and who rests must keep his
        if self.fast is not None:
            return self.fast
        return self.vmap if m >= MANY and self._light(samples) and self._vmap_works else self.loop

    def _light(self, samples: int) -> bool:
        """Whether a client's step is so light that calling torch costs more than computing: then vmap pays."""
        tensors = len(self.loop.names)
        return len(self._x0) <= tensors * PARAMETERS and samples * self._products <= tensors * PRODUCTS

    @cached_property
    def _products(self) -> int:
        """Multiplications that one sample takes, forwards."""
        some = self._data[0][:2]  # two, for modules that normalise a batch by its own statistics
        return products(self.module, some) // len(some)

    @cached_property
    def _vmap_works(self) -> bool:
        """Whether vmap takes this module, and gives what the loop gives; tried once, when it is first wanted."""
        if any(isinstance(part, RECURRENT) for part in self.module.modules()):
            return False
        conduct = self.conduct
        return not (conduct.random or conduct.always or conduct.local) and self._agrees(self.vmap)
