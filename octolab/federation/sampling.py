"""Who takes part in a round: samplers, and the probabilities with which they choose.

A sampler turns the server's addressed draws into client numbers. `probabilities(n)` are the inclusion probabilities
p_i; `expected(n)` how often a client appears on average, which unbiased estimators divide by (p_i unless one is drawn
with replacement). Clients come out in ascending order (repeated if drawn with replacement). A sampler keeps nothing
between rounds: a cohort is a function of (seed, event), also where a whole timetable must add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from octolab.faces import Shown
from octolab.params import param, settle
from octolab.randomness import Randomness
from octolab.rooms import register

Numbers = Sequence[float] | np.ndarray
"""One number per client, or per block."""

if TYPE_CHECKING:
    import torch

    from octolab.fleets.availability import Availability
    from octolab.problems import Problem


def _subset(source: Randomness, event: int, n: int, m: int, purpose: str = "cohort") -> np.ndarray:
    """m distinct of n clients, ascending: the first m distinct of an independent sequence, or of a permutation."""
    if 4 * m <= n:
        drawn = source.server(purpose, event, 2 * m + 16) * n
        distinct = list(dict.fromkeys(drawn.astype(np.int64).tolist()))[:m]
        if len(distinct) == m:
            return np.array(sorted(distinct), dtype=np.int64)
    order = source.server(f"{purpose}/all", event, n).argsort(kind="stable")
    return np.sort(order[:m])


class Sampler(Shown):
    """The base of all samplers. independent: every cohort is drawn afresh, whatever the ones before it."""

    independent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        settle(self)

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        raise NotImplementedError

    def probabilities(self, n: int) -> np.ndarray:
        raise NotImplementedError

    def expected(self, n: int) -> np.ndarray:
        """(n,) how often each client appears in a cohort, on average."""
        return self.probabilities(n)

    def period(self, n: int) -> int | None:
        """After how many rounds everybody has taken part exactly once; None if that is left to chance."""
        return None

    def check(self, n: int) -> None:
        """Raise a ValueError, before the run starts, if this sampler cannot serve n clients."""


@register("samplers")
@dataclass(frozen=True)
class Full(Sampler):
    """Everybody, always."""

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        return np.arange(n)

    def probabilities(self, n: int) -> np.ndarray:
        return np.ones(n)

    def period(self, n: int) -> int | None:
        return 1


@register("samplers")
@dataclass(frozen=True)
class Nice(Sampler):
    """m clients, uniformly without replacement ("tau-nice"). p_i = m/n. A float in (0, 1) is a share of n."""

    m: int | float = param(..., "clients of a cohort, or their share in (0, 1)", main=True, example=0.5)

    def __post_init__(self) -> None:
        settle(self)
        share = isinstance(self.m, float) and not self.m.is_integer()
        if isinstance(self.m, bool) or self.m <= 0 or (share and self.m >= 1):
            raise ValueError(f"cohort={self.m!r}: a cohort is a whole number >= 1 or a share of the clients in (0, 1).")

    def size(self, n: int) -> int:
        return max(1, round(self.m * n)) if 0 < self.m < 1 else int(self.m)

    def check(self, n: int) -> None:
        if self.size(n) > n:
            raise ValueError(f"cohort={self.m}: there are only {n} clients. Choose a cohort of 1 to {n}.")

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        self.check(n)
        m = self.size(n)
        return np.arange(n) if m == n else _subset(source, event, n, m)

    def probabilities(self, n: int) -> np.ndarray:
        return np.full(n, self.size(n) / n)


@register("samplers")
@dataclass(frozen=True)
class Reshuffled(Nice):
    """A permutation of the clients cut into cohorts of m, a new one when all have had their turn ("random reshuffling").

    If m does not divide n, the last cohort of a turn is smaller. p_i = 1/ceil(n/m), on average over a turn.
    """

    independent: ClassVar[bool] = False

    def period(self, n: int) -> int | None:
        return -(-n // self.size(n))

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        self.check(n)
        m = self.size(n)
        turn, place = divmod(event, -(-n // m))
        order = source.server("cohort/turn", turn, n).argsort(kind="stable")
        return np.sort(order[place * m : (place + 1) * m])

    def probabilities(self, n: int) -> np.ndarray:
        return np.full(n, 1 / -(-n // self.size(n)))


@register("samplers")
@dataclass(frozen=True)
class Poisson(Sampler):
    """Every client by its own coin with probability p (one number, or one per client). May be empty."""

    p: float | Numbers = param(..., "probability, for all or one each", gt=0, le=1, main=True, example=0.5)

    def __post_init__(self) -> None:
        settle(self)

    def check(self, n: int) -> None:
        if np.ndim(self.p) and np.size(self.p) != n:
            raise ValueError(f"p has {np.size(self.p)} entries: there are {n} clients. Give one probability, or {n}.")

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        return np.flatnonzero(source.cohort(event, n) < self.p)

    def probabilities(self, n: int) -> np.ndarray:
        return np.broadcast_to(np.asarray(self.p, dtype=float), (n,)).copy()


@register("samplers")
@dataclass(frozen=True)
class Importance(Sampler):
    """m draws with replacement, client i with probability q_i; a client may appear more than once."""

    q: Numbers = param(..., "probabilities of the clients, sum 1")
    m: int = param(1, "draws", ge=1)

    def __post_init__(self) -> None:
        settle(self)
        q = np.asarray(self.q, dtype=float)
        if q.ndim != 1 or (q < 0).any() or not np.isclose(q.sum(), 1):
            raise ValueError(f"q sums to {q.sum():.6g}: importance probabilities are >= 0 and sum to 1.")
        if self.m < 1:
            raise ValueError(f"m={self.m}: draw at least one client.")

    @cached_property
    def _cumulative(self) -> np.ndarray:
        return np.cumsum(np.asarray(self.q, dtype=float))

    def check(self, n: int) -> None:
        if len(self.q) != n:
            raise ValueError(f"q has {len(self.q)} entries: there are {n} clients.")

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        u = source.cohort(event, self.m) * self._cumulative[-1]
        return np.sort(np.searchsorted(self._cumulative, u, side="right"))

    def probabilities(self, n: int) -> np.ndarray:
        return 1 - (1 - np.asarray(self.q, dtype=float)) ** self.m

    def expected(self, n: int) -> np.ndarray:
        return self.m * np.asarray(self.q, dtype=float)


@register("samplers")
@dataclass(frozen=True)
class Weighted(Importance):
    """m distinct clients drawn one after the other, client i with probability proportional to q_i among those left.

    Inclusion probabilities have no closed form: `probabilities` refuses, so biased estimators stay visible.
    """

    def check(self, n: int) -> None:
        super().check(n)
        if self.m > np.count_nonzero(self.q):
            raise ValueError(f"m={self.m}: only {np.count_nonzero(self.q)} clients have a positive weight.")

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        chosen: np.ndarray = np.empty(0, dtype=np.int64)
        width = 2 * self.m + 16
        while len(chosen) < self.m:  # the first m distinct of an independent sequence
            u = source.cohort(event, width) * self._cumulative[-1]
            drawn = np.searchsorted(self._cumulative, u, side="right")
            _, first = np.unique(drawn, return_index=True)
            chosen = drawn[np.sort(first)]
            width *= 4
        return np.sort(chosen[: self.m])

    def probabilities(self, n: int) -> np.ndarray:
        raise ValueError("Weighted sampling without replacement has no closed inclusion probabilities: use Importance.")

    def expected(self, n: int) -> np.ndarray:
        return self.probabilities(n)


def _listed(blocks: Any, n: int) -> Any:
    return np.array_split(np.arange(n), int(blocks)) if isinstance(blocks, (int, np.integer)) else blocks


def as_blocks(blocks: Any, n: int, name: str = "blocks") -> list[np.ndarray]:
    """Disjoint blocks of clients, ascending. A whole number k: k blocks of neighbours, as equal as can be."""
    if isinstance(blocks, (int, np.integer)) and not 1 <= blocks <= n:
        raise ValueError(f"{name}={blocks}: {n} clients make 1 to {n} {name}.")
    parts = [np.sort(np.asarray(b, dtype=np.int64).reshape(-1)) for b in _listed(blocks, n)]
    if not parts or any(len(p) == 0 for p in parts) or sorted(np.concatenate(parts).tolist()) != list(range(n)):
        raise ValueError(
            f"{name} must hold each of the {n} clients exactly once, and none may be empty: give lists of client "
            f"numbers 0 to {n - 1}, or how many {name} of neighbours."
        )
    return parts


@register("samplers")
@dataclass(frozen=True)
class Block(Sampler):
    """One of the given blocks (or of that many), block j with probability q_j (default: equal)."""

    blocks: Any = param(..., "lists of clients, or how many blocks of neighbours")
    q: Numbers | None = param(None, "probabilities of the blocks; None: equal")

    def _q(self, count: int) -> np.ndarray:
        return np.full(count, 1 / count) if self.q is None else np.asarray(self.q, dtype=float)

    def check(self, n: int) -> None:
        count = len(as_blocks(self.blocks, n))
        q = self._q(count)
        if q.shape != (count,) or not (q > 0).all() or not np.isclose(q.sum(), 1):
            raise ValueError(f"q={self.q!r}: give {count} probabilities > 0, one per block, that sum to 1.")

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        blocks, u = _listed(self.blocks, n), float(source.cohort(event, 1)[0])
        j = min(int(np.searchsorted(np.cumsum(self._q(len(blocks))), u, side="right")), len(blocks) - 1)
        return np.sort(np.asarray(blocks[j], dtype=np.int64))

    def probabilities(self, n: int) -> np.ndarray:
        p, blocks = np.empty(n), as_blocks(self.blocks, n)
        for block, q in zip(blocks, self._q(len(blocks)), strict=True):
            p[block] = q
        return p


@register("samplers")
@dataclass(frozen=True)
class Stratified(Sampler):
    """One uniform client from each block. p_i = 1/|block of i|."""

    blocks: Any = param(..., "lists of clients, or how many blocks of neighbours")

    @classmethod
    def by_gradients(cls, problem: Problem, blocks: int, x: torch.Tensor | None = None, seed: int = 0) -> Stratified:
        """Blocks of clients that are alike: k-means of their gradients at x (d,), by default at the start.

        Good strata make the gradients within a block agree, and then few clients stand for all (SPPM-AS).
        """
        from sklearn.cluster import KMeans

        if not 1 <= blocks <= problem.n:
            raise ValueError(f"blocks={blocks!r}: {problem.n} clients make 1 to {problem.n} blocks.")
        gradients = problem.grad(problem.x0 if x is None else problem.as_x(x)).double().numpy()
        labels = KMeans(blocks, n_init=10, random_state=seed).fit(gradients).labels_
        found = [np.flatnonzero(labels == j).tolist() for j in np.unique(labels)]
        return cls(tuple(sorted(found)))

    def check(self, n: int) -> None:
        as_blocks(self.blocks, n)

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        blocks = _listed(self.blocks, n)
        u = source.cohort(event, len(blocks))
        return np.sort([int(b[int(v * len(b))]) for b, v in zip(blocks, u, strict=True)])

    def probabilities(self, n: int) -> np.ndarray:
        p = np.empty(n)
        for block in as_blocks(self.blocks, n):
            p[block] = 1 / len(block)
        return p


@register("samplers")
@dataclass(frozen=True)
class Cyclic(Sampler):
    """Fixed groups (or that many) visited in order; in a group's turn, m of its clients uniformly (None: all)."""

    independent: ClassVar[bool] = False

    groups: Any = param(..., "lists of clients, or how many groups of neighbours")
    m: int | None = param(None, "clients of a group that take part; None: all", ge=1)

    def check(self, n: int) -> None:
        smallest = min(len(g) for g in as_blocks(self.groups, n, "groups"))
        if self.m is not None and not 1 <= self.m <= smallest:
            raise ValueError(f"m={self.m}: the smallest group has {smallest} clients. Choose m in 1..{smallest}.")

    def period(self, n: int) -> int | None:
        groups = as_blocks(self.groups, n, "groups")
        return len(groups) if self.m is None or all(len(g) == self.m for g in groups) else None

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        groups = _listed(self.groups, n)
        group = np.sort(np.asarray(groups[event % len(groups)], dtype=np.int64))
        if self.m is None or self.m == len(group):
            return group
        return group[_subset(source, event, len(group), self.m)]

    def probabilities(self, n: int) -> np.ndarray:
        """In its own turn; a client of another group has probability 0 then."""
        p = np.empty(n)
        for group in as_blocks(self.groups, n, "groups"):
            p[group] = 1.0 if self.m is None else self.m / len(group)
        return p


def must_come(counts: np.ndarray, left: int, m: int, at_least: int) -> np.ndarray:
    """Who has to be in this cohort of m so that everybody can still reach `at_least`, ascending.

    counts: (n,) participations so far. left: rounds left, this one included. Those who need every round that is left,
    and the neediest (ties: the lower number) until the needs of the others fit into m (left - 1) places.
    """
    need = np.maximum(0, at_least - counts)
    forced = min(m, max(int(((need > 0) & (need >= left)).sum()), int(need.sum()) - m * (left - 1), 0))
    return np.sort((-need).argsort(kind="stable")[:forced])


@register("samplers")
@dataclass(frozen=True)
class Filled(Sampler):
    """The given members, and others up to m, drawn one after the other with probability proportional to q_i (None: equal).

    The smallest -log(1 - u_i)/q_i come first, which is successive sampling exactly (Efraimidis and Spirakis, 2006).
    """

    members: Numbers = param(..., "clients that take part")
    m: int = param(..., "clients of a cohort", ge=1)
    q: Numbers | None = param(None, "weights of the others; None: equal")

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        keys = -np.log1p(-source.cohort(event, n)) / (1.0 if self.q is None else np.asarray(self.q, dtype=float))
        keys[np.asarray(self.members, dtype=np.int64)] = -1.0
        return np.sort(keys.argsort(kind="stable")[: self.m])

    def probabilities(self, n: int) -> np.ndarray:
        if self.q is not None:
            raise ValueError("Filled with weights q has no closed inclusion probabilities: leave q out.")
        given = len(self.members)
        p = np.full(n, (self.m - given) / max(1, n - given))
        p[np.asarray(self.members, dtype=np.int64)] = 1.0
        return p


@register("samplers")
@dataclass(frozen=True)
class ParticipationFloor(Nice):
    """Cohorts of exactly m in which everybody takes part at least `at_least` times in every `rounds` rounds.

    Those who would fall short must come (`must_come`), the other places are drawn without replacement, client i with
    probability proportional to q_i (None: equal). A run's timetable of `rounds` cohorts is a function of its seed: so
    the counts need no place to live, and a resumed run goes on with the same timetable.
    """

    independent: ClassVar[bool] = False

    at_least: int = param(1, "rounds that everybody takes part in, at least", ge=0, main=True)
    rounds: int = param(100, "out of so many", ge=1)
    q: Numbers | None = param(None, "weights of the clients; None: equal")
    _tables: dict[tuple[int, int, int], np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def check(self, n: int) -> None:
        check_floor(n, self.size(n), self.at_least, self.rounds, self.q)

    def draw(self, n: int, source: Randomness, event: int) -> np.ndarray:
        window, place = divmod(event, self.rounds)
        key = (source.seed, n, window)
        table = self._tables.get(key)
        if table is None:
            self.check(n)
            table = self._timetable(n, source, window)
            self._tables.clear()  # the newest is enough: any other can be made again
            self._tables[key] = table
        return table[place].astype(np.int64)

    def _timetable(self, n: int, source: Randomness, window: int) -> np.ndarray:
        counts, m = np.zeros(n, dtype=np.int64), self.size(n)
        table = np.empty((self.rounds, m), dtype=np.int32)
        for t in range(self.rounds):
            members = must_come(counts, self.rounds - t, m, self.at_least)
            table[t] = Filled(members, m, self.q).draw(n, source, window * self.rounds + t)
            counts[table[t]] += 1
        return table

    def probabilities(self, n: int) -> np.ndarray:
        raise ValueError(
            "ParticipationFloor has no fixed inclusion probabilities: they depend on who came before. The method "
            "FairFloor weighs with the conditional ones."
        )


def check_floor(n: int, m: int, at_least: int, rounds: int, q: Any = None) -> None:
    """Raise a ValueError unless n clients can each take part `at_least` times in `rounds` cohorts of m."""
    if q is not None and (np.shape(q) != (n,) or not (np.asarray(q) > 0).all()):
        raise ValueError(f"q={q!r}: give {n} weights > 0, one per client, or None for equal ones.")
    if not 1 <= m <= n:
        raise ValueError(f"m={m}: a cohort has 1 to {n} of the {n} clients.")
    if at_least < 0 or at_least > rounds or n * at_least > m * rounds:
        most = min(rounds, m * rounds // n)
        raise ValueError(
            f"at_least={at_least}: {rounds} cohorts of {m} have {m * rounds} places, so that each of {n} clients can be "
            f"promised 0 to {most}. Lower the floor, or take larger cohorts or more rounds."
        )


def draw_online(m: int, n: int, availability: Availability, now: float, source: Randomness, event: int) -> np.ndarray:
    """m of those who are online, uniformly without replacement, ascending; all of them if there are fewer.

    The first m distinct ones online of an independent sequence: a million devices are not looked at for a thousand.
    """
    width = 4 * m + 64
    while width < n // 2:
        drawn = (source.server("cohort/online", event, width) * n).astype(np.int64)
        _, first = np.unique(drawn, return_index=True)
        distinct = drawn[np.sort(first)]
        found = distinct[availability.online(distinct, now)]
        if len(found) >= m:
            return np.sort(found[:m])
        width *= 4
    everybody = np.arange(n)
    online = everybody[availability.online(everybody, now)]
    keys = source.server("cohort/online/all", event, n)[online]
    return np.sort(online[keys.argsort(kind="stable")[:m]])


def as_sampler(cohort: Sampler | int | float | None) -> Sampler:
    """None: everybody. A whole number m: m clients, uniformly. A float in (0, 1): that share of the clients."""
    if cohort is None:
        return Full()
    if isinstance(cohort, Sampler):
        return cohort
    if isinstance(cohort, (int, float, np.integer)) and not isinstance(cohort, bool):
        return Nice(float(cohort) if isinstance(cohort, float) else int(cohort))
    raise ValueError(f"cohort={cohort!r}: give None (all), a number of clients, a share in (0, 1), or a Sampler.")


def may_repeat(cohort: Sampler | int | float | None) -> bool:
    """Whether one cohort may hold a client twice: draws with replacement."""
    return isinstance(cohort, Importance) and not isinstance(cohort, Weighted)
