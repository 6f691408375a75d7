"""A training loop of one's own: `train_locally(state_dict) -> (state_dict, n, metrics)` as the local step of any method
that trains locally (FedAvg, with robust aggregators, cohorts, attackers).

The same object in three roles: all clients (a notebook), one client (a node), none (the server).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from octolab.arguments import expects, function, like, sequence, whole
from octolab.batches import Batch
from octolab.flower.own_data import OwnModule
from octolab.problems.problem import Clients

TrainLocally = Callable[[dict[str, torch.Tensor]], tuple[dict[str, torch.Tensor], int, dict[str, float]]]
"""state_dict -> (state_dict, samples trained on, metrics)."""

NOT_TAKEN = {
    "correction": "correction",
    "prox": "prox",
    "momentum": "momentum",
    "stop": "number of local steps of each client",
}
"""What methods ask of local training, and a loop of one's own does not take."""


class OwnLoop(OwnModule):
    """A training loop of one's own in place of the built-in one.

    train: `train_locally(state_dict) -> (state_dict, n, metrics)`, n the samples it trained on, metrics a dict of
    numbers. One function for all clients (on a node: this node's), or a list with one for each. samples: n of each
    client; None: every loop is tried once, on the first weights. The same state_dict must give the same result, or two
    worlds cannot agree. evaluate: state_dict -> metrics of the server model, such as {"loss": ..., "accuracy": ...}.

    Learning rates, batches and the numbers of local steps are the loop's own; the method's are not used. The ledger
    counts the method's `local_epochs` as gradients of work.
    """

    kind = "own loop"

    @expects(
        module=like("a torch.nn.Module", "state_dict"),
        clients=whole(1),
        samples=sequence("whole numbers >= 1, one for each client", whole(1)),
        evaluate=function(),
        train=function("a function state_dict -> (state_dict, n, metrics)")
        | sequence("one for each client", function()),
    )
    def __init__(
        self,
        module: nn.Module,
        clients: int,
        train: TrainLocally | Sequence[TrainLocally] | None = None,
        *,
        samples: Sequence[int] | None = None,
        evaluate: Callable[[dict[str, torch.Tensor]], dict[str, float]] | None = None,
        weights: str = "examples",
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__(module, clients, dtype, weights)
        if isinstance(train, Sequence) and len(train) != clients:
            raise ValueError(f"OwnLoop: {len(train)} loops for {clients} clients: give one for each, or one for all.")
        self.train, self._evaluate = train, evaluate
        self._metrics: dict[int, dict[str, float]] = {}
        if samples is not None:
            if len(samples) != clients or min(samples) < 1:
                raise ValueError(f"OwnLoop: samples={list(samples)!r}: give {clients} whole numbers >= 1.")
            self._sizes = np.asarray(samples, dtype=np.int64)

    @property
    def sizes(self) -> np.ndarray:  # type: ignore[override]
        if self._sizes is None and self.train is not None:
            self._sizes = np.ones(self.n, dtype=np.int64)
            several = isinstance(self.train, Sequence)
            found = [self._trained(self.x0, i)[1] for i in range(self.n if several else 1)]
            self._sizes = np.array(found if several else found * self.n, dtype=np.int64)
            self._metrics.clear()
        return super().sizes

    def state_dict(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """A flat model (d,) as a state_dict of the module."""
        return {**self.module.state_dict(), **{name: v.clone() for name, v in self.layers(x).items()}}

    def local_sgd(self, x: torch.Tensor, clients: Clients, **how: Any) -> torch.Tensor:  # type: ignore[override]
        for name, words in NOT_TAKEN.items():
            value = how.get(name)
            if value is not None and (isinstance(value, torch.Tensor) or value):
                raise ValueError(
                    f"A training loop of one's own cannot apply the method's {words}. Use a method that leaves local "
                    f"training alone, such as FedAvg, or write it into the loop."
                )
        known, ids = self.sizes, self.ids(clients).tolist()
        start, out = x.expand(len(ids), -1), torch.empty(len(ids), self.d, dtype=self.dtype)
        for row, client in enumerate(ids):
            out[row], n, metrics = self._trained(start[row], client)
            if n != known[client]:
                raise ValueError(
                    f"Client {client}'s train_locally trained on {n} samples and {known[client]} were announced: weights "
                    f"follow from the announced ones, so they must stay the same. Give samples=[...] if they vary."
                )
            self._metrics[client] = metrics
        return out

    def _trained(self, x: torch.Tensor, client: int) -> tuple[torch.Tensor, int, dict[str, float]]:
        train = self.train[client] if isinstance(self.train, Sequence) else self.train
        if train is None:
            raise ValueError(f"{self.name}: the server has no training loop; run with on=..., where clients are nodes.")
        with torch.enable_grad():
            returned = train(self.state_dict(x))
        if not isinstance(returned, tuple) or len(returned) != 3:
            raise ValueError(f"train_locally returned {type(returned).__name__}: return (state_dict, n, metrics).")
        state, n, metrics = returned
        missing = [q.name for q in self.layout if q.name not in state or tuple(state[q.name].shape) != q.shape]
        if missing:
            raise ValueError(
                f"train_locally's state_dict lacks {missing[0]!r}, or it has another shape than it came with."
            )
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"train_locally returned n={n!r}: the number of samples it trained on, >= 1.")
        flat = torch.cat([state[q.name].detach().reshape(-1).to(self.dtype) for q in self.layout])
        return flat, int(n), {name: float(value) for name, value in dict(metrics).items()}

    def grad(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        raise ValueError(
            "A training loop of one's own gives no gradients: use a method that trains locally, such as FedAvg."
        )

    loss = grad

    # -- metrics ---------------------------------------------------------------------------------------------------
    def take_metrics(self, client: int) -> dict[str, float]:
        """What a node's loop said last; it travels beside the reply."""
        return self._metrics.get(client, {})

    def put_metrics(self, client: int, metrics: dict[str, float]) -> None:
        self._metrics[client] = metrics

    def evaluate(self, x: torch.Tensor) -> dict[str, float]:
        """The loops' newest metrics, averaged by samples, and `evaluate` of the server model where it was given."""
        out: dict[str, float] = {}
        if self._metrics:
            weights, clients = self.weights, sorted(self._metrics)
            for name in sorted(set.intersection(*(set(self._metrics[c]) for c in clients))):
                values = torch.tensor([self._metrics[c][name] for c in clients], dtype=torch.float64)
                out[name] = float(values @ weights[clients] / weights[clients].sum())
        return out | (dict(self._evaluate(self.state_dict(x))) if self._evaluate is not None else {})

    def client_metrics(self, x: torch.Tensor, clients: Clients = None) -> dict[str, np.ndarray]:
        ids = self.ids(clients).tolist()
        names = sorted(set.intersection(*(set(self._metrics.get(i, {})) for i in ids))) if ids else []
        return {name: np.array([self._metrics[i][name] for i in ids]) for name in names}
