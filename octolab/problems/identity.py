"""What tells one loss, module or function from another, so that a run goes on only with what it began with."""

from __future__ import annotations

import functools
import hashlib
from types import CodeType, FunctionType

import numpy as np
import torch
from torch import nn

PLAIN = (str, int, float, bool, complex, bytes, type(None), torch.dtype)


def identity(thing: object, trained: frozenset[str] = frozenset()) -> str:
    """16 hex digits of all that decides what `thing` computes: kind, settings, tensors, the code of functions.

    trained: names of a module's parameters and buffers whose values do not count, since they are where training starts.
    """
    sha = hashlib.sha256()
    for word in _words(thing, trained, 0):
        sha.update(word.encode() + b"\0")
    return sha.hexdigest()[:16]


def name_of(thing: object) -> str:
    """A name for what a spec cannot hold: the class of a module, the name of a function."""
    return thing if isinstance(thing, str) else str(getattr(thing, "__name__", type(thing).__name__))


def _words(thing: object, trained: frozenset[str], depth: int) -> list[str]:
    if depth > 12:
        return [type(thing).__qualname__]
    if isinstance(thing, PLAIN):
        return [repr(thing)]
    if isinstance(thing, nn.Module):
        return _of_module(thing, trained, depth)
    if isinstance(thing, (torch.Tensor, np.ndarray)):
        return [_of_array(thing)]
    if isinstance(thing, functools.partial):
        return [
            "partial",
            *_words(thing.func, trained, depth + 1),
            *_words([thing.args, thing.keywords], trained, depth + 1),
        ]
    if isinstance(thing, FunctionType):
        held = [cell.cell_contents for cell in thing.__closure__ or () if not _empty(cell)]
        return [thing.__qualname__, *_of_code(thing.__code__), *_words([thing.__defaults__, held], trained, depth + 1)]
    if isinstance(thing, dict):
        return ["{", *(w for k in thing for w in (str(k), *_words(thing[k], trained, depth + 1))), "}"]
    if isinstance(thing, (list, tuple)):
        return ["[", *(w for item in thing for w in _words(item, trained, depth + 1)), "]"]
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    inside = getattr(thing, "__dict__", None)
    return (
        [name, *_words(dict(inside), trained, depth + 1)]
        if isinstance(inside, dict) and inside and name != "type"
        else [name]
    )


def _of_module(module: nn.Module, trained: frozenset[str], depth: int) -> list[str]:
    """Its class, its code, its settings, its layers in order, the tensors that are not trained, its hooks."""
    words = [type(module).__qualname__, *_of_code(getattr(type(module).forward, "__code__", None))]
    words += [
        f"{k}={w}" for k, v in sorted(vars(module).items()) if _is_setting(k, v) for w in _words(v, trained, depth + 1)
    ]
    for name, child in module.named_children():
        inner = frozenset(t.removeprefix(name + ".") for t in trained if t.startswith(name + "."))
        words += [name, *_of_module(child, inner, depth + 1)]
    for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        words.append(f"{name}: {tuple(tensor.shape) if name in trained else _of_array(tensor)}")
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        words += [w for hook in hooks.values() for w in _words(hook, trained, depth + 1)]
    return words


def _is_setting(name: str, value: object) -> bool:
    return not name.startswith("_") and name != "training" and isinstance(value, (*PLAIN, tuple, list, FunctionType))


def _of_code(code: CodeType | None) -> list[str]:
    if code is None:
        return []
    constants = [c for c in code.co_consts if isinstance(c, (*PLAIN, tuple))]
    inner = [w for c in code.co_consts if isinstance(c, CodeType) for w in _of_code(c)]
    return [code.co_code.hex(), repr(code.co_names), repr(constants), *inner]


def _of_array(array: torch.Tensor | np.ndarray) -> str:
    a = array.detach().cpu() if isinstance(array, torch.Tensor) else array
    a = a.float().numpy() if isinstance(a, torch.Tensor) and a.dtype == torch.bfloat16 else np.asarray(a)
    return f"{a.shape} {a.dtype.str} {hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()[:16]}"


def _empty(cell: object) -> bool:
    try:
        cell.cell_contents  # type: ignore[attr-defined]  # noqa: B018
    except ValueError:
        return True
    return False
