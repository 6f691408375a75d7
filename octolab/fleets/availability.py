"""When devices are online. A device that is offline does not answer calls; its job waits and goes on where it stopped.

Every class answers two questions, for many devices at once:

    online(clients, now) -> (m,) bool
    finish(clients, start, seconds) -> (m,) when each has been online for `seconds` since `start`; inf: never

and `next_change(now)`: from when on the answer may be another one (inf: never).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from octolab.arguments import expect, sequence
from octolab.fleets.pieces import Pieces
from octolab.fleets.rows import bad_rows, columns_of, read_csv
from octolab.params import param, settle
from octolab.rooms import register

DAY = 86_400.0
PATIENCE = 10_000  # sessions after which a device that is never online is given up


class Availability(Protocol):
    """What a fleet asks. Own classes need these three."""

    def online(self, clients: np.ndarray, now: float) -> np.ndarray: ...

    def finish(self, clients: np.ndarray, start: np.ndarray, seconds: np.ndarray) -> np.ndarray: ...

    def next_change(self, now: float) -> float: ...


@register("availability")
@dataclass(frozen=True)
class Always:
    """Everybody is online, always."""

    def online(self, clients: np.ndarray, now: float) -> np.ndarray:
        return np.ones(len(clients), dtype=bool)

    def finish(self, clients: np.ndarray, start: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        return np.asarray(start + seconds)

    def next_change(self, now: float) -> float:
        return math.inf


def _mixed(x: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), in place: ten times as fast as Philox here."""
    with np.errstate(over="ignore"):
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return x


@register("availability")
@dataclass(frozen=True, eq=False)
class Diurnal:
    """Devices come and go with the hour: in each session of `session` seconds device i is online with probability

        a(t) = duty (1 + A cos(2 pi (t + phase_i - peak)/86400)),   A = (ratio - 1)/(ratio + 1)

    duty: the mean share of time online. ratio: most over fewest devices online in a day. peak: seconds after midnight.
    phase: seconds, one number or one per device (time zones). A draw is a function of (seed, device, session).
    """

    duty: float = param(0.5, "mean share of time online", gt=0, le=1)
    ratio: float = param(1.0, "most over fewest devices online in a day", ge=1)
    peak: float = param(7200.0, "seconds after midnight at which most are online")
    session: float = param(3600.0, "seconds for which a device stays as it is", gt=0)
    phase: Any = param(0.0, "seconds that a device's clock is ahead, for all or one each")
    seed: int = param(0, "seed of the draws", ge=0)

    def __post_init__(self) -> None:
        settle(self, besides=np.ndarray)
        try:
            known = bool(np.isfinite(np.asarray(self.phase, dtype=float)).all())
        except (TypeError, ValueError):
            known = False
        if not known:
            raise ValueError(f"Diurnal: phase={self.phase!r}: give finite numbers of seconds.")
        if isinstance(self.phase, (list, tuple)):
            object.__setattr__(self, "phase", np.asarray(self.phase, dtype=float))

    def share(self, now: float | np.ndarray, clients: np.ndarray | None = None) -> Any:
        """a(t), with the time zones of `clients` if these are given."""
        phase = self.phase[clients] if isinstance(self.phase, np.ndarray) and clients is not None else self.phase
        swing = (self.ratio - 1) / (self.ratio + 1)
        return self.duty * (1 + swing * np.cos(2 * np.pi * (now + phase - self.peak) / DAY))

    def online(self, clients: np.ndarray, now: float) -> np.ndarray:
        return self._online(np.asarray(clients), np.floor(now / self.session))

    def _online(self, clients: np.ndarray, session: Any) -> np.ndarray:
        """session: its number, one or one per client."""
        number = np.asarray(session, dtype=np.int64).astype(np.uint64)
        with np.errstate(over="ignore"):
            key = _mixed(np.atleast_1d(number * np.uint64(0x9E3779B97F4A7C15) + np.uint64(self.seed + 1)))
            u = _mixed(clients.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03) + key)
        return (u >> np.uint64(11)) * 2.0**-53 < self.share(np.asarray(session) * self.session, clients)

    def finish(self, clients: np.ndarray, start: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        clients = np.asarray(clients)
        now, left = (
            np.broadcast_to(start, clients.shape).astype(float),
            np.broadcast_to(seconds, clients.shape).astype(float),
        )
        session = np.floor(now / self.session)
        todo = np.isfinite(left) & np.isfinite(now)
        now[~todo] = np.inf
        for _ in range(PATIENCE):
            at = np.flatnonzero(todo)
            if len(at) == 0:
                break
            here = self._online(clients[at], session[at])
            end = (session[at] + 1) * self.session
            done = here & (now[at] + left[at] <= end)
            now[at[done]] += left[at[done]]
            todo[at[done]] = False
            on, rest = at[here & ~done], at[~done]
            left[on] -= (session[on] + 1) * self.session - now[on]
            session[rest] += 1
            now[rest] = session[rest] * self.session
        now[todo] = np.inf
        return now

    def next_change(self, now: float) -> float:
        return (math.floor(now / self.session) + 1) * self.session


@register("availability")
@dataclass(frozen=True, eq=False)
class Intervals:
    """Given times: for each device a list of (from, to) in virtual seconds; between them it is offline.

    After a device's last interval it is offline for ever; `to` may be inf. `Intervals.from_csv(path)` reads a trace.

    >>> Intervals([[(0, 10), (20, 30)], [(5, float("inf"))]]).online(np.arange(2), 7.0)
    array([ True,  True])
    """

    intervals: Any

    def __post_init__(self) -> None:
        starts: list[int] = [0]
        times: list[float] = []
        values: list[float] = []
        problems: list[str] = []
        for i, own in enumerate(self.intervals):
            before = -math.inf
            for a, b in sorted((float(a), float(b)) for a, b in own):
                if math.isnan(a) or math.isnan(b) or a < 0 or not a < b:
                    problems.append(f"device {i}: from {a:g} to {b:g}: give 0 <= from < to")
                elif a < before:
                    problems.append(
                        f"device {i}: the interval from {a:g} begins before {before:g}, the end of the one before"
                    )
                if a == before:  # no gap: one interval
                    times[-1] = b
                else:
                    times += [a, b]
                    values += [1.0, 0.0]
                before = b
            starts.append(len(times))
        if problems:
            raise ValueError(bad_rows("Intervals", problems))
        object.__setattr__(self, "_pieces", Pieces(np.array(starts), np.array(times), np.array(values)))
        object.__setattr__(self, "_edges", np.unique(np.array(times)))

    @classmethod
    def from_csv(cls, path: Any, n: int | None = None) -> Intervals:
        """A trace: a table with the columns client, from_s, to_s, one row per interval. n: how many devices there are."""
        table = read_csv(path, "a trace")
        columns = columns_of(table, {"client": True, "from_s": True, "to_s": True}, f"The trace {str(path)!r}")
        client, start, end = columns["client"], columns["from_s"], columns["to_s"]
        whole = np.isfinite(client) & (client >= 0) & (np.floor(client) == client)
        wrong = [
            f"line {k + 2}: client={client[k]:g}, from_s={start[k]:g}, to_s={end[k]:g}: give a client number >= 0 and "
            f"0 <= from_s < to_s"
            for k in np.flatnonzero(~whole | ~(start >= 0) | ~(start < end))
        ]
        if wrong:
            raise ValueError(bad_rows(f"The trace {str(path)!r}", wrong))
        count = n if n is not None else int(client.max(initial=-1)) + 1
        if len(client) and client.max() >= count:
            raise ValueError(f"The trace {str(path)!r} names client {int(client.max())}: there are {count}, from 0.")
        own: list[list[tuple[float, float]]] = [[] for _ in range(count)]
        for i, a, b in zip(client.astype(int), start, end, strict=True):
            own[i].append((float(a), float(b)))
        return cls(own)

    def __len__(self) -> int:
        return len(self.intervals)

    def online(self, clients: np.ndarray, now: float) -> np.ndarray:
        return self._pieces.value(clients, now) > 0  # type: ignore[attr-defined, no-any-return]

    def finish(self, clients: np.ndarray, start: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        return self._pieces.finish(clients, start, seconds)  # type: ignore[attr-defined, no-any-return]

    def next_change(self, now: float) -> float:
        edges: np.ndarray = self._edges  # type: ignore[attr-defined]
        at = int(np.searchsorted(edges, now, side="right"))
        return float(edges[at]) if at < len(edges) else math.inf


@register("computation")
@dataclass(frozen=True, eq=False)
class Powers:
    """The universal computation model (Tyurin, arXiv 2408.04929): device i computes p_i(t) units of work a second.

    times: for each device its breakpoints, ascending from 0; powers: what holds from each on. 0 is offline. A job of w
    units that starts at T ends at the first t with integral_T^t p_i >= w. In a fleet it takes the place of `seconds`.

    >>> Powers([[0, 10]], [[1.0, 0.5]]).finish(np.array([0]), np.array([8.0]), np.array([3.0]))
    array([12.])
    """

    times: Sequence[Sequence[float]]
    powers: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        for name in ("times", "powers"):
            expect("Powers: ", name, getattr(self, name), sequence("a list with one list per device"))
        if len(self.times) != len(self.powers):
            raise ValueError(
                f"Powers: {len(self.times)} lists of times and {len(self.powers)} of powers: one per device."
            )
        wrong = []
        for i, (own, given) in enumerate(zip(self.times, self.powers, strict=True)):
            t, p = np.asarray(own, dtype=float), np.asarray(given, dtype=float)
            if len(t) != len(p) or len(t) == 0 or t[0] != 0 or not (np.diff(t) > 0).all() or not np.isfinite(t).all():
                wrong.append(f"device {i}: times {t.tolist()}: ascending from 0, one per power")
            elif not (np.isfinite(p) & (p >= 0)).all():
                wrong.append(f"device {i}: powers {p.tolist()}: finite, >= 0")
        if wrong:
            raise ValueError(bad_rows("Powers", wrong))
        starts = np.cumsum([0, *(len(t) for t in self.times)])
        times, values = np.concatenate([*self.times, []]), np.concatenate([*self.powers, []])
        object.__setattr__(self, "_pieces", Pieces(starts, times.astype(float), values.astype(float)))

    def __len__(self) -> int:
        return len(self.times)

    def finish(self, clients: np.ndarray, start: np.ndarray, work: np.ndarray) -> np.ndarray:
        return self._pieces.finish(clients, start, work)  # type: ignore[attr-defined, no-any-return]
