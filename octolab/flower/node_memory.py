"""What clients remember while it lies on their nodes: which version counts, what is owed, and the run's view of it.

A version is named by the message that made it. A reply may bring a copy of what its client remembers now; while that
version counts, nobody need ask for it, and a node that lost it can be given it back.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator

import torch

from octolab.errors import OctolabError
from octolab.federation.memory import Memory

Rows = dict[str, torch.Tensor]
"""One client's memory by name, each (1, ...)."""


class NodeError(OctolabError, ValueError):
    """A node could not do what it was asked; the message names the client and what it said."""


class Remembered:
    """The server's books of the clients' memory.

    layout: name -> [shape, dtype] of what clients remember. base: (n,) the version of each that counts, 0: none yet.
    missing: clients whose memory could not be had when it was last asked for.
    """

    def __init__(self, clients: int):
        self.n = clients
        self.layout: dict[str, list] = {}
        self.base = [0] * clients
        self.missing: frozenset[int] = frozenset()
        self._owed: dict[int, Rows] = {}  # handed in from a run file, and sent with the next message
        self._copies: list[dict[int, Rows]] = [{} for _ in range(clients)]  # by client: version -> its rows

    def settle(self, client: int, version: int) -> None:
        """From now on this version counts."""
        self.base[client] = version
        self._owed.pop(client, None)

    def take_copy(self, client: int, version: int, rows: Rows) -> None:
        """A reply brought along what its client remembers in this version."""
        kept = {v: held for v, held in self._copies[client].items() if v == self.base[client]}
        self._copies[client] = kept | {version: rows}

    def owed(self, client: int) -> Rows | None:
        """What has to go to a client with its next message."""
        return self._owed.get(client)

    def give_back(self, client: int) -> bool:
        """A client lost its memory: owe it the copy of the version that counts, if there is one."""
        copy = self._copy(client)
        if copy is None:
            return False
        self._owed[client] = copy
        return True

    def _copy(self, client: int) -> Rows | None:
        """What a client remembers in the version that counts, if a copy of it is here."""
        return self._copies[client].get(self.base[client])

    def to_fetch(self) -> list[int]:
        """Clients whose memory only their nodes have."""
        return [c for c in range(self.n) if self.base[c] and c not in self._owed and self._copy(c) is None]

    def put(self, table: dict[str, torch.Tensor]) -> None:
        """Hand every client its rows of name -> (n, ...), with the next message."""
        self._owed = {c: {name: v[c : c + 1] for name, v in table.items()} for c in range(self.n)} if table else {}
        self.layout = {k: [list(v.shape[1:]), str(v.dtype).removeprefix("torch.")] for k, v in table.items()}

    def table(self) -> dict[str, torch.Tensor]:
        """name -> (n, ...), zero where nothing is known."""
        out = {name: torch.zeros(self.n, *shape, dtype=getattr(torch, d)) for name, (shape, d) in self.layout.items()}
        for client in range(self.n):
            rows = self._owed.get(client) or self._copy(client) or {}
            for name, value in rows.items():
                out[name][client : client + 1] = value
        return out


class NodesMemory(Memory):
    """The clients' memory, where it is: on the nodes. Reading fetches it, for a checkpoint or a look; that is charged
    to nobody. Assigning (a run that is resumed) sends each client its rows with the next message.
    """

    remembered: Remembered
    _fetch: Callable[[], dict[str, torch.Tensor]]

    def __init__(self, remembered: Remembered, fetch: Callable[[], dict[str, torch.Tensor]]):
        super().__init__(remembered.n)
        object.__setattr__(self, "remembered", remembered)
        object.__setattr__(self, "_fetch", fetch)

    @property
    def missing(self) -> frozenset[int]:
        """Clients whose rows could not be had when the memory was last read; they are zero there."""
        return self.remembered.missing

    def changed(self) -> None:
        """A reply has changed what some client remembers."""
        object.__setattr__(self, "version", self.version + 1)

    def __getitem__(self, name: str) -> torch.Tensor:
        held = dict(self.items())
        if name not in held:
            raise KeyError(f"The clients' memory holds no {name!r}; it holds {', '.join(held) or 'nothing yet'}.")
        if self.missing:
            raise NodeError(f"Client {min(self.missing)}'s memory is lost with its node, so it cannot be shown.")
        return held[name]

    def __setitem__(self, name: str, value: torch.Tensor) -> None:
        super().__setitem__(name, value)  # checks the shape
        self._store.pop(name)
        self.remembered.put({**self._fetch(), name: value})

    def __contains__(self, name: object) -> bool:
        return name in self.remembered.layout

    def __iter__(self) -> Iterator[str]:
        return iter(self.remembered.layout)

    def items(self) -> ItemsView[str, torch.Tensor]:
        return self._fetch().items()

    def commit(self, *_: object) -> None:
        raise TypeError("The clients' memory is on the nodes: it changes with their replies.")
