"""Data and training loops of one's own: problems whose clients are nodes with data nobody else sees.

`OwnData`: a torch module and one node's arrays. `OwnLoop`: a torch module and `train_locally(state_dict) -> (state_dict,
n, metrics)`, which becomes the local step of any method that trains locally (FedAvg, with robust aggregators, cohorts,
attackers). Both are the same object in three roles: all clients (a notebook), one client (a node), none (the server).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from octolab.batches import Batch
from octolab.problems.modules import checked, named_layout
from octolab.problems.network import Network
from octolab.problems.problem import Clients, Problem, fingerprint, make_weights

TrainLocally = Callable[[dict[str, torch.Tensor]], tuple[dict[str, torch.Tensor], int, dict[str, float]]]


class _Module(Problem):
    """A module's parameters as a flat model; samples per client are learnt from the nodes (`settle`)."""

    constants_note = Network.constants_note
    kind = ""

    def __init__(self, module: nn.Module, clients: int, dtype: torch.dtype, weights: str):
        if isinstance(clients, bool) or not isinstance(clients, int) or clients < 1:
            raise ValueError(f"clients={clients!r}: give a whole number >= 1.")
        if weights not in ("examples", "uniform"):
            raise ValueError(f"weights={weights!r}: choose 'examples' or 'uniform'.")
        self.module = checked(module).to(dtype)
        self.n, self.dtype, self.name, self._by = clients, dtype, f"{type(module).__name__} ({self.kind})", weights
        self.layout = named_layout(self.module)
        self.d = self.layout[-1].stop
        self.x0 = nn.utils.parameters_to_vector(self.module.parameters()).detach().clone()
        self._sizes: np.ndarray | None = None
        self._ask: Callable[[torch.Tensor], dict[str, float]] | None = None

    @property
    def sizes(self) -> np.ndarray:  # type: ignore[override]
        return np.ones(self.n, dtype=np.int64) if self._sizes is None else self._sizes

    @property
    def weights(self) -> torch.Tensor:  # type: ignore[override]
        return make_weights(self._by, self.sizes)

    def ask(self, evaluate: Callable[[torch.Tensor], dict[str, float]]) -> None:
        """On the server: who evaluates a model."""
        self._ask = evaluate

    def settle(self, sizes: Sequence[int]) -> None:
        """Fix the samples per client (n,)."""
        self._sizes = np.asarray(sizes, dtype=np.int64)
        self.__dict__.pop("same_size", None)

    @property
    def chunk(self) -> int:
        return 1

    @property
    def spec(self) -> dict[str, Any]:
        given = fingerprint(self.x0.numpy(), np.array([q.stop for q in self.layout]))
        dtype = str(self.dtype).removeprefix("torch.")
        return {"kind": type(self).__name__, "given": given, "n": self.n, "d": self.d, "dtype": dtype}


class OwnData(_Module):
    """One node's data, or, without a client, the server's view of clients whose data are their own.

    module: the same on all nodes, first weights included. clients: how many there are. client: this node's number.
    features, labels: arrays (samples, ...) and (samples,). test: a pair of such arrays, for accuracy. The rest as in
    `ol.problems.Network`. The server evaluates by asking the clients: loss and accuracy, averaged by samples.
    """

    kind = "own data"

    def __init__(
        self,
        module: nn.Module,
        clients: int,
        client: int | None = None,
        features: Any = None,
        labels: Any = None,
        *,
        test: tuple[Any, Any] | None = None,
        loss: Any = "cross_entropy",
        l2: float = 0.0,
        weights: str = "examples",
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__(module, clients, dtype, weights)
        if (client is None) != (features is None) or (client is None) != (labels is None):
            raise ValueError("OwnData: a node gives client, features and labels; the server none of them.")
        self.client = client
        self.mine: Network | None = None
        if client is not None:
            if not 0 <= client < clients:
                raise ValueError(f"OwnData: client={client}: clients are numbered 0 to {clients - 1}.")
            pairs = None if test is None else [test]
            self.mine = Network(module, loss, [features], [labels], l2=l2, test=pairs, dtype=dtype)
            sizes = np.ones(clients, dtype=np.int64)
            sizes[client] = self.mine.sizes[0]
            self._sizes = sizes

    def _own(self, clients: Clients) -> Network:
        mine = self.client is not None and slice(self.client, self.client + 1) == clients
        if self.mine is None or not mine:
            raise ValueError(
                f"{self.name}: these are not this node's data. Run with on=..., where every client is a node."
            )
        return self.mine

    def grad(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        return self._own(clients).grad(x, None, batch)

    def loss(self, x: torch.Tensor, clients: Clients = None, batch: Batch | None = None) -> torch.Tensor:
        return self._own(clients).loss(x, None, batch)

    def local_sgd(self, x: torch.Tensor, clients: Clients, **how: Any) -> torch.Tensor:  # type: ignore[override]
        return self._own(clients).local_sgd(x, None, **how)

    def client_metrics(self, x: torch.Tensor, clients: Clients = None) -> dict[str, np.ndarray]:
        return self._own(clients).client_metrics(x, None)

    def evaluate(self, x: torch.Tensor) -> dict[str, float]:
        return {} if self._ask is None else self._ask(x)


MEDDLING = {
    "correction": "correction",
    "prox": "prox",
    "momentum": "momentum",
    "stop": "number of local steps of each client",
}
"""What methods ask of local training, and a loop of one's own does not take."""


class OwnLoop(_Module):
    """A training loop of one's own in place of the built-in one.

    train: `train_locally(state_dict) -> (state_dict, n, metrics)`, n the samples it trained on, metrics a dict of
    numbers. One function for all clients (on a node: this node's), or a list with one for each. samples: n of each
    client; None: every loop is tried once, on the first weights. The same state_dict must give the same result, or two
    worlds cannot agree. evaluate: state_dict -> metrics of the server model, such as {"loss": ..., "accuracy": ...}.

    Learning rates, batches and the numbers of local steps are the loop's own; the method's are not used. The ledger
    counts the method's `local_epochs` as gradients of work.
    """

    kind = "own loop"

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
        for name, words in MEDDLING.items():
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
