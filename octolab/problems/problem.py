"""What a problem is: n clients' objectives f_i, stacked, and f = sum_i w_i f_i with its constants.

Every function takes a model x of shape (d,), shared by all clients, or (m, d), one per client, and `clients`:
None (all), a slice (a view, no copy) or a LongTensor. Constants that are not known are None.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from octolab.arguments import short
from octolab.batches import Batch, Drawn, moves
from octolab.faces import Shown
from octolab.layers import Layer
from octolab.metrics import Scored
from octolab.randomness import Draws

if TYPE_CHECKING:
    from octolab.data import Partition
    from octolab.problems.scoring import TestPart
    from octolab.problems.statistics import Memory, Statistics

Clients = slice | torch.Tensor | None


class Problem(Shown):
    """The base of all problems. See the module's docstring for shapes."""

    name: str
    n: int
    d: int
    dtype: torch.dtype
    sizes: np.ndarray
    weights: torch.Tensor
    x0: torch.Tensor
    layout: list[Layer]
    convex = False
    homogeneous = False
    portable = False
    """Whether its kernels have a form that is the same on every instruction set: see `octolab.portable`."""
    nonnegative = True  # losses of samples are
    has_hessian = False
    noise: Any = None  # a `Noise`: what makes gradients stochastic where there are no samples to draw
    constants_note: str | None = None
    sigma_sq: float | None = None
    partition: Partition | None = None  # how its samples were divided among the clients, if it was made so
    validation: TestPart | None = None  # samples held back from training, for tuning and early stopping
    groups: list[np.ndarray] | None = None  # of each client's samples: numbers of the groups they belong to
    group_names: tuple[str, ...] = ()
    random = False  # something inside is random in training (dropout): passes need seeds
    class_names: tuple[str, ...] = ()  # in the order of their numbers, where they have names
    statistics: Statistics | None = None  # what clients keep beside the model, if anything

    # -- constants (None: unknown) ---------------------------------------------------------------------------
    L: float | None = None
    L_i: np.ndarray | None = None
    mu: float | None = None
    mu_i: np.ndarray | None = None
    x_star: torch.Tensor | None = None
    _global_test: TestPart | None = None

    @property
    def L_mean(self) -> float | None:
        """sum w_i L_i."""
        return None if self.L_i is None else float(self.weights.numpy() @ self.L_i)

    @property
    def L_max(self) -> float | None:
        return None if self.L_i is None else float(self.L_i.max())

    @property
    def L_qm(self) -> float | None:
        """The quadratic mean of the L_i; with weights, of the n w_i L_i."""
        if self.L_i is None:
            return None
        return float(np.sqrt(np.mean((self.n * self.weights.numpy() * self.L_i) ** 2)))

    @property
    def mu_min(self) -> float:
        """The strong convexity that every f_i has; 0 if there is one without, or if it is not known."""
        return max(0.0, float(min(self.mu_i))) if self.strongly_convex and self.mu_i is not None else 0.0

    @cached_property
    def f_star(self) -> float | None:
        return None if self.x_star is None else self.value(self.x_star)

    @property
    def strongly_convex(self) -> bool:
        return self.convex and self.mu is not None and self.mu > 0

    def variance(self, batch_size: int | None) -> float | None:
        """A bound on the variance of a client's gradient over `batch_size` samples; None: unknown."""
        if batch_size is None:
            return 0.0
        return None if self.sigma_sq is None else self.sigma_sq / batch_size

    @cached_property
    def same_size(self) -> int | None:
        """The number of samples of every client if it is the same for all, else None."""
        return int(self.sizes[0]) if (self.sizes == self.sizes[0]).all() else None

    def at(self, memory: Memory) -> Problem:
        """This problem with what clients keep beside the model as it is now, from their memory."""
        return self

    def keeping(self, kept: torch.Tensor) -> Problem:
        """This problem for a cohort that keeps `kept` (m, s) beside the model: its training moves it, in place."""
        raise ValueError(f"{self.name}: its clients keep nothing beside the model.")

    # -- clients' functions ----------------------------------------------------------------------------------
    def loss(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        raise NotImplementedError

    def grad(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        raise NotImplementedError

    def hessian(self, x: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        raise ValueError(
            f"{self.name} (d={self.d}) gives no Hessians: use a quadratic or logistic problem of moderate d."
        )

    def hvp(self, x: torch.Tensor, v: torch.Tensor, clients: Clients = None) -> torch.Tensor:
        """Hessian-vector products (m, d) for v (d,) or (m, d)."""
        H = self.hessian(x, clients)
        return (H @ v.expand(len(H), -1)[..., None])[..., 0]

    def local_sgd(
        self,
        x: torch.Tensor,
        clients: Clients,
        *,
        lr: float | torch.Tensor,
        steps: int,
        batch: Drawn | None = None,
        stop: torch.Tensor | None = None,
        momentum: float = 0.0,
        prox: float = 0.0,
        correction: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """y = x, v = 0; `steps` times v = momentum v + (grad_i(y) + correction_i), y = y - lr (v + prox (y - x)).

        batch: index and mask (steps, m, b); a client whose mask is all False at a step does not move. stop: (m,), after
        how many steps each client rests; with samples in `batch` its mask says it (`Batch.until`). Returns (m, d).
        """
        start = x.expand(self.count(clients), -1)
        y, v = start.clone(), None
        rate = lr[:, None].to(y.dtype) if isinstance(lr, torch.Tensor) and lr.dim() else lr
        live = moves(steps, batch, stop)
        stuck = [False] * steps if live is None else (~live).any(1).tolist()
        for t in range(steps):
            if callable(batch):
                now: Batch | None = batch(t)
            else:
                now = None if batch is None else Batch(*(None if part is None else part[t] for part in batch))
            g = self.grad(y, clients, now)
            if correction is not None:
                g = g + correction
            v_new = g if v is None or not momentum else momentum * v + g
            y_new = y - rate * (v_new + prox * (y - start) if prox else v_new)
            if stuck[t]:
                assert live is not None
                going = live[t, :, None]
                v_new = torch.where(going, v_new, 0.0 if v is None else v)
                y_new = torch.where(going, y_new, y)
            v, y = v_new, y_new
        return y

    def prox(
        self, x: torch.Tensor, clients: Clients, mu: float | torch.Tensor, tilt: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Exact argmin_y f_i(y) - <tilt_i, y> + (mu/2)|y - x|^2, (m, d), and the Newton steps (m,) that it took."""
        from octolab.problems.proximal import prox

        return prox(self, x, clients, mu, tilt)

    def draw_batch(self, size: Any, clients: Clients, draws: Draws) -> Batch:
        """A minibatch of `size` (one number, or (m,)) samples per client, without replacement."""
        wanted = torch.as_tensor(size)
        held = torch.from_numpy(self.sizes)[slice(None) if clients is None else clients]
        most = int(wanted.max())
        if self.same_size is not None:
            width = min(most, self.same_size)
            index = draws.subset(self.same_size, width, "batch")
        else:
            width = min(most, int(held.max()))
            index = self._ragged_batch(held, width, draws)
        take = torch.minimum(wanted.expand(len(held)), held)
        if bool((take == width).all()):
            return Batch(index, None, None)
        mask = torch.arange(width) < take[:, None]
        return Batch(index * mask, mask, None)

    def _ragged_batch(self, held: torch.Tensor, width: int, draws: Draws) -> torch.Tensor:
        u = draws.uniform(int(self.sizes.max()), "batch")  # as wide for any cohort: a draw depends on its address alone
        u = u.masked_fill(torch.arange(u.shape[1]) >= held[:, None], 2.0)  # what a client lacks comes last
        return u.argsort(dim=1, stable=True)[:, :width]

    def as_batch(self, given: Sequence[Any]) -> Batch:
        """A batch from one list of sample numbers per client."""
        rows = [np.asarray(g, dtype=np.int64).reshape(-1) for g in given]
        width = max((len(r) for r in rows), default=0)
        index, mask = np.zeros((len(rows), width), dtype=np.int64), np.zeros((len(rows), width), dtype=bool)
        for i, r in enumerate(rows):
            index[i, : len(r)], mask[i, : len(r)] = r, True
        return Batch(torch.from_numpy(index), None if mask.all() else torch.from_numpy(mask), None)

    # -- the whole objective ---------------------------------------------------------------------------------
    def value(self, x: Any) -> float:
        """f(x) = sum w_i f_i(x)."""
        x = self.as_x(x)
        return float(self.weights @ self.loss(x).to(torch.float64))

    def gradient(self, x: Any) -> torch.Tensor:
        """The gradient of f at x, (d,)."""
        x = self.as_x(x)
        return self.weights.to(self.dtype) @ self.grad(x)

    def pooled_gradient(self, x: torch.Tensor, batch: Batch) -> torch.Tensor:
        """sum_i w_i g_i(x) (d,), g_i over client i's part of a batch that everybody drew; chunk by chunk."""
        total, size = torch.zeros_like(x), max(1, self.chunk)
        for a in range(0, self.n, size):
            part = slice(a, min(a + size, self.n))
            own = Batch(*(None if q is None else q[part] for q in batch))
            total += self.weights[part].to(x.dtype) @ self.grad(x, part, own)
        return total

    def evaluate(self, x: torch.Tensor) -> dict[str, float]:
        """loss, grad_norm_sq and, where there are test or validation data, what is measured on them."""
        g = self.gradient(x)
        measured = {**self.test_metrics(x), **self.validation_metrics(x)}
        return {"loss": self.value(x), "grad_norm_sq": float(g @ g), **measured}

    def as_module(self, x: torch.Tensor) -> nn.Module:
        """The model x (d,) as a torch module that takes one batch of features; ValueError where x is no model of data."""
        raise ValueError(f"{self.name} has no module: its x is a point, not the weights of a model.")

    def test_metrics(self, x: torch.Tensor) -> dict[str, float]:
        """What is measured on the global test set: accuracy; of a regression mse, mae, r2."""
        return {}

    def mislabelled(self, clients: Sequence[int]) -> Problem:
        """This problem with the labels of these clients turned round: class c of C becomes C - 1 - c.

        Test and validation parts stay. ValueError where there are no classes.
        """
        raise ValueError(f"{self.name} has no classes, so no labels can be turned round.")

    def held_out_loss(self, x: torch.Tensor, part: TestPart) -> float:
        """The mean loss over held-out samples, without the regulariser."""
        raise NotImplementedError

    def validation_metrics(self, x: torch.Tensor) -> dict[str, float]:
        """validation_loss, and the test metrics on the validation part, as validation_accuracy, ...; empty without one."""
        if self.validation is None:
            return {}
        twin = copy.copy(self)
        twin._global_test = self.validation
        measured = {"loss": self.held_out_loss(x, self.validation), **twin.test_metrics(x)}
        return {f"validation_{name}": value for name, value in measured.items()}

    def test_scores(self, x: torch.Tensor, *, by_client: bool = False) -> Scored | None:
        """What the model x (d,) says of all test samples, or of the clients' own test parts; None where there are none."""
        return None

    def client_metrics(self, x: torch.Tensor, clients: Clients = None) -> dict[str, np.ndarray]:
        """Per-client metrics (m,): training loss and, where clients have test parts, accuracy (NaN: an empty one).

        x: (d,), or personal models (m, d).
        """
        metrics = {"loss": self.loss(x, clients).double().numpy()}
        accuracy = self.client_accuracy(x, clients)
        return metrics if accuracy is None else {**metrics, "accuracy": accuracy}

    def client_accuracy(self, x: torch.Tensor, clients: Clients = None) -> np.ndarray | None:
        """(m,) on each client's own test part, NaN where it is empty; None where there are none."""
        return None

    # -- shapes ----------------------------------------------------------------------------------------------
    @property
    def chunk(self) -> int:
        """How many clients one stacked pass should hold."""
        return self.n

    def count(self, clients: Clients) -> int:
        if clients is None:
            return self.n
        return clients.stop - clients.start if isinstance(clients, slice) else len(clients)

    def ids(self, clients: Clients) -> torch.Tensor:
        """(m,) client numbers."""
        return torch.arange(self.n) if clients is None else torch.arange(self.n)[clients]

    def layers(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Named views: of x (d,) with the layers' shapes, of x (m, d) with (m, *shape). No copy."""
        lead = x.shape[:-1]
        return {q.name: x[..., q.start : q.stop].view(*lead, *q.shape) for q in self.layout}

    def as_x(self, x: Any) -> torch.Tensor:
        return x if isinstance(x, torch.Tensor) else torch.as_tensor(np.asarray(x), dtype=self.dtype)

    def check_x0(self, x0: Any) -> torch.Tensor:
        """The starting point (d,) in this problem's dtype; None: the default one."""
        if x0 is None:
            return self.x0.clone()
        if isinstance(x0, (Mapping, torch.nn.Module)):
            x0 = self._from_module(x0)
        given, held = short(x0), x0.detach() if isinstance(x0, torch.Tensor) else np.asarray(x0)
        if not isinstance(held, torch.Tensor) and held.dtype.kind not in "iufcb":
            raise ValueError(f"x0={given}: give {self.d} real numbers.")
        x = torch.as_tensor(held)
        if tuple(x.shape) != (self.d,):
            raise ValueError(f"x0={given}: x0 has shape {tuple(x.shape)}: {self.name} needs ({self.d},).")
        if x.is_complex() or x.dtype == torch.bool:
            raise ValueError(f"x0 has dtype {x.dtype}: give real numbers.")
        if not bool(torch.isfinite(x.double()).all()):
            raise ValueError(f"x0={given} holds inf or nan: give finite numbers.")
        return x.to(self.dtype).clone()

    def begun(self, x0: object) -> Problem:
        """This problem with what a module or state_dict brings beside the starting point: running statistics, say."""
        return self

    def _from_module(self, given: Mapping[str, torch.Tensor] | torch.nn.Module) -> torch.Tensor:
        """x0 (d,) from a trained module or its state_dict: the pieces of the layout, by name."""
        held = given.state_dict() if isinstance(given, torch.nn.Module) else given
        names, shapes = [q.name for q in self.layout], {q.name: q.shape for q in self.layout}
        lacking = [name for name in names if name not in held]
        if lacking:
            raise ValueError(
                f"x0 has no {lacking[0]!r}: {self.name} needs {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}."
            )
        for name in names:
            if tuple(held[name].shape) != tuple(shapes[name]):
                raise ValueError(
                    f"x0: {name!r} has shape {tuple(held[name].shape)}, and {self.name} needs {tuple(shapes[name])}."
                )
        return torch.cat([held[name].detach().reshape(-1).to(self.dtype) for name in names])

    def with_dtype(self, dtype: torch.dtype) -> Problem:
        raise NotImplementedError

    @property
    def spec(self) -> dict[str, Any]:
        raise NotImplementedError

    def __repr__(self) -> str:
        known = [f"{k}={v:.4g}" for k, v in (("L", self.L), ("mu", self.mu)) if v is not None]
        if self.L and self.mu:
            known.append(f"kappa={self.L / self.mu:.4g}")
        if self.L_i is not None and self.n > 1 and not self.homogeneous:
            known.append(f"L_i in [{self.L_i.min():.4g}, {self.L_i.max():.4g}]")
        held = f", {self.sizes.sum():,} samples" if int(self.sizes.max()) > 1 else ""
        constants = ", ".join(known) or "constants unknown"
        return f"{self.name}: n={self.n:,} clients, d={self.d:,}{held}; {constants}"


def make_weights(weights: Any, sizes: np.ndarray) -> torch.Tensor:
    """(n,) float64, sum 1. None or "uniform": 1/n each; "examples": as the numbers of samples; or numbers."""
    n = len(sizes)
    if weights is None or (isinstance(weights, str) and weights == "uniform"):
        return torch.full((n,), 1 / n, dtype=torch.float64)
    if isinstance(weights, str):
        if weights != "examples":
            raise ValueError(f"weights={weights!r}: choose 'uniform', 'examples', or give {n} numbers.")
        return torch.from_numpy(sizes / sizes.sum())
    try:
        w = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        w = np.empty(0)
    if w.shape != (n,) or not np.isfinite(w).all() or (w < 0).any() or w.sum() <= 0:
        raise ValueError(
            f"weights={short(weights)}, shape {w.shape}: give {n} numbers >= 0 that do not sum to 0, 'uniform' or 'examples'."
        )
    return torch.from_numpy(w / w.sum())


def fingerprint(*arrays: Any) -> str:
    """sha256 (16 hex digits) of given arrays, to name a problem that a spec cannot rebuild."""
    sha = hashlib.sha256()
    for array in arrays:
        a = np.ascontiguousarray(array)
        sha.update(str((a.shape, a.dtype.str)).encode() + a.tobytes())
    return sha.hexdigest()[:16]


def flat_layout(d: int) -> list[Layer]:
    return [Layer("x", (d,), "vector", 0, d)]
