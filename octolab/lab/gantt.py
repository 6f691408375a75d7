"""The device timeline: a canvas that keeps up with a thousand devices. Segments go to the browser once, as bytes."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

HERE = Path(__file__).parent
AT_ONCE = 20_000
"""Segments per message."""


class Gantt(anywidget.AnyWidget):
    """Who did what when. `follow` sends what is new in some segments; the browser draws it at its own pace.

    n: devices; title: whose they are; now: the virtual clock.
    """

    _esm = (HERE / "gantt.js").read_text(encoding="utf-8")
    _css = (HERE / "gantt.css").read_text(encoding="utf-8")

    key = traitlets.Unicode().tag(sync=True)  # names the record on the browser's side
    n = traitlets.Int(0).tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)
    height = traitlets.Int(380).tag(sync=True)

    def __init__(self, **options: Any):
        super().__init__(key=uuid.uuid4().hex, **options)
        self._of: Any = None
        self._sent, self._busy = 0, False
        self.on_msg(lambda _, content, __: self.receive(content))

    def follow(
        self, found: Any, n: int, title: str, now: float, busy: tuple[np.ndarray, np.ndarray] | None = None
    ) -> int:
        """Show `found` (a `Segments`) of n devices, and those that are busy: clients, starts. Returns segments sent."""
        if found is not self._of or n != self.n or title != self.title:
            self._of, self._sent = found, 0
            with self.hold_sync():
                self.n, self.title = n, title
            self.send({"kind": "reset"})
        fresh = min(found.total - self._sent, found.held)
        for start in range(found.held - fresh, found.held, AT_ONCE):
            part = slice(start, min(start + AT_ONCE, found.held))
            self.send(
                {"kind": "add", "now": now}, buffers=pack(found.client[part], found.times[part], found.state[part])
            )
        self._sent = found.total
        if busy is not None and fresh:
            self.send(
                {"kind": "busy", "now": now}, buffers=[busy[0].astype("<i4").tobytes(), busy[1].astype("<f8").tobytes()]
            )
        elif busy is None and self._busy:
            self.send({"kind": "busy", "now": now}, buffers=[b"", b""])
        self._busy = busy is not None
        return fresh

    def receive(self, content: Any) -> None:
        """A browser that has just opened knows nothing yet: send everything at the next look."""
        if isinstance(content, dict) and content.get("kind") == "hello":
            self._of = None
            self.ready()

    def ready(self) -> None:
        """Called when a browser asks for everything; the dashboard replaces it."""


def pack(client: np.ndarray, times: np.ndarray, state: np.ndarray) -> list[bytes]:
    """Little-endian bytes: clients (s,) i4; start, received, computed, end (s, 4) f8, inf for never; states (s,) u1."""
    return [client.astype("<i4").tobytes(), times.astype("<f8").tobytes(), state.astype("u1").tobytes()]
