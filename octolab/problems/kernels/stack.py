"""Tensors of K clients that pass for one client's: a module called with them computes all clients at once.

A user's `forward` runs unchanged. Each torch function in it that meets a `Stack` is looked up by name in the rules
(`arithmetic`, `layers`), which compute it for all clients in few large calls; `torch.vmap` takes over where
there is no rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Function = Callable[..., Any]  # one of torch's
Rule = Callable[..., object]
RULES: dict[str, Rule] = {}  # by the function's name: rule(function, *args, **kwargs)


class Unstackable(RuntimeError):
    """What clients cannot compute side by side: a value that Python wants to know, a layout without a rule."""


class Stack(torch.Tensor):
    """K tensors of one shape. It shows the shape of one of them.

    value: (K, *shape); where `images`, (B, K C, H, W) for the shape (B, C, H, W): convolutions, pooling and norms are then
    one call for all clients.
    """

    value: torch.Tensor
    images: bool
    clients: int

    @staticmethod
    def __new__(cls, value: torch.Tensor, clients: int = 0) -> Stack:
        """clients: how many images lie side by side in the channels; 0: value has the clients first."""
        shape = value.shape[1:]
        if clients:
            shape = torch.Size((len(value), value.shape[1] // clients, *value.shape[2:]))
        made = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=value.dtype)  # type: ignore[attr-defined]
        made.value, made.images, made.clients = value, clients > 0, clients or len(value)
        return made  # type: ignore[no-any-return]

    def __init__(self, value: torch.Tensor, clients: int = 0):
        pass

    @property
    def rows(self) -> torch.Tensor:
        """(K, *shape)."""
        if not self.images:
            return self.value
        B, _, *space = self.value.shape
        return _LaidBack.apply(self.value).view(B, self.clients, -1, *space).transpose(0, 1)

    def lie(self, value: torch.Tensor) -> None:
        """Hold (K, *shape) from now on."""
        self.value, self.images = value, False

    def beside(self) -> torch.Tensor:
        """(B, K C, ...): the clients side by side in the second dimension; new images lie channels last in memory."""
        if self.images:
            return self.value
        wide = self.value.transpose(0, 1).flatten(1, 2)
        return wide.contiguous(memory_format=torch.channels_last) if wide.dim() == 4 else wide

    @classmethod
    def __torch_function__(
        cls, func: Function, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        name = getattr(func, "__name__", "")
        if name == "__get__":  # a property of tensors
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        rule = RULES.get(name)
        if rule is not None:
            done = rule(func, *args, **(kwargs or {}))
            if done is not NotImplemented:
                return done
        return one_by_one(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Function, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        raise Unstackable(f"{func} got past the rules.")


def order(images: torch.Tensor) -> torch.memory_format:
    """How images lie in memory: channels last or first."""
    return torch.contiguous_format if images.is_contiguous() else torch.channels_last


class _LaidBack(torch.autograd.Function):
    """Images as they are. Their gradient lies in memory as they do: mixed layouts make a ReLU five times as slow."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor) -> torch.Tensor:
        ctx.format = order(images)
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return slope.contiguous(memory_format=ctx.format)


def one_by_one(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """The function for each client alone, by torch.vmap; what it changes in place lies in rows from then on."""
    from torch.func import vmap
    from torch.utils._pytree import tree_flatten, tree_unflatten

    flat, tree = tree_flatten((args, kwargs))
    places = [at for at, value in enumerate(flat) if isinstance(value, Stack)]
    if getattr(func, "__name__", "_").endswith("_") and places:
        for at in places:
            flat[at].lie(flat[at].rows)

    def call(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for at, value in zip(places, values, strict=True):
            given[at] = value
        own_args, own_kwargs = tree_unflatten(given, tree)
        out = func(*own_args, **own_kwargs)
        parts, shape.spec = tree_flatten(out)
        if not parts or not all(isinstance(part, torch.Tensor) for part in parts):
            raise Unstackable(f"{func} gives what is no tensor.")
        return tuple(parts)

    given, shape = list(flat), _Shape()
    parts = vmap(call)(*(flat[at].rows for at in places))
    return tree_unflatten([Stack(part) for part in parts], shape.spec)


class _Shape:
    """How a function's outputs are nested."""

    spec: Any = None
