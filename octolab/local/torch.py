"""Any optimiser of torch's shape for local training: exact, and one client at a time."""

from __future__ import annotations

from typing import Any

import torch

from octolab.local.optimizers import LocalOptimizer, State
from octolab.notation import from_json, to_json
from octolab.rooms import nearest, register


@register("local")
class Torch(LocalOptimizer):
    """`Torch(torch.optim.RMSprop, alpha=0.9)`: every client trains with an optimiser of its own, of any torch class.

    Each step hands the optimiser the flat model (d,) with its gradient; the step size is the method's `lr`. Optimisers
    that evaluate the loss themselves (LBFGS) are refused. One Python call a client and step: the slow path.
    keep_state: whether a client goes on with its optimiser's state in the next round. Specs name the classes of torch.optim;
    with a class of your own the method has to be handed over to `resume`, `load_run` and `from_spec`.
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
        where = "torch.optim." if self._is_torchs else ""
        shown = [f"{where}{self.optimizer.__name__}", *(f"{k}={v!r}" for k, v in self.options.items())]
        return f"Torch({', '.join([*shown, 'keep_state=True'] if self.keep_state else shown)})"

    @property
    def _is_torchs(self) -> bool:
        return getattr(torch.optim, self.optimizer.__name__, None) is self.optimizer

    @property
    def python(self) -> str:
        """Python text, given `import torch` too; ValueError for a class of one's own."""
        if not self._is_torchs:
            raise ValueError(
                f"{self!r} cannot be written as Python text: {self.optimizer.__name__} is a class of your own."
            )
        return f"ol.local.{self!r}"

    def to_spec(self) -> dict[str, Any]:
        """The optimiser's name and its options, for JSON."""
        name = self.optimizer.__name__
        named = {"optimizer": name} if self._is_torchs else {"own": name}
        return {**named, "options": {k: to_json(v) for k, v in self.options.items()}, "keep_state": self.keep_state}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Torch:
        """The way back, for the optimisers of torch.optim; ValueError for all else."""
        if "own" in spec:
            raise ValueError(
                f"The local optimiser is {spec['own']!r}, a class of your own, which a spec only names: hand the method in, "
                f"method=..."
            )
        name, options = str(spec.get("optimizer")), spec.get("options", {})
        known = {
            k: v for k, v in vars(torch.optim).items() if isinstance(v, type) and issubclass(v, torch.optim.Optimizer)
        }
        if name not in known or not isinstance(options, dict):
            raise ValueError(f"torch.optim has no optimiser {name!r}.{nearest(name, known)} It has {', '.join(known)}.")
        return cls(
            known[name], keep_state=bool(spec.get("keep_state")), **{k: from_json(v) for k, v in options.items()}
        )

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
