"""Any module, one client at a time: what every other kernel is compared with."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from octolab.problems.kernels.dropout import Dropout
from octolab.problems.kernels.kernel import CALM, Conduct, Kernel, Share, State, Views
from octolab.problems.kernels.losses import Loss

_generator = threading.Lock()  # torch's generator is one for all threads


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's generator at this seed, for a module that draws from it; afterwards as if nobody had."""
    with _generator:
        before = torch.random.get_rng_state()
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            torch.random.set_rng_state(before)


class OwnModule(Kernel):
    """Keeps one copy of the module per thread, since these tiers put parameters into it."""

    def __init__(self, module: nn.Module, loss: Loss, sample: tuple[int, ...], conduct: Conduct = CALM):
        super().__init__(module, loss, sample, conduct)
        self.buffers = [(name, module.get_buffer(name)) for name in conduct.moving]
        self.buffers += [(name, module.get_parameter(name)) for name in conduct.local]
        self._local = threading.local()

    @property
    def own(self) -> nn.Module:
        if not hasattr(self._local, "module"):
            self._local.module = module = copy.deepcopy(self.module)
            self._local.dropouts = [part for part in module.modules() if isinstance(part, Dropout)]
            self._local.training = module.training
            for name in self.conduct.local:
                module.get_parameter(name).requires_grad_(True)
        return self._local.module

    def _mode(self, training: bool) -> nn.Module:
        """The own module in training or evaluation mode."""
        module = self.own
        if self._local.training != training:
            set_mode(module, training)
            self._local.training = training
        return module

    def _begin(self, seed: torch.Tensor, lay: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
        for part in self._local.dropouts:
            part.begin(seed, lay)

    def _split(self, kept: torch.Tensor) -> list[torch.Tensor]:
        """Views of what a client keeps (..., s), with the buffers' shapes."""
        parts = kept.split([b.numel() for _, b in self.buffers], -1)
        return [part.view((*kept.shape[:-1], *b.shape)) for part, (_, b) in zip(parts, self.buffers, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _local=threading.local())


def set_mode(module: nn.Module, training: bool) -> None:
    """`module.train(training)`, but parts marked `_always_evaluates` (frozen batch normalisation) stay in evaluation."""
    module.train(training)
    for part in module.modules():
        if getattr(part, "_always_evaluates", False):
            part.eval()


class OneByOne(OwnModule):
    """A plain autograd pass per client, its parameters laid into the module without a copy."""

    name = "loop"
    alone = True

    def _bind(self, views: Views, k: int, training: bool) -> tuple[nn.Module, list[nn.Parameter]]:
        """The module with client k's tensors as its parameters. It shares their memory, so later updates are seen."""
        module, local = self._mode(training), self._local
        if not hasattr(local, "parameters"):
            local.parameters, local.bound = [module.get_parameter(n) for n in self.names], (None, -1)
        if local.bound[0] is not views or local.bound[1] != k:
            for p, v in zip(local.parameters, self._rows(views, k), strict=True):
                p.data = v
            local.bound = (views, k)
        return module, local.parameters

    def outputs(self, views: Views, xb: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        with torch.no_grad():
            outs = []
            for k, x in enumerate(xb):
                module = self._bind(views, k, False)[0]
                if kept is not None:
                    self._lay((kept if kept.dim() == 1 else kept[k]).clone())
                outs.append(self._run(module, x, 0 if self.conduct.always else None))
            return torch.stack(outs)

    @staticmethod
    def _run(module: nn.Module, x: torch.Tensor, seed: int | None) -> torch.Tensor:
        if seed is None:
            return module(x)
        with seeded(seed):
            return module(x)

    def _lay(self, kept: torch.Tensor) -> None:
        """Put what a client keeps (s,) into the own module, which shares its memory where dtypes are equal."""
        for (owner, last), (_, like), part in zip(self._owners, self.buffers, self._split(kept), strict=True):
            if last in owner._parameters:
                owner.get_parameter(last).data = part
            else:
                owner._buffers[last] = part if part.dtype == like.dtype else part.to(like.dtype)

    def _lift(self, kept: torch.Tensor) -> None:
        """Take out again what lies elsewhere: a buffer of another dtype, or one that was replaced."""
        for (owner, last), part in zip(self._owners, self._split(kept), strict=True):
            now = getattr(owner, last)
            if now.data_ptr() != part.data_ptr():
                part.copy_(now.detach())

    @property
    def _owners(self) -> list[tuple[nn.Module, str]]:
        """Which parts of the own module hold what clients keep, and under which names."""
        if not hasattr(self._local, "owners"):
            cut = [name.rpartition(".") for name, _ in self.buffers]
            self._local.owners = [(self.own.get_submodule(place), last) for place, _, last in cut]
        return self._local.owners  # type: ignore[no-any-return]

    def pieces(
        self, views: Views, xb: torch.Tensor, yb: torch.Tensor, share: Share, state: State | None = None
    ) -> tuple[list[Any], torch.Tensor]:
        state = State(training=False) if state is None else state
        pieces: list[Any] = []
        outs: list[torch.Tensor | None] = []
        with torch.enable_grad():
            for k in range(len(yb)):
                module, parameters = self._bind(views, k, state.training)
                weight, x, y = share if isinstance(share, float) else share[k], xb[k], yb[k]
                there = None if state.there is None or self.conduct.steady else state.there[k]
                if there is not None and not bool(there.any()):  # who rests keeps what he has
                    pieces.append([torch.zeros_like(p) for p in parameters])
                    outs.append(None)
                    continue
                if there is not None:  # padding must not enter a batch's statistics
                    x, y, weight = x[there], y[there], weight if isinstance(weight, float) else weight[there]
                out = self._pass(module, x, state, k)
                total = self.loss.total(out, y, weight)
                own = self._own_parameters(module) if state.rate is not None else []
                grads = torch.autograd.grad(total, parameters + own, materialize_grads=True)
                self._settle(module, state, k, grads[len(parameters) :])
                pieces.append([g.to_dense() if g.is_sparse else g for g in grads[: len(parameters)]])
                outs.append(_padded(out.detach(), there))
        return pieces, _stacked(outs)

    def _pass(self, module: nn.Module, x: torch.Tensor, state: State, k: int) -> torch.Tensor:
        """The output of client k's pass."""
        seed, kept = 0 if self.conduct.always else None, state.of(k)
        if state.training and state.seeds is not None:
            self._begin(state.seeds[k])
            if self.conduct.random or self.conduct.always:
                seed = int(state.seeds[k])
        if kept is not None:
            self._lay(kept if state.training else kept.clone())
        return alone(lambda: self._run(module, x, seed), module) if self.conduct.mixes else self._run(module, x, seed)

    def _settle(self, module: nn.Module, state: State, k: int, own: Sequence[torch.Tensor]) -> None:
        """After a pass in training: the client keeps the buffers as they are now, and its own parameters take a step."""
        if not state.training or state.kept is None:
            return
        if state.rate is not None:
            rate = state.rate if isinstance(state.rate, float) else float(state.rate[k])
            with torch.no_grad():
                for p, g in zip(self._own_parameters(module), own, strict=True):
                    p.sub_(g, alpha=rate)
        self._lift(state.kept[k])

    def _own_parameters(self, module: nn.Module) -> list[nn.Parameter]:
        return [module.get_parameter(name) for name in self.conduct.local]

    def _rows(self, views: Views, k: int) -> Views:
        """Client k's views, made once while one client trains alone."""
        if self.shared(views):
            return views
        kept = getattr(self._local, "rows", None)
        if kept is None or kept[0] is not views or kept[1] != k:
            kept = self._local.rows = (views, k, [v[k] for v in views])
        return kept[2]  # type: ignore[no-any-return]

    def add(self, pieces: list[Any], views: Views, alpha: float, overwrite: bool = False) -> None:
        for k, grads in enumerate(pieces):
            super().add(grads, self._rows(views, k), alpha, overwrite)


def _stacked(outs: list[torch.Tensor | None]) -> torch.Tensor:
    """Outputs (K, B, ...); zeros of who rested."""
    known = next((o for o in outs if o is not None), torch.empty(0))
    if len(outs) == 1:
        return known[None]
    return torch.stack([torch.zeros_like(known) if o is None else o for o in outs])


def _padded(out: torch.Tensor, there: torch.Tensor | None) -> torch.Tensor:
    """Rows put back where they came from."""
    if there is None or len(out) == len(there):
        return out
    whole = out.new_zeros(len(there), *out.shape[1:])
    whole[there] = out
    return whole


def alone(run: Callable[[], torch.Tensor], module: nn.Module) -> torch.Tensor:
    """A batch without statistics (one number per channel) is normalised by the running ones, where torch would refuse."""
    try:
        return run()
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._NormBase) and part.training]
    for part in norms:
        part.eval()
    try:
        return run()
    finally:
        for part in norms:
            part.train()
