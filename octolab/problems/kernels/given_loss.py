"""What was given as a loss: its family, its function per sample, what its samples count, and its identity."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from octolab.errors import AssumptionWarning
from octolab.problems.identity import identity

Function = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

FAMILIES: dict[type[nn.Module], str] = {
    nn.CrossEntropyLoss: "classes",
    nn.NLLLoss: "classes",
    nn.MultiMarginLoss: "classes",
    nn.BCEWithLogitsLoss: "signs",
    nn.BCELoss: "signs",
    nn.MultiLabelSoftMarginLoss: "signs",
    nn.MSELoss: "values",
    nn.L1Loss: "values",
    nn.SmoothL1Loss: "values",
    nn.HuberLoss: "values",
    nn.PoissonNLLLoss: "values",
    nn.KLDivLoss: "values",
}
FUNCTIONS: dict[Any, type[nn.Module]] = {
    F.cross_entropy: nn.CrossEntropyLoss,
    F.nll_loss: nn.NLLLoss,
    F.multi_margin_loss: nn.MultiMarginLoss,
    F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    F.binary_cross_entropy: nn.BCELoss,
    F.multilabel_soft_margin_loss: nn.MultiLabelSoftMarginLoss,
    F.mse_loss: nn.MSELoss,
    F.l1_loss: nn.L1Loss,
    F.smooth_l1_loss: nn.SmoothL1Loss,
    F.huber_loss: nn.HuberLoss,
    F.poisson_nll_loss: nn.PoissonNLLLoss,
    F.kl_div: nn.KLDivLoss,
}
NAMES = {"cross_entropy": nn.CrossEntropyLoss, "cross-entropy": nn.CrossEntropyLoss, "mse": nn.MSELoss}


@dataclass(frozen=True)
class Given:
    """A loss as it was read.

    whole_samples: the function wants (B, C) and (B,), never a longer row of positions. sums: a sample's loss is the sum
    of its elements (KLDivLoss's "batchmean"), not their mean. weight, ignored: of classes in torch's weighted mean.
    """

    name: str
    family: str
    function: Function
    identity: str
    dtype: torch.dtype
    plain: bool = False
    torchs_layout: bool = True
    whole_samples: bool = False
    sums: bool = False
    threshold: float = 0.0
    weight: torch.Tensor | None = None
    ignored: int | None = None
    default: bool = False


def read(given: object, dtype: torch.dtype) -> Given:
    """ValueError, in words, for what is no loss, or one that adds up over the samples."""
    if isinstance(given, str) and given in NAMES:
        return _of_torch(NAMES[given](), dtype, torchs_layout=False)
    module = _as_module(given)
    if module is not None and getattr(module, "reduction", "mean") == "sum":
        raise ValueError(
            f"{type(module).__name__}(reduction='sum') adds up over the samples: f_i is the mean over a client's samples. "
            "Leave reduction at 'mean'; a factor belongs into the step size."
        )
    if module is not None:
        _warn_of_parameters(module)
        module = copy.deepcopy(module).to(dtype).requires_grad_(False)
        if type(module) in FAMILIES:
            return _of_torch(module, dtype)
        bare = module
        if getattr(module, "reduction", None) == "mean":
            bare = copy.copy(module)
            bare.reduction = "none"  # type: ignore[assignment]
        function: Function = _Undone(bare, module) if bare is not module else module
        return Given(type(module).__name__, "own", function, identity(module), dtype)
    if callable(given):
        name = getattr(given, "__name__", type(given).__name__)
        return Given(name, "own", _followed(given, dtype), identity(given), dtype)
    raise ValueError(
        f"loss={given!r}: give 'cross_entropy', 'mse', a torch loss, or a function of (outputs, targets) that gives one "
        f"number per sample, or their mean."
    )


class _Undone:
    """A loss module whose mean was taken off: one number per sample, if that is what `reduction` does to it."""

    def __init__(self, bare: nn.Module, whole: nn.Module):
        self.bare, self.whole = bare, whole

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        each = self.bare(outputs, targets)
        return each if each.dim() and len(each) == len(outputs) else self.whole(outputs, targets)


def _as_module(given: object) -> nn.Module | None:
    """torch's functional losses, also with arguments bound by functools.partial, are their modules."""
    if isinstance(given, nn.Module):
        return given
    if isinstance(given, functools.partial) and not given.args and given.func in FUNCTIONS:
        try:
            return FUNCTIONS[given.func](**given.keywords)
        except TypeError:
            return None
    try:
        return FUNCTIONS[given]() if given in FUNCTIONS else None
    except TypeError:  # what cannot be hashed
        return None


def _of_torch(module: nn.Module, dtype: torch.dtype, torchs_layout: bool = True) -> Given:
    """One of torch's own losses, its reduction taken off."""
    kind, sums = type(module), getattr(module, "reduction", "") == "batchmean"
    name, weight, ignored = identity(module), None, None
    bare = copy.deepcopy(module)
    bare.reduction = "none"  # type: ignore[assignment]
    if kind in (nn.CrossEntropyLoss, nn.NLLLoss):
        weight, ignored = bare.weight, bare.ignore_index
    smooth = getattr(module, "label_smoothing", 0.0)
    return Given(
        kind.__name__,
        FAMILIES[kind],
        bare,
        name,
        dtype,
        plain=kind is nn.CrossEntropyLoss and weight is None and smooth == 0,
        torchs_layout=torchs_layout,
        whole_samples=kind is nn.MultiMarginLoss,
        sums=sums,
        threshold=0.5 if kind is nn.BCELoss else 0.0,
        weight=weight,  # type: ignore[arg-type]
        ignored=ignored,  # type: ignore[arg-type]
        default=name == identity(kind()),
    )


def _followed(given: Any, dtype: torch.dtype) -> Function:
    """Real tensors bound by functools.partial follow the problem's dtype."""
    if not isinstance(given, functools.partial):
        return given  # type: ignore[no-any-return]
    cast = lambda v: v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v  # noqa: E731
    return functools.partial(given.func, *map(cast, given.args), **{k: cast(v) for k, v in given.keywords.items()})


def _warn_of_parameters(module: nn.Module) -> None:
    own = [name for name, p in module.named_parameters() if p.requires_grad]
    if own:
        warnings.warn(
            f"The loss {type(module).__name__} has parameters of its own ({', '.join(own)}): they stay as they are. To train "
            "them, make them parameters of the module.",
            AssumptionWarning,
            stacklevel=5,
        )
