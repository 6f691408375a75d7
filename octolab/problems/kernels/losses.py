"""Losses: one number per sample, of which a client's objective is the mean, and how outputs and targets must fit."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F

from octolab.problems.kernels.given_loss import FAMILIES, Function, Given, read


class Loss:
    """`loss(outputs, targets, lead)`: one number per sample, averaged over whatever dimensions a sample has.

    outputs and targets carry `lead` sample dimensions: 1 is (B, ...), 2 is (K, B, ...). Made from "cross_entropy"
    (classes last, integer targets), "mse", a torch loss (its mean is taken apart, sample by sample), or a function of
    (outputs (B, ...), targets (B, ...)) that gives (B,), or one number: the mean over the samples.

    family: "classes" (scores and class numbers), "signs" (one score per yes-or-no target), "values" (targets shaped as
    outputs), or "own": a function of which nothing is known before `settle` has tried it.
    """

    averages = False  # the function gives the mean over its samples; seen by `settle`
    axis = -1  # where the classes lie: last, or 1 (torch's layout of segmentations)
    weighs = False  # samples count differently: class weights, or targets that are ignored
    _by_class = False  # a function of one's own whose outputs look like class scores
    _vmaps = True  # a function that averages can be taken apart by vmap

    def __init__(self, given: object, dtype: torch.dtype = torch.float32):
        self.given = given
        self._is: Given = read(given, dtype)
        self.family = self._is.family

    @property
    def function(self) -> Function:
        return self._is.function

    @property
    def identity(self) -> str:
        """What tells this loss from another: its kind, settings and tensors."""
        return self._is.identity

    @property
    def named(self) -> bool:
        """Whether its name says it all: one of torch's losses with nothing but defaults."""
        return self._is.default

    @property
    def threshold(self) -> float:
        """Above which one output says yes: 0 for scores, 0.5 for probabilities."""
        return self._is.threshold

    @property
    def plain(self) -> bool:
        """Whether it is cross entropy as everybody means it, which kernels know by heart."""
        return self._is.plain and self.axis == -1 and not self.weighs

    @property
    def judges(self) -> bool:
        """Whether outputs can be called right or wrong."""
        return self._answers in ("classes", "signs")

    @property
    def _answers(self) -> str:
        return "classes" if self._by_class else self.family

    # -- values ------------------------------------------------------------------------------------------------------
    def total(self, outputs: torch.Tensor, targets: torch.Tensor, share: Any, lead: int = 1) -> torch.Tensor:
        """The sum of share times loss over all samples, which is what gradients are of. share: a number, or per sample."""
        if not self.averages or not isinstance(share, float):
            return (self(outputs, targets, lead) * share).sum()
        mean = self.function(outputs.flatten(0, lead - 1), targets.flatten(0, lead - 1))
        return mean * (share * math.prod(targets.shape[:lead]))

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor, lead: int = 1) -> torch.Tensor:
        if self.plain and targets.dim() == 1:
            return F.cross_entropy(outputs, targets, reduction="none")
        shape = targets.shape[:lead]
        if self.family == "classes" and self.axis == -1 and not self._is.whole_samples:
            each = self.function(outputs.flatten(0, -2), targets.flatten()).view(targets.shape)
        else:
            function = self._one_by_one if self.averages else self.function
            each = function(outputs.flatten(0, lead - 1), targets.flatten(0, lead - 1))
            each = each.view(*shape, *each.shape[1:])
        if self.weighs:
            each = each.flatten(lead).sum(lead) if each.dim() > lead else each
            return each / self.mass(targets, lead).clamp(min=1e-30)
        if each.dim() == lead:
            return each
        return each.flatten(lead).sum(lead) if self._is.sums else each.flatten(lead).mean(lead)

    def mass(self, targets: torch.Tensor, lead: int = 1) -> torch.Tensor:
        """What each sample counts in torch's mean: the class weights of its targets that are not ignored."""
        heard = torch.ne(targets, _never(self._is.ignored))
        weight = self._is.weight
        counts = heard.to(self._is.dtype) if weight is None else weight[targets.clamp(min=0)] * heard
        return counts.flatten(lead).sum(lead) if counts.dim() > lead else counts

    def _one_by_one(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(B,) of a function that averages: the mean over each sample alone."""
        if not self._vmaps:
            pairs = zip(outputs.split(1), targets.split(1), strict=True)
            return torch.stack([self.function(o, t) for o, t in pairs])
        from torch.func import vmap

        return vmap(lambda o, t: self.function(o[None], t[None]))(outputs, targets)

    def hits(self, outputs: torch.Tensor, targets: torch.Tensor, lead: int = 1) -> torch.Tensor:
        """The share of right answers in each sample, float64; over its positions that are not ignored, where it has many."""
        if self._answers == "signs":
            right = (outputs > self._is.threshold) == (targets > 0.5)
        else:
            right = outputs.argmax(-1 if self.axis == -1 else lead) == targets
        if right.dim() == lead:
            return right.double()
        if not self.weighs:
            return right.double().flatten(lead).mean(lead)
        heard = torch.ne(targets, _never(self._is.ignored)).flatten(lead)
        return (right.flatten(lead) & heard).double().sum(lead) / heard.sum(lead).clamp(min=1)

    def answers(self, outputs: torch.Tensor) -> torch.Tensor:
        """What outputs (B, ...) say: class numbers, 0 or 1, or the outputs themselves."""
        if self._answers == "signs":
            said = (outputs > self._is.threshold).long()
            return said[:, 0] if said.dim() == 2 and said.shape[1] == 1 else said
        return outputs.argmax(self.axis) if self._answers == "classes" else outputs

    # -- what fits ---------------------------------------------------------------------------------------------------
    def fit(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The targets (N, ...) as this loss reads them beside outputs (B, ...); a ValueError in words if they do not fit."""
        if self.family == "classes":
            return self._fit_classes(outputs, targets)
        if self.family == "own":
            return targets.to(outputs.dtype) if targets.is_floating_point() else targets
        values = targets.to(outputs.dtype)
        if values.shape[1:] != outputs.shape[1:]:
            bare = [tuple(n for n in shape[1:] if n != 1) for shape in (values.shape, outputs.shape)]
            if bare[0] != bare[1]:
                raise ValueError(
                    f"The module gives {_shape(outputs)} for a sample and its target has {_shape(targets)}: "
                    f"{self._is.name} compares numbers one to one. Give targets of the outputs' shape."
                )
            values = values.reshape(len(values), *outputs.shape[1:])
        if self.family == "signs" and len(values) and not bool(((values >= 0) & (values <= 1)).all()):
            raise ValueError(
                f"{self._is.name} needs labels between 0 and 1; given were {values.min():.4g} to {values.max():.4g}. "
                "Labels of -1 and 1 become (y + 1) / 2."
            )
        return values

    def _fit_classes(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if outputs.dim() < 2:
            raise ValueError(
                f"The module gives {_shape(outputs)} for a sample: {self._is.name} needs one score per class. For one "
                "yes-or-no score use torch.nn.BCEWithLogitsLoss()."
            )
        if targets.is_floating_point():
            if not bool((targets == targets.round()).all()) or targets.shape[1:] == outputs.shape[1:]:
                raise ValueError(
                    f"The labels are real numbers of {_shape(targets)} each: {self._is.name} needs class numbers, whole and "
                    f"from 0 on{_one_hot(targets)}."
                )
            targets = targets.long()
        if targets.dim() == outputs.dim() == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        places = self._axes(outputs, targets)
        if not places:
            raise ValueError(
                f"The module gives {_shape(outputs)} for a sample and its label has {_shape(targets)}: {self._is.name} needs "
                f"one class number for each set of scores{_one_hot(targets)}."
            )
        if len(places) == 2 and outputs.dim() == 4 and not self._is.torchs_layout:
            raise ValueError(
                f"Scores of {_shape(outputs)} for labels of {_shape(targets)} can be read with the classes first or last: "
                "give torch.nn.CrossEntropyLoss(), which has them first, or a function of (outputs, targets)."
            )
        self.axis = places[0]
        self._check_range(outputs.shape[self.axis], targets)
        ignores = self._is.ignored is not None and bool((targets == self._is.ignored).any())
        self.weighs = self.weighs or self._is.weight is not None or ignores
        return targets

    def _axes(self, outputs: torch.Tensor, targets: torch.Tensor) -> list[int]:
        """Where the classes can lie, the likeliest first."""
        one, label = tuple(outputs.shape[1:]), tuple(targets.shape[1:])
        places = [-1] if one[:-1] == label else []
        if len(one) > 1 and one[1:] == label:
            places.insert(0 if self._is.torchs_layout else len(places), 1)
        return places

    def _check_range(self, classes: int, targets: torch.Tensor) -> None:
        heard = targets if self._is.ignored is None else targets[targets != self._is.ignored]
        if targets.numel() and not heard.numel():
            raise ValueError(
                f"All labels are {self._is.ignored}, which {self._is.name} ignores: there is nothing to learn."
            )
        if heard.numel() and (int(heard.min()) < 0 or int(heard.max()) >= classes):
            raise ValueError(
                f"labels run from {int(heard.min())} to {int(heard.max())}: cross entropy over {classes} scores needs "
                f"whole numbers 0..{classes - 1}."
            )

    # -- functions of one's own --------------------------------------------------------------------------------------
    def settle(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.dtype | None:
        """Try a given function on a few samples (B, ...): whether it averages, and the dtype its targets need (None: as
        they are). ValueError if it is neither one number per sample nor their mean.
        """
        if self.family != "own":
            return None
        wanted = self._dtype_for(outputs, targets)
        targets = targets if wanted is None else targets.to(wanted)
        whole = self.function(outputs, targets)
        alone = self._alone(outputs, targets)
        if whole.dim() == 0:
            self._check_mean(whole, outputs, targets, alone)
            self.averages, self._vmaps = True, self._vmap_works(outputs, targets)
        else:
            self._check_each(whole, outputs, targets, alone)
        if wanted is None and self._looks_like_classes(outputs, targets):
            self._by_class = True
        return wanted

    def _dtype_for(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.dtype | None:
        """Whole numbers stay whole where the function takes them, value and gradient; else they become real."""
        kinds = [None, outputs.dtype] if not targets.is_floating_point() else [None]
        for kind in kinds:
            with torch.enable_grad():
                leaf = outputs.detach().requires_grad_()
                try:
                    value = self.function(leaf, targets if kind is None else targets.to(kind))
                    if not isinstance(value, torch.Tensor):
                        raise TypeError(f"it gave a {type(value).__name__}, no tensor")
                    if not value.requires_grad:
                        raise TypeError("its value does not depend on the outputs in a way that autograd follows")
                    torch.autograd.grad(value.sum(), leaf, allow_unused=True)
                    return kind
                except (RuntimeError, TypeError, IndexError, ValueError) as error:
                    if kind is kinds[-1]:
                        raise ValueError(
                            f"The loss cannot take outputs of {_shape(outputs)} and targets of {_shape(targets)} "
                            f"({targets.dtype}) for a sample: {error}"
                        ) from error
        raise AssertionError

    def _alone(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(B,) the loss of each sample when nothing is beside it."""
        pairs = zip(outputs.split(1), targets.split(1), strict=True)
        return torch.stack([self.function(o, t).double().mean() for o, t in pairs])

    def _check_mean(
        self, whole: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor, alone: torch.Tensor
    ) -> None:
        if _close(whole, alone.mean()):
            return
        twice = self.function(torch.cat([outputs, outputs]), torch.cat([targets, targets]))
        why = ""
        if _close(twice, 2 * whole.double()):
            why = " (twice the samples give twice the value: it adds up)"
        elif outputs.shape[1:] != targets.shape[1:] and targets.is_floating_point():
            why = f" (outputs of {_shape(outputs)} meet targets of {_shape(targets)}: does it pair everybody with everybody?)"
        raise ValueError(
            f"The loss gave {float(whole):.6g} for {len(alone)} samples, whose own losses have the mean "
            f"{float(alone.mean()):.6g}{why}: it must give one number per sample, or their mean. Take off its "
            "reduction, e.g. reduction='none'."
        )

    def _check_each(
        self, whole: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor, alone: torch.Tensor
    ) -> None:
        if len(whole) != len(outputs):
            raise ValueError(
                f"The loss gave shape {tuple(whole.shape)} for {len(outputs)} samples: it must give one number per "
                "sample. Take off its reduction, e.g. reduction='none'."
            )
        if not _close(whole.double().flatten(1).mean(1) if whole.dim() > 1 else whole, alone):
            raise ValueError(
                f"The loss of a sample depends on the samples beside it (outputs of {_shape(outputs)}, targets of "
                f"{_shape(targets)}): it must give each sample's own. Compare numbers of equal shape."
            )

    def _vmap_works(self, outputs: torch.Tensor, targets: torch.Tensor) -> bool:
        try:
            self._vmaps = True
            return _close(self._one_by_one(outputs, targets), self._alone(outputs, targets))
        except (RuntimeError, ValueError):
            return False

    def _looks_like_classes(self, outputs: torch.Tensor, targets: torch.Tensor) -> bool:
        """Whole numbers below the number of scores in each row: then the highest score is the answer."""
        if targets.is_floating_point() or outputs.dim() != targets.dim() + 1 or outputs.shape[-1] < 2:
            return False
        return (
            outputs.shape[1:-1] == targets.shape[1:]
            and int(targets.min()) >= 0
            and int(targets.max()) < outputs.shape[-1]
        )


def _never(ignored: int | None) -> int:
    return -100 if ignored is None else ignored


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-6, equal_nan=True)


def _shape(samples: torch.Tensor) -> str:
    return f"shape {tuple(samples.shape[1:])}"


def _one_hot(targets: torch.Tensor) -> str:
    """Advice where labels look like rows of a unit matrix."""
    if targets.dim() == 2 and targets.shape[1] > 1 and bool((targets.sum(1) == 1).all()):
        return "; these look one-hot: give y.argmax(1)"
    return ""


__all__ = ["FAMILIES", "Loss"]
