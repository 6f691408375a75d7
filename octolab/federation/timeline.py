"""What every device was doing when: the newest segments, for diagrams. Diagnostics only; nothing depends on it."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

MOST = 50_000

DONE, IGNORED, DROPPED, LATE, CANCELLED = "done", "ignored", "dropped", "late", "cancelled"

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

    From start to received the device hears the model, to computed it works, to end it sends. state: "done";
    "ignored": arrived, and the server never looked at it; "dropped": no reply, ever; "late": after the deadline;
    "cancelled": interrupted at `end`. A federation whose devices are all alike and never wait records nothing.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[Any, ...]] = deque()
        self._held = 0
        self._jobs: deque[list[Any]] = deque(maxlen=MOST)

    def call(
        self, ids: np.ndarray, start: float, received: Any, computed: Any, end: np.ndarray, states: np.ndarray | None
    ) -> None:
        """One call: arrays (m,) of times; `states` (m,) or None if everybody's reply arrived."""
        self._calls.append((ids, start, received, computed, end, states))
        self._held += len(ids)
        while self._held > MOST and len(self._calls) > 1:
            self._held -= len(self._calls.popleft()[0])

    def job(self, client: int, start: float, computed: float, end: float, state: str) -> list[Any]:
        """One job; the entry's last item, its state, may change from ignored to done."""
        entry = [client, start, computed, end, state]
        self._jobs.append(entry)
        return entry

    def __len__(self) -> int:
        return self._held + len(self._jobs)

    def segments(self) -> np.ndarray:
        """(s,) structured array with the fields of `FIELDS`, calls in order of their start, then jobs."""
        calls, jobs = list(self._calls), list(self._jobs)
        out = np.empty(sum(len(c[0]) for c in calls) + len(jobs), dtype=FIELDS)
        at = 0
        for ids, start, received, computed, end, states in calls:
            part = out[at : at + len(ids)]
            part["client"], part["start"], part["received"] = ids, start, received
            part["computed"], part["end"], part["state"] = computed, end, DONE if states is None else states
            at += len(ids)
        for client, start, computed, end, state in jobs:
            out[at] = (client, start, start, computed, end, state)
            at += 1
        return out
