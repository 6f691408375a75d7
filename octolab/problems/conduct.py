"""What a module does when it is called: found out by calling it a few times on a few samples, once per problem."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import nn

from octolab.errors import AssumptionWarning
from octolab.problems.kernels.dropout import Dropout
from octolab.problems.kernels.general import seeded, set_mode
from octolab.problems.kernels.kernel import Conduct

FEW = 4


def few(samples: torch.Tensor) -> torch.Tensor:
    """FEW of the samples (N, ...), spread over all; repeated where there are fewer."""
    return samples[torch.linspace(0, len(samples) - 1, FEW).long()]


def observe(module: nn.Module, samples: torch.Tensor, local: tuple[str, ...] = ()) -> Conduct:
    """The conduct of a module on samples (N, ...). ValueError, in words, where its outputs are no rows of numbers.

    local: parameters that are to stay with each client.
    """
    subject, x = _Subject(copy.deepcopy(module)), few(samples)
    others = torch.cat([x[:1], x[1:2].expand(FEW - 1, *x.shape[1:])])  # the first sample in other company
    calm, drew, moved_calm = subject.call(x, False)
    _check(module, calm)
    calm_apart, _, _ = subject.call(others, False)
    trained, drew_training, moved = subject.call(x, True)
    trained_apart, _, _ = subject.call(others, True)
    again, _, _ = subject.call(x, True)
    if not torch.equal(again, trained):
        warnings.warn(
            f"{type(module).__name__} gives another output each time it is called on the same data with torch's generator at "
            "the same place: it draws from another source (NumPy, random, the clock). Runs will not be repeatable; draw "
            "from torch in forward.",
            AssumptionWarning,
            stacklevel=5,
        )
    if drew:
        warnings.warn(
            f"{type(module).__name__} is random also in evaluation mode (dropout without training=self.training?): it is "
            "evaluated with one fixed draw.",
            AssumptionWarning,
            stacklevel=5,
        )
    mixes = not _alike(calm[0], calm_apart[0]) or not _alike(trained[0], trained_apart[0])
    return Conduct(
        moving=tuple(sorted({*moved, *moved_calm}, key=[n for n, _ in module.named_buffers()].index)),
        random=drew_training,
        always=drew,
        mixes=mixes or _normalises_batches(module),
        mixes_always=not _alike(calm[0], calm_apart[0]),
        differs=not _alike(calm, trained),
        local=local,
    )


class _Subject:
    """A copy of the module on which calls leave no trace."""

    def __init__(self, module: nn.Module):
        self.module = module
        self.before = {name: b.detach().clone() for name, b in module.named_buffers()}

    def call(self, x: torch.Tensor, training: bool) -> tuple[torch.Tensor, bool, list[str]]:
        """The output, whether torch's generator was used, and which buffers moved."""
        set_mode(self.module, training)
        for part in self.module.modules():
            if isinstance(part, Dropout):
                part.begin(torch.tensor(1))
        with torch.no_grad(), seeded(0):
            start = torch.random.get_rng_state()
            given = x.clone()
            out = self.module(given)
            if not torch.equal(given.nan_to_num(), x.nan_to_num()):
                raise ValueError(
                    f"{type(self.module).__name__} changes its input in place, which spoils the data for the next step: write "
                    "x = x * 2 for x *= 2, and inplace=False in its first layer."
                )
            drew = not torch.equal(start, torch.random.get_rng_state())
            moved = [name for name, b in self.module.named_buffers() if self._has_moved(name, b)]
            for name in moved:
                _restore(self.module, name, self.before[name])
        return out, drew, [name for name in moved if not self._is_counter(name)]

    def _has_moved(self, name: str, now: torch.Tensor) -> bool:
        before = self.before.get(name)
        if before is None or before.shape != now.shape:
            raise ValueError(
                f"{type(self.module).__name__} makes or reshapes its buffer {name!r} when it is called: give buffers their "
                "final shape when the module is made."
            )
        return not torch.equal(before, now)

    def _is_counter(self, name: str) -> bool:
        """The number of batches that batch normalisation has seen, where nothing depends on it."""
        owner, _, last = name.rpartition(".")
        return last == "num_batches_tracked" and getattr(self.module.get_submodule(owner), "momentum", None) is not None


def _restore(module: nn.Module, name: str, value: torch.Tensor) -> None:
    owner, _, last = name.rpartition(".")
    module.get_submodule(owner)._buffers[last] = value.clone()


def _check(module: nn.Module, out: object) -> None:
    name = type(module).__name__
    if not isinstance(out, torch.Tensor):
        raise ValueError(
            f"{name} gives a {type(out).__name__}: its forward must give one tensor, the outputs. Wrap it in a module that "
            "picks them, e.g. out.logits or out[0]."
        )
    if out.dim() == 0 or len(out) != FEW:
        raise ValueError(
            f"{name} gives shape {tuple(out.shape)} for {FEW} samples: the first dimension of outputs must count samples."
        )
    if not out.is_floating_point():
        raise ValueError(f"{name} gives {out.dtype}: outputs must be real numbers that gradients can pass.")


def _normalises_batches(module: nn.Module) -> bool:
    kind = nn.modules.batchnorm._BatchNorm
    return any(isinstance(p, kind) and not getattr(p, "_always_evaluates", False) for p in module.modules())


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)
