"""Which kernel serves a cohort: the fastest that was shown to equal plain autograd on this module and these data."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import nn

from octolab.problems.kernels import Batched, Conduct, Kernel, Loss, OneByOne, choose
from octolab.problems.kernels.freed import keep_freed
from octolab.problems.kernels.probe import agrees
from octolab.problems.modules import products

# Where clients side by side beat a loop (measured, `python -m benchmarks w1`): from how many on (from two, where a module
# has a dozen tensors, and as many calls to share), up to how many parameters per tensor, since small products of large
# matrices are slow, and up to how many multiplications a client's step.
MANY, DEEP, PARAMETERS, PRODUCTS = 3, 12, 2**15, 2**27


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
        keep_freed()
        sample = tuple(data[0].shape[1:])
        self.module, self.conduct, self._data, self._x0, self._kept = module, conduct, data, x0, kept
        self.loop = OneByOne(module, loss, sample, conduct)
        self.batched = Batched(module, loss, sample, conduct)
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
        enough = m >= MANY or (m == 2 and len(self.loop.names) >= DEEP)
        return self.batched if enough and self._light(samples) and self._batched_works else self.loop

    def _light(self, samples: int) -> bool:
        """Whether a client's step is so light that calling torch costs as much as computing."""
        return len(self._x0) <= len(self.loop.names) * PARAMETERS and samples * self._products <= PRODUCTS

    @cached_property
    def _products(self) -> int:
        """Multiplications that one sample takes, forwards."""
        some = self._data[0][:2]  # two, for modules that normalise a batch by its own statistics
        return products(self.module, some) // len(some)

    @cached_property
    def _batched_works(self) -> bool:
        """Whether clients can be computed side by side, and it gives what the loop gives; tried once, when first wanted."""
        return not (self.conduct.random or self.conduct.always) and self._agrees(self.batched)
