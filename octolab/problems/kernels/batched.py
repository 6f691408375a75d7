"""Tier three: any module, its own forward called once for all clients, with stacks in the place of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from octolab.problems.kernels import arithmetic, layers  # noqa: F401 (they fill the table of rules)
from octolab.problems.kernels.general import OwnModule, alone
from octolab.problems.kernels.kernel import Share, State, Views
from octolab.problems.kernels.stack import Stack, Unstackable

Slot = tuple[Any, Any]  # a dict or list of the module's, and the key under which it holds a tensor


class Batched(OwnModule):
    """Ordinary autograd through a module that computes all clients in each call of torch. Frozen parameters are plain
    tensors in it: what they do, they do for all clients at once.
    """

    name = "batched"

    def outputs(self, views: Views, xb: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        with torch.no_grad():
            state = State(training=False, kept=kept)
            return self._run(self._stacked(views, len(xb)), self._held(state, len(xb)), xb, state)

    def pieces(
        self, views: Views, xb: torch.Tensor, yb: torch.Tensor, share: Share, state: State | None = None
    ) -> tuple[Views, torch.Tensor]:
        state = State(training=False) if state is None else state
        with torch.enable_grad():
            leaves, held = (
                [v.detach().requires_grad_() for v in self._stacked(views, len(yb))],
                self._held(state, len(yb)),
            )
            own = [h.requires_grad_() for h in held[len(self.conduct.moving) :]] if state.rate is not None else []
            out = self._run(leaves, held, xb, state)
            grads = torch.autograd.grad(self.loss.total(out, yb, share, 2), leaves + own, materialize_grads=True)
        if held and state.training and state.kept is not None:
            self._settle(state, held, grads[len(leaves) :])
        return list(grads[: len(leaves)]), out.detach()

    def _stacked(self, views: Views, K: int) -> Views:
        """Views with the clients first, also where one model is shared."""
        return [v.expand(K, *v.shape) for v in views] if self.shared(views) else views

    def _held(self, state: State, K: int) -> Views:
        """What clients keep beside the model, (K, ...) each, to be moved in place."""
        if state.kept is None:
            return []
        return [part.clone(memory_format=torch.contiguous_format) for part in self._split(state.kept.expand(K, -1))]

    def _run(self, leaves: Views, held: Views, xb: torch.Tensor, state: State) -> torch.Tensor:
        """The module's outputs (K, B, ...); what it does to its buffers it does to `held`."""
        module, K = self._mode(state.training), len(xb)
        slots, seeds = self._slots(module), state.seeds if state.training else None
        names = [*self.names, *(name for name, _ in self.buffers)] if held else self.names
        places = [(slot, value) for name, value in zip(names, leaves + held, strict=True) for slot in slots[name]]
        before = [place[key] for (place, key), _ in places]
        try:
            for (place, key), value in places:
                place[key] = Stack(value)
            self._begin(torch.zeros(K, dtype=torch.int64) if seeds is None else seeds, Stack)
            out = alone(lambda: module(Stack(xb)), module) if self.conduct.mixes else module(Stack(xb))
            for at, (name, _) in enumerate(self.buffers[: len(held)]):  # a buffer may have been replaced
                place, key = slots[name][0]
                held[at] = place[key].rows
        finally:
            for ((place, key), _), value in zip(places, before, strict=True):
                place[key] = value
        if not isinstance(out, Stack):
            raise Unstackable("the outputs do not depend on the inputs.")
        return out.rows

    def _settle(self, state: State, held: Views, slopes: Any) -> None:
        """After a pass in training: clients keep the buffers as they are now, and their own parameters take a step."""
        kept, first = state.kept, len(self.conduct.moving)
        assert kept is not None
        for at, g in enumerate(slopes, first):
            rate = state.rate.view(-1, *[1] * (g.dim() - 1)) if isinstance(state.rate, torch.Tensor) else state.rate
            held[at] = held[at].detach() - g * rate
        kept.copy_(torch.cat([h.detach().reshape(len(kept), -1).to(kept.dtype) for h in held], 1))

    def _slots(self, module: nn.Module) -> dict[str, list[Slot]]:
        """Where the module holds each trained parameter and kept buffer: tied ones in several places."""
        if not hasattr(self._local, "slots"):
            wanted = {id(_tensor(module, n)): n for n in [*self.names, *(n for n, _ in self.buffers)]}
            slots: dict[str, list[Slot]] = {name: [] for name in wanted.values()}
            for part in module.modules():
                flat = vars(part).get("_flat_weights", []) if isinstance(part, nn.RNNBase) else []
                held: list[Slot] = [(place, k) for place in (part._parameters, part._buffers) for k in place]
                for place, key in held + [(flat, k) for k in range(len(flat))]:
                    if id(place[key]) in wanted:
                        slots[wanted[id(place[key])]].append((place, key))
            self._local.slots = slots
        return self._local.slots  # type: ignore[no-any-return]


def _tensor(module: nn.Module, name: str) -> torch.Tensor:
    owner, _, last = name.rpartition(".")
    return getattr(module.get_submodule(owner), last)  # type: ignore[no-any-return]
