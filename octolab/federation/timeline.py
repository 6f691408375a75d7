"""What every device was doing when, for diagrams, and what became of every job, to count and to replay.

Nothing in a run depends on it.
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from typing import Any

import numpy as np

MOST = 50_000
"""Segments that diagrams are given: the newest."""
KEPT = 2**21
"""Jobs that are kept at most (37 bytes each): the newest."""

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

    asked, lost: how many replies of calls were waited for, and how many of them never came.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[Any, ...]] = deque()
        self._held = self.asked = self.lost = 0
        # Jobs, one after the other: start, computed and end; client, the version of the model that it was given, and how
        # many versions old that was at its end (-1: the server counts none); state.
        self._times, self._numbers, self._states = array("d"), array("i"), bytearray()
        self._forgotten = 0
        self._gone: list[tuple[Any, ...]] = []  # calls that had to make room since `mark`
        self._cut: tuple[Any, ...] | None = None  # jobs that had to make room last
        self._marked = False
        self._lock = threading.Lock()

    def call(
        self, ids: np.ndarray, start: float, received: Any, computed: Any, end: np.ndarray, states: np.ndarray | None
    ) -> None:
        """One call: arrays (m,) of times; `states` (m,) or None if everybody's reply arrived."""
        self._calls.append((ids, start, received, computed, end, states))
        self._held += len(ids)
        self.asked += len(ids)
        if states is not None:
            self.lost += int((states == DROPPED).sum())
        while self._held > MOST and len(self._calls) > 1:
            oldest = self._calls.popleft()
            self._held -= len(oldest[0])
            if self._marked:
                self._gone.append(oldest)

    def job(
        self, client: int, start: float, computed: float, end: float, state: int, version: int = -1, delay: int = -1
    ) -> int:
        """One job that has ended; returns its number."""
        states = self._states
        self._times.extend((start, computed, end))
        self._numbers.extend((client, version, delay))
        states.append(state)  # last: who reads meanwhile counts these
        if len(states) >= KEPT:
            self._forget(KEPT // 2)
        return self._forgotten + len(states) - 1

    def _forget(self, count: int) -> None:
        with self._lock:
            columns = ((self._times, 3), (self._numbers, 3), (self._states, 1))
            self._cut = tuple(column[: width * count] for column, width in columns)
            for column, width in columns:
                del column[: width * count]
            self._forgotten += count

    def state_of(self, number: int) -> int | None:
        """What is held to have become of a job; None if it is forgotten."""
        return self._states[number - self._forgotten] if number >= self._forgotten else None

    def settle(self, number: int, state: int) -> None:
        """What became of a job after all (ignored until the server looks at it)."""
        if number >= self._forgotten:
            self._states[number - self._forgotten] = state

    # -- a step that is taken back -----------------------------------------------------------------------------------
    def mark(self) -> tuple[int, int, int, int]:
        """How much of calls there is now; what has to make room from now on is kept, for `rewind`."""
        self._gone, self._marked = [], True
        return len(self._calls), self._held, self.asked, self.lost

    def rewind(self, mark: tuple[int, int, int, int]) -> None:
        """Calls as they were at `mark`."""
        calls, self._held, self.asked, self.lost = mark
        self._calls.extendleft(reversed(self._gone))
        while len(self._calls) > calls:
            self._calls.pop()
        self._gone, self._marked = [], False

    def rewind_jobs(self, number: int) -> None:
        """Jobs as they were before the one of this number."""
        with self._lock:
            if number < self._forgotten and self._cut is not None:
                times, numbers, states = self._cut
                self._times, self._numbers, self._states = (
                    times + self._times,
                    numbers + self._numbers,
                    states + self._states,
                )
                self._forgotten -= len(states)
                self._cut = None
            left = max(0, number - self._forgotten)
            del self._times[3 * left :], self._numbers[3 * left :], self._states[left:]

    # -- run files ---------------------------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """What a run file keeps: how many were asked and lost, and the jobs."""
        times, numbers, states = self.ended()
        return {"asked": self.asked, "lost": self.lost, "times": times, "numbers": numbers, "states": states}

    def restore(self, state: dict[str, Any]) -> None:
        self.asked, self.lost = int(state["asked"]), int(state["lost"])
        self._times, self._numbers = array("d", state["times"].ravel()), array("i", state["numbers"].ravel())
        self._states = bytearray(state["states"].astype(np.uint8).tobytes())

    # -- reading -----------------------------------------------------------------------------------------------------
    @property
    def calls(self) -> list[tuple[Any, ...]]:
        """The calls kept: (clients, start, received, computed, end, states) each."""
        return list(self._calls)

    def jobs(self, since: int = 0) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """The newest `MOST` jobs from number `since` on: the first one's number, clients (k,), start, computed and end
        (k, 3), states (k,). Copies: another thread may ask."""
        first, times, numbers, states = self._jobs(since, MOST)
        return first, numbers[:, 0], times, states

    def ended(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every job that is kept, in order of its end: start, computed and end (k, 3); client, version and delay (k, 3);
        states (k,)."""
        return self._jobs(0, KEPT)[1:]

    def _jobs(self, since: int, most: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        with self._lock:
            count = len(self._states)
            at = max(since - self._forgotten, count - most, 0)
            times, numbers = self._times[3 * at : 3 * count], self._numbers[3 * at : 3 * count]
            states, first = self._states[at:count], self._forgotten + at
        return (
            first,
            np.array(times).reshape(-1, 3),
            np.array(numbers).reshape(-1, 3),
            np.array(states, dtype=np.uint8),
        )

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
