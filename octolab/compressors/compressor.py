"""What a compressor is: a frozen dataclass C with C(x) -> payload, its constants alpha and omega, and its bits.

Classes (Beznosikov, Horvath, Richtarik, Safaryan, arXiv 2002.12410):
    contractive, alpha:  E|C(x) - x|^2 <= (1 - alpha) |x|^2,  0 < alpha <= 1
    unbiased,    omega:  E C(x) = x,  E|C(x) - x|^2 <= omega |x|^2
    C unbiased  =>  C/(1 + omega) is contractive with alpha = 1/(1 + omega)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from torch import Tensor

from octolab import rooms
from octolab.arguments import expects, instance
from octolab.errors import OutsideAssumptions
from octolab.faces import Shown
from octolab.notation import from_json
from octolab.params import params, settle
from octolab.payloads import Payload
from octolab.randomness import Draws, Randomness

if TYPE_CHECKING:
    import pandas as pd

_calls = itertools.count()


def fresh_draws(m: int) -> Draws:
    """Draws for callers that bring none: they differ from call to call, and a new process repeats them."""
    return Randomness(0).draws(m, event=next(_calls))


@dataclass(frozen=True, repr=False)
class Compressor(Shown):
    """The base of all compressors: ``c(x, draws=None) -> Payload`` for x (d,) or the stacked x (m, d) of m clients.

    unbiased:      E C(x) = x
    deterministic: draws nothing
    homogeneous:   C(t x) = t C(x) for t > 0 (with the same draws)
    sparsifier:    keeps some coordinates, so that another compressor can follow: ``TopK(0.1) | Natural()``
    axes:          1 for compressors of vectors, 2 for those of symmetric matrices (d then is the matrix's side)
    """

    unbiased: ClassVar[bool] = False
    deterministic: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    sparsifier: ClassVar[bool] = False
    axes: ClassVar[int] = 1
    kinds: ClassVar[Mapping[str, type[Compressor]]] = rooms.members("compressors", load=False)

    def __post_init__(self) -> None:
        settle(self)

    # -- what a compressor defines ---------------------------------------------------------------------------
    def compress(self, x: Tensor, draws: Draws) -> Payload:
        """Stacked x (m, d) -> stacked payload. ``draws`` may be None for deterministic compressors."""
        raise NotImplementedError

    def omega(self, d: int) -> float | None:
        """E|C(x) - x|^2 <= omega |x|^2 for all x of length d; None when C is biased."""
        return None

    def alpha(self, d: int) -> float | None:
        """E|C(x) - x|^2 <= (1 - alpha)|x|^2 for all x of length d; None when C is not contractive."""
        omega = self.omega(d)
        return 1 - omega if omega is not None and omega < 1 else None

    def variance(self, d: int) -> float:
        """omega as a number; a biased compressor, which has none, is refused in words."""
        omega = self.omega(d)
        if omega is None:
            raise OutsideAssumptions(f"{self!r} is biased, so it has no omega: use RandK, QSGD, Natural or PermK.")
        return omega

    def contraction(self, d: int) -> float:
        """alpha as a number; a compressor that is not contractive is refused in words."""
        alpha = self.alpha(d)
        if alpha is None:
            raise OutsideAssumptions(f"{self!r} is not contractive, so it has no alpha: use TopK, or Scaled({self!r}).")
        return alpha

    def mean_omega(self, d: int, weights: Tensor) -> float:
        """E|sum w_i (C_i(v_i) - v_i)|^2 <= mean_omega sum w_i |v_i|^2 for weights (n,) that sum to 1: omega max w_i.

        That is omega/n for equal weights. Compressors whose draws depend on each other (PermK) have a constant of their own.
        """
        clients = 1 / float(weights.max())  # how many equal ones the mean is worth: n for equal weights
        return self.variance(d) / clients

    def bits(self, d: int) -> int | None:
        """Bits of one message of length d; None when they depend on the data or on chance."""
        raise NotImplementedError

    def expected_bits(self, d: int) -> float | None:
        """Mean bits of one message where chance alone decides; None when they depend on the data."""
        return self.bits(d)

    def for_layers(self, shapes: list[tuple[int, ...]]) -> Compressor:
        """This compressor bound to a model's layers; only :class:`PerTensor`, and what holds one, differs."""
        return self

    def for_size(self, d: int) -> Compressor:
        """This compressor made to fit a piece of length d: a count k that is larger becomes d."""
        return self

    # -- what every compressor can do ------------------------------------------------------------------------
    def __call__(self, x: Tensor, draws: Draws | None = None) -> Payload:
        if x.dim() not in (self.axes, self.axes + 1) or not x.is_floating_point() or x.shape[-1] == 0:
            one, many = ("(d,)", "(m, d)") if self.axes == 1 else ("(d, d)", "(m, d, d)")
            raise ValueError(f"{self!r} takes reals of shape {one} or {many}; given {x.dtype} of {tuple(x.shape)}.")
        rows = x.detach() if x.dim() > self.axes else x.detach().unsqueeze(0)
        if draws is None and not self.deterministic:
            draws = fresh_draws(rows.shape[0])
        if draws is not None and draws.m != rows.shape[0]:
            raise ValueError(f"{self!r} got draws for {draws.m} clients and {rows.shape[0]} rows to compress.")
        payload = self.compress(rows, cast(Draws, draws))  # None only where nothing is drawn
        return payload if x.dim() > self.axes else payload[0]

    def __or__(self, other: Compressor) -> Compressor:
        """``c1 | c2``: c2 applied to the values that c1 keeps."""
        from octolab.compressors.combinators import Chain

        return Chain(self, other)

    @property
    def spec(self) -> dict[str, Any]:
        """JSON-able description: {"kind": "TopK", "k": 0.05}; the way back is ``from_spec``."""
        fields = {n: _to_json(v) for n, v in self._given()}
        return {"kind": type(self).__name__, **fields}

    def __repr__(self) -> str:
        known = params(type(self))
        shown = [f"{'' if known[n].required else n + '='}{v!r}" for n, v in self._given()]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _given(self) -> list[tuple[str, Any]]:
        """The fields that have no default or another value."""
        held = [(p, getattr(self, p.name)) for p in params(type(self)).values()]
        return [(p.name, v) for p, v in held if p.required or not bool(v == p.default)]


def _to_json(value: Any) -> Any:
    if isinstance(value, Compressor):
        return value.spec
    return [_to_json(v) for v in value] if isinstance(value, tuple) else value


@expects(spec=instance("a compressor's spec, a dict", dict))
def from_spec(spec: dict[str, Any]) -> Compressor:
    """The compressor that ``spec`` describes.

    >>> from_spec({"kind": "TopK", "k": 0.05})
    TopK(0.05)
    """
    if not isinstance(spec, dict) or "kind" not in spec:
        raise ValueError(f"a spec is a dict with a kind, such as {{'kind': 'TopK', 'k': 0.05}}; given {spec!r}.")
    made = from_json(spec, "compressors")
    if not isinstance(made, Compressor):
        raise ValueError(f"{spec['kind']!r} is no compressor; known are {', '.join(sorted(Compressor.kinds))}.")
    return made


def catalog() -> pd.DataFrame:
    """A table of every compressor: name, and one line of what it does."""
    return rooms.catalog("compressors")


# -- what fields may hold ------------------------------------------------------------------------------------
def check_count(owner: str, name: str, value: Any) -> None:
    """k is a count (int >= 1) or a share (float in (0, 1])."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    share = isinstance(value, float) and 0 < value <= 1
    if not whole and not share:
        raise ValueError(f"{owner}: {name}={value!r}: give a count (int >= 1) or a share (float in (0, 1]).")


def check_whole(owner: str, name: str, value: Any, low: int) -> None:
    """A whole number >= low."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{owner}: {name}={value!r}: give a whole number >= {low}.")


def count_of(owner: Any, k: int | float, size: int) -> int:
    """How many of ``size`` entries k stands for: k itself, or max(1, round(k * size)) for a share."""
    number = k if isinstance(k, int) else max(1, round(k * size))
    if number > size:
        raise ValueError(f"{owner!r}: k is {number}, but there are only {size} entries; give k <= {size} or a share.")
    return number
