"""What devices did, read from a federation's timeline as it grows: each look copies what is new, nothing twice."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

import numpy as np

from octolab.federation import timeline as record
from octolab.federation.jobs import RUNNING, UPLOADING
from octolab.federation.timeline import DONE, IGNORED, LATE, MOST
from octolab.lab.dashboard.feed import Feed

STATES = np.array(record.STATES)


class Segments:
    """The newest segments: client (s,), times (s, 4) = start, received, computed, end, state (s,) numbers of `STATES`.

    total: how many were ever taken.
    """

    def __init__(self) -> None:
        self._client = np.zeros(1024, dtype=np.int32)
        self._times = np.zeros((1024, 4))
        self._state = np.zeros(1024, dtype=np.uint8)
        self.held = self.total = 0
        self._last_call: Any = None
        self._next_job = 0  # the number of the first job that is not here yet

    @property
    def client(self) -> np.ndarray:
        return self._client[: self.held]

    @property
    def times(self) -> np.ndarray:
        return self._times[: self.held]

    @property
    def state(self) -> np.ndarray:
        return self._state[: self.held]

    def read(self, timeline: Any, over: bool) -> None:
        """Take what is new. A job that has just arrived may yet turn from ignored to done: it waits for the next look."""
        calls = _newer(timeline.calls, self._last_call)
        for call in calls:
            self._add_call(*call)
        self._last_call = calls[-1] if calls else self._last_call
        first, clients, times, states = timeline.jobs(self._next_job)
        count = len(clients) if over else max(0, len(clients) - 1)
        if count:
            at = self._room(count)
            self._client[at], self._state[at] = clients[:count], states[:count]
            self._times[at, 0], self._times[at, 1:] = times[:count, 0], times[:count]
            self._next_job = first + count

    def _add_call(self, ids: np.ndarray, start: float, received: Any, computed: Any, end: Any, states: Any) -> None:
        at = self._room(len(ids))
        for into, given in ((self._client, ids), (self._state, DONE if states is None else states)):
            into[at] = _last(given, at)
        for k, given in enumerate((start, received, computed, end)):
            self._times[at, k] = _last(given, at)

    def _room(self, count: int) -> slice:
        """Where `count` new segments go; the oldest leave."""
        self.total += count
        count = min(count, MOST)
        if self.held + count > len(self._client):
            keep = min(self.held, MOST)
            size = max(2 * (keep + count), len(self._client))
            for name in ("_client", "_times", "_state"):
                old = getattr(self, name)
                new = np.zeros((size, *old.shape[1:]), dtype=old.dtype)
                new[:keep] = old[self.held - keep : self.held]
                setattr(self, name, new)
            self.held = keep
        self.held += count
        return slice(self.held - count, self.held)


def _last(given: Any, place: slice) -> Any:
    """The rows that fit (more clients than segments are kept: the last ones)."""
    return given[-(place.stop - place.start) :] if isinstance(given, np.ndarray) else given


def _newer(entries: list[Any], known: Any) -> list[Any]:
    """The entries behind `known` (told by identity), oldest first."""
    if known is None:
        return entries
    fresh: Iterable[Any] = takewhile(lambda e: e is not known, reversed(entries))
    return list(fresh)[::-1]


_held: weakref.WeakKeyDictionary[Feed, tuple[int, Segments]] = weakref.WeakKeyDictionary()


def segments(feed: Feed) -> Segments:
    """A run's newest segments, up to date with what its feed has read."""
    version, found = _held.get(feed, (-1, None))
    stamp = 2 * feed.version + feed.over
    if found is None or version != stamp:
        found = found or Segments()
        timeline = getattr(feed.run.federation, "timeline", None)
        if timeline is not None:
            found.read(timeline, feed.over)
        _held[feed] = (stamp, found)
    return found


def at_work(fed: Any) -> tuple[np.ndarray, np.ndarray]:
    """The jobs under way: clients (r,), and when they started (r,)."""
    current = list(fed.jobs.current) if fed.asynchronous else []
    jobs = [j for j in current if j is not None and j.state in (RUNNING, UPLOADING)]
    return np.array([j.client for j in jobs], dtype=np.int32), np.array([j.started for j in jobs])


__all__ = ["DONE", "IGNORED", "LATE", "STATES", "Segments", "at_work", "segments"]
