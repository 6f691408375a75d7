"""Any optimiser of torch's shape for local training: exact, and one client at a time."""

from __future__ import annotations

from typing import Any

import torch

from octolab.local.optimizers import LocalOptimizer, State


class Torch(LocalOptimizer):
    """`Torch(torch.optim.RMSprop, alpha=0.9)`: every client trains with an optimiser of its own, of any torch class.

    Each step hands the optimiser the flat model (d,) with its gradient; the step size is the method's `lr`. Optimisers
    that evaluate the loss themselves (LBFGS) are refused. One Python call a client and step: the slow path.
    keep_state: whether a client goes on with its optimiser's state in the next round.
    """

    def __init__(self, optimizer: type[torch.optim.Optimizer], *, keep_state: bool = False, **options: Any):
        if not (isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer)):
            raise ValueError(f"Torch: optimizer={optimizer!r}: give a class, such as torch.optim.RMSprop.")
        if optimizer is torch.optim.LBFGS:
            raise ValueError(
                "Torch: LBFGS evaluates the loss several times a step, which local training does not offer."
            )
        if "lr" in options:
            raise ValueError(f"Torch: lr={options['lr']!r} is the method's: leave it out here and set lr there.")
        try:
            made: Any = optimizer
            made([torch.zeros(1, requires_grad=True)], lr=0.1, **options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Torch: {optimizer.__name__} cannot be made from {options}: {error}.") from None
        set_once = {"optimizer": optimizer, "options": options, "keep_state": keep_state}
        for name, value in set_once.items():
            object.__setattr__(self, name, value)

    optimizer: type[torch.optim.Optimizer]
    options: dict[str, Any]
    keep_state: bool

    def __repr__(self) -> str:
        shown = [f"torch.optim.{self.optimizer.__name__}", *(f"{k}={v!r}" for k, v in self.options.items())]
        return f"Torch({', '.join([*shown, 'keep_state=True'] if self.keep_state else shown)})"

    def __eq__(self, other: object) -> bool:
        mine = (self.optimizer, self.options, self.keep_state)
        return isinstance(other, Torch) and mine == (other.optimizer, other.options, other.keep_state)

    def __hash__(self) -> int:
        return hash((self.optimizer, repr(self.options), self.keep_state))

    def step(
        self, y: torch.Tensor, g: torch.Tensor, lr: float | torch.Tensor, state: State
    ) -> tuple[torch.Tensor, State]:
        rates = lr.reshape(-1).tolist() if isinstance(lr, torch.Tensor) else [lr] * len(y)
        models, states = [], []
        for i, rate in enumerate(rates):
            model, after = self._one(y[i], g[i], rate, {name: value[i] for name, value in state.items()})
            models.append(model)
            states.append(after)
        return torch.stack(models), {name: torch.stack([s[name] for s in states]) for name in states[0]}

    def _one(self, y: torch.Tensor, g: torch.Tensor, lr: float, state: State) -> tuple[torch.Tensor, State]:
        """One client's step, with an optimiser that is put into the state where the last one stood."""
        model = y.detach().clone().requires_grad_()
        make: Any = self.optimizer  # each class has its own arguments
        optimizer = make([model], lr=lr, **self.options)
        if state and bool(state["begun"]):
            optimizer.state[model] = {name: value.clone() for name, value in state.items() if name != "begun"}
        model.grad = g.detach().clone()
        optimizer.step()
        kept = {
            k: v if isinstance(v, torch.Tensor) else torch.tensor(v)
            for k, v in optimizer.state[model].items()
            if v is not None
        }
        return model.detach(), {**kept, "begun": torch.ones((), dtype=torch.bool)}
