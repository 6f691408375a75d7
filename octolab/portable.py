"""The exact mode: sums, products and elementary functions in one fixed order, the same on every instruction set.

    with portable(): ...       # torch's functions in this thread, and those problems that ask `on()`

What IEEE 754 rounds alike everywhere (a + b, a * b, a / b, square roots, comparisons, moves) stays torch's own. Sums,
products of matrices and exp, log and their kin are computed by NumPy's plain loops in place of vectorised kernels, whose
order and rounding depend on the instruction set. A function that is in neither list is refused in words.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from octolab.errors import OutsideAssumptions

__all__ = ["exp", "log", "on", "portable"]

_here = threading.local()
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # k * LN2_HIGH is exact for |k| < 2^20
INVERSE_FACTORIALS = tuple(float(1 / np.prod(np.arange(1.0, k + 1))) for k in range(13, -1, -1))
ODD = tuple(1.0 / k for k in range(23, 0, -2))


def on() -> bool:
    """Whether this thread computes portably now."""
    return getattr(_here, "depth", 0) > 0


@contextmanager
def portable() -> Iterator[None]:
    """Compute portably in this thread."""
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        if _here.depth > 1:
            yield
            return
        with _Portable():
            yield
    finally:
        _here.depth -= 1


# -- elementary functions --------------------------------------------------------------------------------------------------
def exp(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """e^x by 2^k times a polynomial: additions and products only. Within 2 units in the last place."""
    with np.errstate(all="ignore"):
        z = np.clip(x, -800.0, 800.0).astype(np.float64, copy=False)
        k = np.rint(z * 1.4426950408889634)
        r = z - k * LN2_HIGH - k * LN2_LOW
        p = np.full_like(r, INVERSE_FACTORIALS[0])
        for c in INVERSE_FACTORIALS[1:]:
            p *= r
            p += c
        made = np.ldexp(p, k.astype(np.int32)).astype(x.dtype, copy=False)
    if out is None:
        return made
    out[...] = made
    return out


def log(x: np.ndarray) -> np.ndarray:
    """The natural logarithm: 2 artanh((m - 1)/(m + 1)) of the mantissa, as a polynomial."""
    with np.errstate(all="ignore"):
        m, e = np.frexp(x.astype(np.float64, copy=False))
        low = m < 0.7071067811865476
        m, k = np.where(low, 2 * m, m), np.where(low, e - 1, e).astype(np.float64)
        s = (m - 1) / (m + 1)
        z, p = s * s, np.full_like(s, ODD[0])
        for c in ODD[1:]:
            p = p * z + c
        made = k * LN2_HIGH + (2 * s * p + k * LN2_LOW)
        made = np.where(x > 0, np.where(np.isinf(x), x, made), np.where(x == 0, -np.inf, np.nan))
    return np.asarray(made, dtype=x.dtype)


def _log1p(x: np.ndarray) -> np.ndarray:
    """log(1 + x), x >= 0."""
    with np.errstate(all="ignore"):
        u = 1 + x
        return np.where(u == 1, x, log(u) * (x / np.where(u == 1, 1, u - 1))).astype(x.dtype, copy=False)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(x, 0) + _log1p(exp(-np.abs(x))))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + exp(-x)))


# -- sums and products -----------------------------------------------------------------------------------------------------
def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b by einsum's plain loops, each client's numbers alone."""
    left = "i" if a.ndim > 1 else ""
    right = "j" if b.ndim > 1 else ""
    batch = "..." if max(a.ndim, b.ndim) > 2 else ""
    first = f"{batch if a.ndim > 2 else ''}{left}k"
    second = f"{batch if b.ndim > 2 else ''}k{right}"
    return np.asarray(np.einsum(f"{first},{second}->{batch}{left}{right}", a, b, optimize=False))


def _sum(t: np.ndarray, dim: Any = None, keepdim: bool = False) -> np.ndarray:
    axis = tuple(dim) if isinstance(dim, (tuple, list)) else dim
    total = np.add.reduce(t, axis=axis)
    return np.asarray(np.expand_dims(total, axis if axis is not None else tuple(range(t.ndim))) if keepdim else total)


def _mean(t: np.ndarray, dim: Any = None, keepdim: bool = False) -> np.ndarray:
    total = _sum(t, dim, keepdim)
    return np.asarray(total / (t.size / max(total.size, 1)), dtype=t.dtype)


def _norm(t: np.ndarray, p: Any = 2, dim: Any = None, keepdim: bool = False) -> np.ndarray:
    if p in (2, 2.0, None, "fro"):
        return np.asarray(np.sqrt(_sum(t * t, dim, keepdim)))
    if p in (1, 1.0):
        return _sum(np.abs(t), dim, keepdim)
    if p == np.inf:
        return np.asarray(np.max(np.abs(t), axis=dim, keepdims=keepdim))
    raise OutsideAssumptions(f"deterministic='portable': the {p}-norm has no portable form; 1, 2 and inf have.")


def _vector_norm(t: np.ndarray, ord: Any = 2, dim: Any = None, keepdim: bool = False) -> np.ndarray:
    return _norm(t, ord, dim, keepdim)


def _softmax(t: np.ndarray, dim: int = -1) -> np.ndarray:
    e = exp(t - np.max(t, axis=dim, keepdims=True))
    return np.asarray(e / _sum(e, dim, True))


def _logsumexp(t: np.ndarray, dim: Any = -1, keepdim: bool = False) -> np.ndarray:
    top = np.max(t, axis=dim, keepdims=True)
    total = log(_sum(exp(t - top), dim, True)) + top
    return np.asarray(total if keepdim else np.squeeze(total, axis=dim))


def _pow(t: Any, exponent: Any) -> np.ndarray:
    if isinstance(t, np.ndarray) and exponent in (2, 3, 0.5, -1, 1):
        return {2: lambda: t * t, 3: lambda: t * t * t, 0.5: lambda: np.sqrt(t), -1: lambda: 1 / t, 1: t.copy}[
            exponent
        ]()
    raise OutsideAssumptions(
        f"deterministic='portable': powers of {exponent} have no portable form; 2, 3, 0.5 and -1 have."
    )


def _added(t: np.ndarray, other: Any, alpha: Any = 1) -> np.ndarray:
    return np.asarray(t + (other if alpha == 1 else alpha * other))


def _less(t: np.ndarray, other: Any, alpha: Any = 1) -> np.ndarray:
    return np.asarray(t - (other if alpha == 1 else alpha * other))


RULES: dict[str, Callable[..., np.ndarray]] = {
    **dict.fromkeys(("matmul", "__matmul__", "mm", "bmm", "mv", "dot", "vdot", "inner"), matmul),
    "__rmatmul__": lambda a, b: matmul(b, a),
    "sum": _sum, "mean": _mean, "norm": _norm, "vector_norm": _vector_norm, "linalg_vector_norm": _vector_norm,
    "exp": exp, "log": log, "log1p": _log1p, "sigmoid": _sigmoid, "softplus": _softplus, "softmax": _softmax,
    "logsumexp": _logsumexp, "pow": _pow, "__pow__": _pow, "square": lambda t: t * t, "rsqrt": lambda t: 1 / np.sqrt(t),
    "lerp": lambda t, end, weight: t + weight * (end - t),
    "addcmul": lambda t, a, b, value=1: t + value * (a * b),
    "addcdiv": lambda t, a, b, value=1: t + value * (a / b),
    "add": _added, "sub": _less, "subtract": _less,
}  # fmt: skip
"""Functions with a fixed order of their own; a trailing _ writes into the first argument."""

_ALIKE = """
T __add__ __and__ __array__ __bool__ __contains__ __deepcopy__ __div__ __eq__ __float__ __floordiv__ __format__ __ge__
__get__ __getitem__ __gt__ __hash__ __iadd__ __imul__ __index__ __int__ __invert__ __isub__ __iter__ __itruediv__
__le__ __len__ __lt__ __mod__ __mul__ __ne__ __neg__ __or__ __radd__ __reduce_ex__ __repr__ __rmul__ __rsub__
__rtruediv__ __set__ __setitem__ __sub__ __truediv__ __xor__ _is_view abs abs_ absolute add all allclose amax amin any
arange argmax argmin argsort as_strided as_tensor atleast_1d bincount bitwise_and bool broadcast_tensors broadcast_to
bucketize can_cast cat ceil chunk clamp clamp_ clamp_max clamp_max_ clamp_min clamp_min_ clip clone concat contiguous
copy_ copysign count count_nonzero cpu cumsum data data_ptr detach device diag diagonal dim div div_ divide double
dtype element_size empty empty_like eq equal expand expand_as eye fill_ flatten flip float floor floor_ floor_divide
fmax frexp from_numpy full full_like gather ge ger get_default_dtype gt index_add index_add_ index_copy_ index_fill
index_select int is_complex is_contiguous is_floating_point is_grad_enabled is_nonzero is_sparse is_tensor isclose
isfinite isinf isnan item kthvalue layout le logical_and logical_not logical_or logical_xor long lt mT manual_seed
masked_fill masked_fill_ masked_select max maximum meshgrid min minimum movedim mul mul_ multiply nan_to_num narrow
ndimension ne neg neg_ negative nelement new new_empty new_full new_ones new_tensor new_zeros nonzero numel numpy ones
ones_like outer permute pin_memory reciprocal record_stream register_hook remainder repeat repeat_interleave
requires_grad requires_grad_ reshape resize_ result_type roll round round_ rsub scatter scatter_ scatter_add
scatter_add_ searchsorted select set_ set_grad_enabled shape sign size sort split sqrt sqrt_ squeeze stack storage
storage_offset stride sub swapaxes t take take_along_dim tensor tensor_split tile to tolist topk transpose tril triu
true_divide trunc type type_as unbind unfold unique unsqueeze untyped_storage view view_as where zero_ zeros
zeros_like
"""
ALIKE = frozenset(_ALIKE.split())
"""Functions that every instruction set computes alike: each number alone, rounded as IEEE 754 says, or only moved."""


class _Portable(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        given = kwargs or {}
        plain = name.rstrip("_") if name.endswith("_") and not name.endswith("__") else name
        rule = RULES.get(plain)
        if (
            rule is not None
            and _has_floats(args)
            and not (plain in ALIKE and given.get("alpha", 1) == 1 and len(args) < 3)
        ):
            return _ruled(rule, name != plain, args, given)
        if rule is None and name not in ALIKE and plain not in ALIKE and _has_floats(args):
            raise OutsideAssumptions(
                f"deterministic='portable': torch's {name} differs between instruction sets and has no portable form "
                f"here. Leave deterministic out, or use a method and a compressor without it."
            )
        return func(*args, **given)


def _has_floats(args: Any) -> bool:
    return any(isinstance(a, torch.Tensor) and a.is_floating_point() for a in args)


def _ruled(rule: Callable[..., np.ndarray], in_place: bool, args: Any, given: dict[str, Any]) -> Any:
    with torch._C.DisableTorchFunction():
        more = dict(given)
        out, dtype = more.pop("out", None), more.pop("dtype", None)
        first = args[0].to(dtype) if dtype is not None else args[0]
        values = [a.detach().numpy() if isinstance(a, torch.Tensor) else a for a in (first, *args[1:])]
        more = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in more.items()}
        made = torch.from_numpy(_array(rule(*values, **more)))
        target = args[0] if in_place else out
        return made if target is None else target.copy_(made)


def _array(made: np.ndarray) -> np.ndarray:
    return made if made.flags.writeable and made.flags.c_contiguous else made.copy()
