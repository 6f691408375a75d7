"""What every device was doing when: the newest segments, for diagrams. Diagnostics only; nothing depends on it."""

from __future__ import annotations

import threading
from array import array
from collections import deque
from typing import Any

import numpy as np

MOST = 50_000

STATES = ("done", "ignored", "dropped", "late", "cancelled")
DONE, IGNORED, DROPPED, LATE, CANCELLED = range(5)

FIELDS = np.dtype(
    [
        ("client", "i8"),
        ("start", "f8"),
        ("received", "f8"),
        ("computed", "f8"),
        ("end", "f8"),
        ("state", "U9"),
    ]
)


class Timeline:
    """The newest `MOST` segments: client, start, received, computed, end (virtual seconds), state.

    From start to received the device receives the model, to computed it works, to end it sends. state: "done";
    "ignored": arrived, and the server never looked at it; "dropped": no reply, ever; "late": after the deadline;
    "cancelled": at `end`, by the server. A federation whose devices are all alike and never wait records nothing.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[Any, ...]] = deque()
        self._held = 0
        self._clients, self._times, self._states = array("i"), array("d"), bytearray()  # of jobs; three times each
        self._forgotten = 0
        self._lock = threading.Lock()

    def call(
        self, ids: np.ndarray, start: float, received: Any, computed: Any, end: np.ndarray, states: np.ndarray | None
    ) -> None:
        """One call: arrays (m,) of times; `states` (m,) or None if everybody's reply arrived."""
        self._calls.append((ids, start, received, computed, end, states))
        self._held += len(ids)
        while self._held > MOST and len(self._calls) > 1:
            self._held -= len(self._calls.popleft()[0])

    def job(self, client: int, start: float, computed: float, end: float, state: int) -> int:
        """One job; returns its number."""
        self._clients.append(client)
        self._times.extend((start, computed, end))
        self._states.append(state)  # last: who reads meanwhile counts these
        if len(self._states) >= 2 * MOST:
            with self._lock:
                del self._clients[:MOST], self._times[: 3 * MOST], self._states[:MOST]
                self._forgotten += MOST
        return self._forgotten + len(self._states) - 1

    def settle(self, number: int, state: int) -> None:
        """What became of a job after all (ignored until the server looks at it)."""
        if number >= self._forgotten:
            self._states[number - self._forgotten] = state

    def jobs(self, since: int = 0) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """The newest jobs from number `since` on: the first one's number, clients (k,), start, computed and end (k, 3),
        states (k,). Copies: another thread may ask."""
        with self._lock:
            count = len(self._states)
            at = max(since - self._forgotten, count - MOST, 0)
            clients, times, states = self._clients[at:count], self._times[3 * at : 3 * count], self._states[at:count]
            first = self._forgotten + at
        return first, np.array(clients), np.array(times).reshape(-1, 3), np.array(states, dtype=np.uint8)

    def __len__(self) -> int:
        return self._held + min(MOST, len(self._states))

    def segments(self) -> np.ndarray:
        """(s,) structured array with the fields of `FIELDS`, calls in order of their start, then jobs."""
        calls, (_, clients, times, jobs), names = list(self._calls), self.jobs(), np.array(STATES)
        out = np.empty(sum(len(c[0]) for c in calls) + len(clients), dtype=FIELDS)
        at = 0
        for ids, start, received, computed, end, states in calls:
            part = out[at : at + len(ids)]
            part["client"], part["start"], part["received"] = ids, start, received
            part["computed"], part["end"] = computed, end
            part["state"] = STATES[DONE] if states is None else names[states]
            at += len(ids)
        rest = out[at:]
        rest["client"], rest["start"], rest["received"] = clients, times[:, 0], times[:, 0]
        rest["computed"], rest["end"], rest["state"] = times[:, 1], times[:, 2], names[jobs]
        return out
