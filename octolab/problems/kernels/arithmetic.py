"""How torch's functions of numbers and shapes are computed for all clients of a `Stack` at once.

A rule that does not fit a call returns NotImplemented; what it gives is what the function gives for each client, which
a probe compares for every module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, overload

import torch

from octolab.problems.kernels.stack import RULES, Function, Rule, Stack, order

if TYPE_CHECKING:
    from typing_extensions import TypeIs

ELEMENTWISE = (
    "add sub subtract mul multiply div divide true_divide rsub pow neg abs exp log "
    "log1p expm1 sqrt rsqrt square reciprocal sin cos tanh sigmoid relu relu6 gelu silu "
    "elu selu celu leaky_relu softplus hardtanh hardswish hardsigmoid mish logsigmoid erf clamp clamp_min clamp_max "
    "clip maximum minimum where eq ne lt le gt ge logical_not logical_and logical_or masked_fill "
    "lerp addcmul addcdiv sign floor round atan softsign tanhshrink nan_to_num to float double long "
    "int bool type type_as contiguous clone detach data zeros_like ones_like __add__ __radd__ __sub__ __rsub__ "
    "__mul__ __rmul__ __truediv__ __rtruediv__ __div__ __rdiv__ __pow__ __rpow__ __neg__ __eq__ __ne__ __lt__ __le__ __gt__ "
    "__ge__ __and__ __or__ __invert__ "
)
IN_PLACE = (
    "add_ sub_ mul_ div_ relu_ clamp_ tanh_ sigmoid_ copy_ zero_ fill_ lerp_ __iadd__ __isub__ __imul__ __itruediv__"
)
META = (
    "shape dtype device layout ndim is_leaf is_sparse is_cuda is_nested is_quantized is_mkldnn size dim ndimension numel "
    "is_floating_point is_complex stride __len__"
)
PLAIN = "new_zeros new_ones new_full new_empty new_tensor"  # tensors of nobody's


def rule(*names: str) -> Callable[[Rule], Rule]:
    def keep(function: Rule) -> Rule:
        RULES.update({one: function for name in names for one in name.split()})
        return function

    return keep


def stacked(value: object) -> TypeIs[Stack]:
    return isinstance(value, Stack)


# -- what is the same for every number -----------------------------------------------------------------------------------
@rule(META)
def meta(func: Function, x: Stack, *args: object, **kwargs: object) -> object:
    with torch._C.DisableTorchFunctionSubclass():
        return func(x, *args, **kwargs)


@rule("requires_grad")
def requires_grad(func: Function, x: Stack) -> bool:
    return x.value.requires_grad


@rule(PLAIN)
def plain(func: Function, x: Stack, *args: object, **kwargs: object) -> object:
    return func(x.value, *args, **kwargs)


@rule(ELEMENTWISE)
def elementwise(func: Function, *args: object, **kwargs: object) -> object:
    tensors = [a for a in args if isinstance(a, torch.Tensor)]
    if any(isinstance(v, torch.Tensor) for v in kwargs.values()):
        return NotImplemented
    clients = side_by_side(tensors)
    if clients:
        return Stack(func(*(a.beside() if isinstance(a, Stack) else a for a in args), **kwargs), clients)
    rank = max(t.dim() for t in tensors)
    return Stack(func(*(aligned(a, rank) for a in args), **kwargs))


def side_by_side(tensors: Sequence[torch.Tensor]) -> int:
    """How many clients' images meet, where they can stay side by side in the channels; else 0."""
    images = next((t for t in tensors if isinstance(t, Stack) and t.images), None)
    fit = images is not None and all(
        isinstance(t, Stack) and t.dim() == 4 and t.shape[1] == images.shape[1] for t in tensors
    )
    return images.clients if images is not None and fit else 0


@overload
def aligned(value: torch.Tensor, rank: int) -> torch.Tensor: ...
@overload
def aligned(value: None, rank: int) -> None: ...
@overload
def aligned(value: torch.Tensor | None, rank: int) -> torch.Tensor | None: ...
@overload
def aligned(value: object, rank: int) -> object: ...
def aligned(value: object, rank: int) -> object:
    """The rows of a stack with ones before its shape, so that they broadcast against others of this rank."""
    if not isinstance(value, Stack):
        return value
    rows, missing = value.rows, rank - value.dim()
    return rows if missing == 0 else rows.view(len(rows), *[1] * missing, *value.shape)


@rule(IN_PLACE)
def in_place(func: Function, x: Any, *args: object, **kwargs: object) -> object:
    tensors = [a for a in args if isinstance(a, torch.Tensor)]
    if not isinstance(x, Stack) or kwargs or any(t.dim() > x.dim() for t in tensors):
        return NotImplemented
    if x.images and side_by_side(tensors):
        func(x.value, *(a.beside() if isinstance(a, Stack) else a for a in args))
        return x
    if x.images:
        x.lie(x.rows)
    func(x.value, *(aligned(a, x.dim()) for a in args))
    return x


# -- shapes and sums -----------------------------------------------------------------------------------------------------
def after(dim: int) -> int:
    """A dimension of one client's tensor as one of the rows."""
    return dim + 1 if dim >= 0 else dim


def numbers(given: tuple[Any, ...]) -> tuple[int, ...]:
    """Whole numbers that were given one by one, or as one sequence."""
    return tuple(given[0]) if len(given) == 1 and isinstance(given[0], Sequence) else given


@rule("mean sum amax amin softmax log_softmax cumsum logsumexp argmax var std norm")
def over(func: Function, x: Stack, dim: Any = None, *args: object, **kwargs: object) -> object:
    if dim is None or not isinstance(dim, (int, tuple, list)) or isinstance(dim, bool):
        return NotImplemented
    if func.__name__ == "norm" or any(isinstance(v, torch.Tensor) for v in (*args, *kwargs.values())):
        return NotImplemented
    dims = [dim] if isinstance(dim, int) else list(dim)
    if (
        x.images
        and func.__name__ == "mean"
        and not args
        and set(kwargs) <= {"keepdim"}
        and {d % 4 for d in dims} == {2, 3}
    ):
        mean = image_means(x)
        return Stack(mean[..., None, None]) if kwargs.get("keepdim") else Stack(mean)
    return Stack(func(x.rows, [after(d) for d in dims] if isinstance(dim, Sequence) else after(dim), *args, **kwargs))


def image_means(x: Stack) -> torch.Tensor:
    """(K, B, C), summed as images lie in memory, so that the gradient lies so, too."""
    last = order(x.value) is torch.channels_last
    wide = x.value.permute(0, 2, 3, 1).flatten(1, 2).mean(1) if last else x.value.mean((2, 3))
    return wide.view(len(wide), x.clients, -1).transpose(0, 1)


@rule("view reshape")
def reshape(func: Function, x: Stack, *shape: Any) -> object:
    sizes, rows = numbers(shape), x.rows
    return Stack(rows.reshape(len(rows), *sizes)) if all(isinstance(n, int) for n in sizes) else NotImplemented


@rule("flatten")
def flatten(func: Function, x: Stack, start_dim: int = 0, end_dim: int = -1) -> object:
    return Stack(x.rows.flatten(after(start_dim), after(end_dim))) if x.dim() else NotImplemented


@rule(
    "transpose",
    "swapaxes",
    "unflatten",
    "movedim",
    "select",
    "narrow",
    "roll",
    "flip",
    "chunk",
    "split",
    "tensor_split",
)
def along(func: Function, x: Stack, *args: Any, **kwargs: Any) -> object:
    """Functions of numbers of which some are dimensions."""
    name, found = func.__name__, {"chunk": (1,), "split": (1,), "tensor_split": (1,), "roll": (1,)}
    if kwargs and not (set(kwargs) == {"dim"} and name in found):
        return NotImplemented
    values = [*args, kwargs["dim"]] if kwargs else list(args)
    if name in found and len(values) == 1:
        values.append(0)
    places = found.get(name, (0, 1) if name in ("transpose", "swapaxes", "movedim") else (0,))
    if len(values) <= max(places):
        return NotImplemented
    for at in places:
        values[at] = after(values[at])
    done = func(x.rows, *values)
    return tuple(Stack(part) for part in done) if isinstance(done, (tuple, list)) else Stack(done)


@rule("permute")
def permute(func: Function, x: Stack, *dims: Any) -> object:
    return Stack(x.rows.permute(0, *(d % x.dim() + 1 for d in numbers(dims))))


@rule("T mT t")
def turned(func: Function, x: Stack) -> object:
    return Stack(x.rows.mT) if x.dim() == 2 or (x.dim() > 2 and func.__name__ == "__get__") else NotImplemented


@rule("unsqueeze")
def unsqueeze(func: Function, x: Stack, dim: int) -> object:
    return Stack(x.rows.unsqueeze(after(dim)))


@rule("squeeze")
def squeeze(func: Function, x: Stack, dim: object = None) -> object:
    return Stack(x.rows.squeeze(after(dim))) if isinstance(dim, int) else NotImplemented


@rule("expand")
def expand(func: Function, x: Stack, *shape: Any) -> object:
    sizes = numbers(shape)
    return Stack(aligned(x, len(sizes)).expand(x.clients, *sizes))


@rule("__getitem__")
def getitem(func: Function, x: Any, index: Any) -> object:
    index = index if isinstance(index, tuple) else (index,)
    if not isinstance(x, Stack) or not all(i is None or i is ... or isinstance(i, (int, slice)) for i in index):
        return NotImplemented
    return Stack(x.rows[(slice(None), *index)])


@rule("cat concat stack")
def joined(func: Function, parts: Any, dim: int = 0) -> object:
    known = next(part for part in parts if isinstance(part, Stack))
    if func.__name__ != "stack" and dim == 1 and all(isinstance(p, Stack) and p.images for p in parts):
        B, _, *space = known.value.shape
        apart = [p.value.view(B, p.clients, -1, *space) for p in parts]
        wide = torch.cat(apart, 2).flatten(1, 2)
        return Stack(wide.contiguous(memory_format=torch.channels_last), known.clients)
    rows = [p.rows if isinstance(p, Stack) else p.expand(known.clients, *p.shape) for p in parts]
    return Stack(func(rows, after(dim)))
