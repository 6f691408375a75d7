"""What a torch module must be to train as many clients' models at once, and its data side by side."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from octolab.data.arrays import as_float, numbers, plain
from octolab.data.arrays import labels as given_labels
from octolab.errors import AssumptionWarning
from octolab.layers import Layer
from octolab.problems.kernels import attention
from octolab.problems.kernels.dropout import address
from octolab.problems.kernels.general import seeded, set_mode
from octolab.problems.kernels.kernel import trained_parameters

BATCHNORM = ("averaged", "local", "frozen", "batch")


def checked(module: nn.Module, batchnorm: str | None = None) -> nn.Module:
    """A copy of the module, in evaluation mode, ready for the kernels: dropout is addressed, batch normalisation follows
    its policy. ValueError for what is no module or has nothing to train.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"module={module!r}: give a torch.nn.Module, e.g. ol.problems.MLP(784, 64, 10).")
    lazy = next((n for n, p in module.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)), None)
    if lazy is not None:
        raise ValueError(f"{type(module).__name__}.{lazy} has no shape yet: call the module once on a batch first.")
    if not any(p.requires_grad for p in module.parameters()):
        held = "only frozen parameters" if any(True for _ in module.parameters()) else "no parameters"
        raise ValueError(f"{type(module).__name__} has {held}: there is nothing to train.")
    _check_gradient_hooks(module)
    copied = _copy(module)
    attention.address(copied, len(address(copied)))
    _follow(copied, batchnorm)
    set_mode(copied, False)
    return copied


def _check_gradient_hooks(module: nn.Module) -> None:
    """A copied parameter has lost its hooks, so that a masked gradient would be whole again."""
    for name, p in module.named_parameters():
        if p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None):
            raise ValueError(
                f"{type(module).__name__}.{name} has a hook on its gradient, which copies of a module do not carry. Say it in "
                "the module: requires_grad_(False), w * mask in forward, torch.nn.utils.prune, or a parametrisation."
            )


def _copy(module: nn.Module) -> nn.Module:
    """A deep copy; tensors that were computed (a pruned weight, a normed one) are copied as values."""
    memo: dict[int, torch.Tensor] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    try:
        copied = copy.deepcopy(module, memo)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{type(module).__name__} cannot be copied: {error}") from error
    for p in copied.parameters():
        p.grad = None
    return copied


def _follow(module: nn.Module, policy: str | None) -> None:
    """Batch normalisation as the policy says; None: averaged, with a warning that names the others."""
    if policy is not None and policy not in BATCHNORM:
        raise ValueError(f"batchnorm={policy!r}: choose one of {', '.join(map(repr, BATCHNORM))}.")
    norms = batch_norms(module)
    if not norms:
        return
    for part in norms.values():
        if policy == "frozen":
            part._always_evaluates = True  # type: ignore[assignment]
        elif policy == "batch":
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None
        elif policy == "local" and part.affine:
            part.weight.requires_grad_(False)
            part.bias.requires_grad_(False)
    if policy is None:
        warnings.warn(
            f"{type(module).__name__} holds batch normalisation: its running statistics are averaged over the clients of a "
            "round, beside the model. Say batchnorm='averaged' if that is meant, or 'local' (FedBN: each client keeps its "
            "own), 'frozen' or 'batch'; ol.models.with_group_norm(module) needs no statistics at all.",
            AssumptionWarning,
            stacklevel=5,
        )


def dtype_of(module: object) -> torch.dtype:
    """float64 where all of a module's parameters are; else float32."""
    kinds = {p.dtype for p in module.parameters()} if isinstance(module, nn.Module) else set()
    return torch.float64 if kinds == {torch.float64} else torch.float32


def batch_norms(module: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The parts that normalise over a batch, by name."""
    return {name: part for name, part in module.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)}


def own_parameters(module: nn.Module, policy: str | None) -> tuple[str, ...]:
    """Names of the parameters that stay with each client: FedBN's scales and shifts."""
    if policy != "local":
        return ()
    return tuple(f"{n}.{q}" if n else q for n, p in batch_norms(module).items() if p.affine for q in ("weight", "bias"))


def named_layout(module: nn.Module) -> list[Layer]:
    """The flat model's pieces with their roles: conv (3 or more dimensions), embedding, head (last matrix),
    matrix, vector.
    """
    owners = {id(p): part for part in module.modules() for p in part.parameters(recurse=False)}
    named, at, layers = list(trained_parameters(module).items()), 0, []
    matrices = [name for name, p in named if p.dim() == 2 and not isinstance(owners[id(p)], nn.Embedding)]
    for name, p in named:
        if isinstance(owners[id(p)], nn.Embedding):
            role = "embedding"
        elif p.dim() == 2:
            role = "head" if name == matrices[-1] else "matrix"
        else:
            role = "conv" if p.dim() > 2 else "vector"
        layers.append(Layer(name, tuple(p.shape), role, at, at + p.numel()))
        at += p.numel()
    return layers


def together(
    features: Sequence[ArrayLike], labels: Sequence[ArrayLike], offsets: ArrayLike | None = None
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """All clients' samples in one tensor each, whole numbers as int64, and how many each client holds.

    offsets (n + 1,): features and labels are one array each, and client i holds rows offsets[i] to offsets[i + 1].
    """
    if offsets is not None:
        features, labels = _cut(features, labels, offsets)
    if len(features) == 0 or len(features) != len(labels):
        raise ValueError(
            f"features has {len(features)} clients and labels {len(labels)}: give one array per client each."
        )
    X = [numbers(a, f"Client {i}: the features") for i, a in enumerate(features)]
    Y = [given_labels(y, f"Client {i}: labels") for i, y in enumerate(labels)]
    for i, (a, y) in enumerate(zip(X, Y, strict=True)):
        if a.ndim < 1 or a.shape[1:] != X[0].shape[1:] or y.shape[:1] != a.shape[:1] or y.shape[1:] != Y[0].shape[1:]:
            raise ValueError(
                f"Client {i}: features {a.shape} and labels {y.shape} do not fit {X[0].shape} and {Y[0].shape}: give "
                "one label per sample."
            )
        if len(a) == 0:
            raise ValueError(f"Client {i} has no samples: leave it out, or use a split that gives every client some.")
    return as_tensor(np.concatenate(X)), as_tensor(np.concatenate(Y)), np.array([len(a) for a in X], dtype=np.int64)


def as_tensor(values: np.ndarray) -> torch.Tensor:
    """Real numbers as they are, whole ones and booleans as int64."""
    return torch.from_numpy(values if values.dtype.kind == "f" else values.astype(np.int64))


def suited(module: nn.Module, X: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The inputs as the module takes them: whole numbers stay whole and real ones real (in the problem's dtype) unless
    the module's first use of them demands the other. ValueError where neither works.
    """
    whole, errors = not X.is_floating_point(), []
    for as_whole in (whole, not whole):
        if as_whole and not whole and not bool((X.round() == X).all()):
            errors.append("as whole numbers: the inputs are real numbers, of which 0.7 would become 0")
            continue
        try:
            with torch.no_grad(), seeded(0):
                module(X[:2].to(torch.int64 if as_whole else dtype, copy=True))
            if whole and not as_whole:  # warns where different whole numbers would become one
                as_float(X.numpy(), torch.empty(0, dtype=dtype).numpy().dtype, "The features")
            return X.to(torch.int64 if as_whole else dtype)
        except (RuntimeError, IndexError, TypeError, ValueError, AssertionError) as error:
            errors.append(
                f"{'as whole numbers' if as_whole else 'as real numbers'}: {str(error).splitlines()[0][:200]}"
            )
    raise ValueError(
        f"{type(module).__name__} cannot take these data: one input has shape {tuple(X.shape[1:])}. torch says, "
        f"{'; '.join(errors)}."
    )


def _cut(features: object, labels: object, offsets: ArrayLike) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Concatenated samples as views, one per client."""
    X, Y, cuts = plain(features, "The features"), plain(labels, "The labels"), np.asarray(offsets)
    if cuts.ndim != 1 or len(cuts) < 2 or cuts.dtype.kind not in "iu" or (np.diff(cuts.astype(np.int64)) < 0).any():
        raise ValueError(
            f"offsets has shape {cuts.shape} and dtype {cuts.dtype}: give n + 1 whole numbers that do not fall, client "
            "i holding the rows offsets[i] to offsets[i + 1]."
        )
    if len(X) != len(Y) or cuts[0] != 0 or cuts[-1] != len(X):
        raise ValueError(
            f"features has {len(X)} rows, labels {len(Y)}, and offsets run from {cuts[0]} to {cuts[-1]}: with offsets, "
            "give one array of each, equally long, and cut it from 0 to its end."
        )
    return np.split(X, cuts[1:-1]), np.split(Y, cuts[1:-1])


def products(module: nn.Module, sample: torch.Tensor) -> int:
    """Multiplications of the linear layers and convolutions for an input (1, ...), forwards."""
    total = 0

    def count(part: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        weight: torch.Tensor = part.weight  # type: ignore[assignment]
        channel = 1 if weight.dim() > 2 else -1  # where the outputs of one position lie
        total += weight.numel() * output.numel() // output.shape[channel]

    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    hooks = [p.register_forward_hook(count) for p in module.modules() if isinstance(p, kinds)]
    try:
        with torch.no_grad(), seeded(0):
            module(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return total
