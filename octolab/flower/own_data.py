"""Data of one's own: a problem whose clients are nodes with data that nobody else sees.

The same object in two roles: one client with its data (a node), and none (the server).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from octolab.arguments import expects, like, number, whole
from octolab.batches import Batch
from octolab.problems.modules import checked, named_layout
from octolab.problems.network import Network
from octolab.problems.problem import Clients, Problem, fingerprint, make_weights


class OwnModule(Problem):
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


class OwnData(OwnModule):
    """One node's data, or, without a client, the server's view of clients whose data are their own.

    module: the same on all nodes, first weights included. clients: how many there are. client: this node's number.
    features, labels: arrays (samples, ...) and (samples,). test: a pair of such arrays, for accuracy. The rest as in
    `ol.problems.Network`. The server evaluates by asking the clients: loss and accuracy, averaged by samples.
    """

    kind = "own data"

    @expects(module=like("a torch.nn.Module", "state_dict"), clients=whole(1), client=whole(0), l2=number(ge=0))
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
        if not callable(loss) and not isinstance(loss, str):
            raise ValueError(f"OwnData: loss={loss!r}: give a loss of `ol.problems.Network`, or a function.")
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
