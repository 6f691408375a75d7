"""Addressed randomness: a draw is a function of where it is used, not of what was drawn before.

Every draw has an address (seed, purpose, client, event, draw), where *event* is the number of the call, or of the
client's job. Philox4x64-10 (Salmon, Moraes, Dror, Shaw, SC 2011) is keyed by (seed, purpose) and counts over the rest:

    key     = 128-bit BLAKE2b hash of (seed, purpose)
    counter = [client * stride + block, event, draw, kind],   stride = ceil(width / 4),   four numbers a block

so the same minibatch comes out whichever order, batch or machine evaluates it, and removing one client changes no other
client's draws. Neighbouring clients lie next to each other in the counter: a cohort of all clients is one native call.

`Scripted` replaces it all by given coins, cohorts, permutations, batches, noise: a trajectory can then be compared with
any other implementation's.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from octolab.errors import ScriptExhausted

SERVER = 2**40  # the server's own row: no client number reaches it
CALL, JOB = 0, 1  # kinds of event


@lru_cache(maxsize=256)
def _key(seed: int, purpose: str) -> np.ndarray:
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


_mine = threading.local()


def _generator(key: np.ndarray, counter: tuple[int, int, int, int]) -> np.random.Generator:
    """This thread's Philox, set to an address. A new one would gather entropy first, 20 times as dear."""
    if not hasattr(_mine, "philox"):
        _mine.philox = bits = np.random.Philox(key=key)
        _mine.generator, _mine.state = np.random.Generator(bits), bits.state
    state = _mine.state
    state["state"]["counter"][:], state["state"]["key"][:] = counter, key
    _mine.philox.state = state
    return _mine.generator


def _runs(clients: np.ndarray) -> list[tuple[int, int]]:
    """Cut ascending-by-one stretches: [(start row, stop row)]."""
    if len(clients) == 0:
        return []
    if clients[-1] - clients[0] == len(clients) - 1 and (len(clients) < 3 or (np.diff(clients) == 1).all()):
        return [(0, len(clients))]
    cuts = np.flatnonzero(np.diff(clients) != 1) + 1
    return list(zip([0, *cuts.tolist()], [*cuts.tolist(), len(clients)], strict=True))


class Randomness:
    """The source of every draw of a run.

    >>> Randomness(seed=0).uniform("demo", clients=[3], event=1, width=2).shape
    torch.Size([1, 2])
    """

    def __init__(self, seed: int = 0):
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"seed={seed!r}: a seed is a whole number >= 0.")
        self.seed = int(seed)

    def __repr__(self) -> str:
        return f"Randomness(seed={self.seed})"

    def uniform(
        self,
        purpose: str,
        clients: Sequence[int] | np.ndarray,
        event: int,
        width: int,
        draw: int = 0,
        kind: int = CALL,
        reserved: int | None = None,
    ) -> torch.Tensor:
        """Uniforms in [0, 1), shape (len(clients), width), float64; 53 random bits each.

        reserved: the width set aside for each client, where clients draw different widths.
        """
        ids = np.asarray(clients, dtype=np.int64)
        key, stride = _key(self.seed, purpose), max(1, -(-(reserved or width) // 4))
        runs = _runs(ids)
        if reserved is not None and len(ids) == 1:
            first = int(ids[0]) * stride
            return torch.from_numpy(_generator(key, (first, event, draw, kind)).random((1, width)))
        if len(runs) == 1:
            first = int(ids[0]) * stride
            return torch.from_numpy(_generator(key, (first, event, draw, kind)).random((len(ids), stride * 4)))[
                :, :width
            ]
        out = np.empty((len(ids), stride * 4))
        for start, stop in runs:
            first = int(ids[start]) * stride
            _generator(key, (first, event, draw, kind)).random(out=out[start:stop].reshape(-1))
        return torch.from_numpy(out)[:, :width]

    # -- what the server draws: one number per event -----------------------------------------------------------------
    def server(self, purpose: str, event: int, width: int) -> np.ndarray:
        """The server's own uniforms (width,), at the address of a client numbered `SERVER`."""
        stride = max(1, -(-width // 4))
        return _generator(_key(self.seed, purpose), (SERVER * stride, event, 0, CALL)).random(width)

    def coin(self, p: float, event: int) -> bool:
        return bool(self.server("coin", event, 1)[0] < p)

    def cohort(self, event: int, width: int) -> np.ndarray:
        """The uniforms (width,) that a sampler turns into a cohort; see `octolab.federation.sampling`."""
        return self.server("cohort", event, width)

    def scripted_cohort(self, event: int) -> np.ndarray | None:
        return None

    def scripted(self, kind: str, address: tuple[int | str, ...]) -> Any:
        """What is given for a draw at (event, draw, client or -1 for a whole cohort, purpose); None: nothing."""
        return None

    def scripts(self, kind: str | None = None) -> bool:
        """Whether draws (of this kind) are given rather than drawn."""
        return False

    def draws(self, clients: int | Sequence[int] | np.ndarray, event: int = 0) -> Draws:
        """Randomness bound to rows: an int m stands for clients 0..m-1."""
        ids = np.arange(clients) if isinstance(clients, (int, np.integer)) else np.asarray(clients)
        return Draws(self, ids, event)

    # -- a step that is taken back -----------------------------------------------------------------------------------
    def mark(self) -> Any:
        """How much was used so far (nothing: draws are addressed)."""
        return None

    def rewind(self, mark: Any) -> None:
        """As if nothing had been used since `mark`."""

    # -- what a checkpoint must keep (nothing: draws are addressed) --------------------------------------------------
    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


class Draws:
    """Randomness bound to the rows (clients) of one event. Each call of a method is a fresh draw.

    clients: (m,) client numbers; slots: (m,) positions in the whole cohort; cohort_size: its size.
    """

    def __init__(
        self,
        source: Randomness,
        clients: np.ndarray,
        event: int,
        kind: int = CALL,
        slots: np.ndarray | None = None,
        cohort_size: int | None = None,
    ):
        self.source, self._clients, self._event, self._kind = source, clients, event, kind
        self.m = len(clients)
        self._given_slots = slots
        self.cohort_size = self.m if cohort_size is None else cohort_size
        self._count: dict[str, int] = {}

    @property
    def _slots(self) -> np.ndarray:
        return np.arange(self.m) if self._given_slots is None else self._given_slots

    @property
    def slots(self) -> torch.Tensor:
        return torch.as_tensor(self._slots, dtype=torch.int64)

    def _next(self, purpose: str) -> int:
        number = self._count.get(purpose, 0)
        self._count[purpose] = number + 1
        return number

    def _given(self, kind: str, purpose: str, draw: int) -> Any:
        if not self.source.scripts(kind):
            return None
        first = int(self._clients[0]) if self.m else -1
        who = first if self._kind == JOB or first == SERVER else -1  # the server's draws are not the clients'
        return self.source.scripted(kind, (self._event, draw, who, purpose))

    def _rows(self, entry: Any, width: int) -> np.ndarray:
        """The rows of a scripted entry: one row per slot of the cohort, or one that all share."""
        rows = np.asarray(entry)
        if rows.ndim == 2:
            return rows[self._slots]
        return np.broadcast_to(rows, (self.m, width))

    def _uniform(self, width: int, purpose: str, draw: int) -> torch.Tensor:
        return self.source.uniform(purpose, self._clients, self._event, width, draw, self._kind)

    def uniform(self, width: int, purpose: str = "uniform") -> torch.Tensor:
        """(m, width) float64 in [0, 1)."""
        draw = self._next(purpose)
        given = self._given("uniforms", purpose, draw)
        if given is not None:
            return torch.as_tensor(np.array(self._rows(given, width), dtype=np.float64))
        return self._uniform(width, purpose, draw)

    def normal(self, width: int, purpose: str = "noise") -> torch.Tensor:
        """(m, width) float64 standard normals, by inversion, so that a row depends on its address alone."""
        draw = self._next(purpose)
        given = self._given("noise", purpose, draw)
        if given is not None:
            return torch.as_tensor(np.array(self._rows(given, width), dtype=np.float64))
        return torch.special.ndtri(self._uniform(width, purpose, draw) + 2.0**-54)

    def permutation(self, size: int, purpose: str = "permutation") -> torch.Tensor:
        """(m, size) int64: an independent uniform permutation of range(size) in each row."""
        return self.subset(size, size, purpose)

    def subset(self, size: int, k: int, purpose: str = "permutation") -> torch.Tensor:
        """(m, k) int64: k distinct numbers of range(size) in random order, the first k of a permutation."""
        draw = self._next(purpose)
        given = self._given("permutations", purpose, draw)
        if given is not None:
            return torch.as_tensor(np.array(self._rows(given, size)[:, :k], dtype=np.int64))
        if 4 * k > size or size < 32:
            return self._uniform(size, purpose, draw).argsort(dim=1, stable=True)[:, :k]
        return self._distinct(size, k, purpose, draw)

    def _distinct(self, size: int, k: int, purpose: str, draw: int) -> torch.Tensor:
        """The first k distinct numbers of an independent sequence: exactly a uniform ordered k-subset."""
        candidates = (self._uniform(2 * k + 16, purpose, draw) * size).long()
        order = candidates.argsort(dim=1, stable=True)
        ordered = candidates.gather(1, order)
        repeat = torch.zeros_like(ordered, dtype=torch.bool)
        repeat[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
        fresh = torch.empty_like(repeat).scatter_(1, order, ~repeat)
        take = fresh & (fresh.cumsum(1) <= k)
        short = take.sum(1) < k
        if not bool(short.any()):
            return candidates[take].view(self.m, k)
        out = torch.empty(self.m, k, dtype=torch.int64)
        out[~short] = candidates[~short][take[~short]].view(-1, k)
        rows = short.numpy()
        full = self.source.uniform(purpose + "/full", self._clients[rows], self._event, size, draw, self._kind)
        out[short] = full.argsort(dim=1, stable=True)[:, :k]
        return out

    def shared_permutation(self, size: int, purpose: str = "shared") -> torch.Tensor:
        """(size,) int64: one permutation, the same for every client of this event (a shared seed: no traffic)."""
        draw = self._next(purpose)
        given = self._given("permutations", purpose, draw)
        if given is not None:
            return torch.as_tensor(np.asarray(given, dtype=np.int64))
        u = self.source.uniform(purpose, [SERVER], self._event, size, draw, self._kind)
        return u[0].argsort(stable=True)

    def scripted_batch(self) -> list[np.ndarray] | None:
        """The given sample numbers of each row, if batches were scripted."""
        draw = self._next("batch/script")
        given = self._given("batches", "batch", draw)
        if given is None:
            return None
        if len(given) and np.ndim(given[0]) == 0:
            return [np.asarray(given, dtype=np.int64)] * self.m
        return [np.asarray(given[int(s)], dtype=np.int64) for s in self._slots]


class Scripted(Randomness):
    """Replays given randomness in order of use; what is not given is drawn from `seed` as usual.

    coins: one 0/1 per `fed.coin`. cohorts: one list of client numbers per `fed.sample`. batches: per use, one list of
    sample numbers per client of the cohort (or one list for all). permutations: per use, (m, size) or (size,).
    noise, uniforms: per use, (m, width), (width,) or one number. Noise stands for standard normals, which a problem
    scales by its own sigma; on a problem without noise it is the gradient noise itself, one use per `cohort.batch`.
    times: one duration per random time. Where several purposes draw (a compressor's "uniform", OCS's "upload"), a list
    serves them all in order of use, each use its own entry; a dict {purpose: list} gives each its own list, and what it
    does not name is drawn. The server's own draws are uses of their own, under "server/" + purpose in a dict.
    An asynchronous job is a use of its own, when its result is first read. Runs out: `ScriptExhausted`.

    >>> Scripted(coins=[1, 0]).coin(0.5, event=0)
    True
    """

    KINDS = ("coins", "cohorts", "batches", "permutations", "noise", "uniforms", "times")

    def __init__(self, *, seed: int = 0, **given: Sequence[Any] | dict[str, Sequence[Any]] | None):
        super().__init__(seed)
        unknown = set(given) - set(self.KINDS)
        for kind, values in given.items():
            listed = hasattr(values, "__len__") and not isinstance(values, str)
            if kind in self.KINDS and values is not None and not listed:
                raise ValueError(f"Scripted: {kind}={values!r}: give a list of draws, or a dict purpose -> list.")
        if unknown:
            strange = ", ".join(f"{kind}={given[kind]!r}" for kind in sorted(unknown))
            raise ValueError(f"Scripted got {strange}: what can be given is {', '.join(self.KINDS)}.")
        by_purpose = [k for k in ("coins", "cohorts", "times") if isinstance(given.get(k), dict)]
        if by_purpose:
            raise ValueError(f"Scripted: {', '.join(by_purpose)} have one purpose: give a list.")
        self.given: dict[str, Any] = {
            kind: {p: list(v) for p, v in values.items()} if isinstance(values, dict) else list(values)
            for kind, values in given.items()
            if values is not None
        }
        self._seen: dict[str, dict[tuple[int | str, ...], int]] = {}

    def __repr__(self) -> str:
        return "Scripted(" + ", ".join(f"{kind}: {len(v)}" for kind, v in self.given.items()) + ")"

    def _take(self, kind: str, address: tuple[int | str, ...]) -> Any:
        """Entries are handed out in the order in which addresses first appear, so chunks of one call share theirs."""
        entries, name = self.given.get(kind), kind
        if isinstance(entries, dict):
            purpose = str(address[-1])
            name = f"server/{purpose}" if SERVER in address else purpose
            entries, name = entries.get(name), f"{kind}: {name}"
        if entries is None:
            return None
        seen = self._seen.setdefault(name, {})
        index = seen.setdefault(address, len(seen))
        if index >= len(entries):
            raise ScriptExhausted(
                f"Scripted randomness ran out: {len(entries)} {name} were given and use number {index + 1} asks for "
                f"another. Give more of them or run fewer rounds."
            )
        return entries[index]

    def coin(self, p: float, event: int) -> bool:
        given = self._take("coins", (event,))
        return super().coin(p, event) if given is None else bool(given)

    def scripted_cohort(self, event: int) -> np.ndarray | None:
        given = self._take("cohorts", (event,))
        return None if given is None else np.asarray(given, dtype=np.int64)

    def scripted(self, kind: str, address: tuple[int | str, ...]) -> Any:
        return self._take(kind, address)

    def scripts(self, kind: str | None = None) -> bool:
        return bool(self.given) if kind is None else kind in self.given

    def mark(self) -> dict[str, int]:
        return {kind: len(seen) for kind, seen in self._seen.items()}

    def rewind(self, mark: dict[str, int]) -> None:
        for kind, seen in self._seen.items():
            while len(seen) > mark.get(kind, 0):
                seen.popitem()

    def state(self) -> dict[str, Any]:
        return {kind: [list(a) for a in seen] for kind, seen in self._seen.items()}

    def restore(self, state: dict[str, Any]) -> None:
        for kind, addresses in state.items():
            self._seen[kind] = {tuple(a): i for i, a in enumerate(addresses)}
