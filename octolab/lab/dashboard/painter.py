"""The thread that repaints: at most `HERTZ` times a second, and never more than `SHARE` of the time.

What a repaint costs is measured in processor time of this thread alone, and the pause after it is as long as the share
asks for, whatever is on the screen. A run loses about three times the share, as the threads take turns (W6
in benchmarks/RESULTS.md).
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable

HERTZ = 10
SHARE = 0.01
TRIES, AFTER_FAILURE = 3, 1.0
"""Repaints that may fail in a row before the painter gives up, and the seconds between them."""
SLOWEST = 2.0
"""Seconds: a heavy picture still moves this often."""
POINTS = 60_000
"""Points a second that a browser draws without falling behind."""


class Painter:
    """Calls `paint() -> (points set, whether nothing more will come)` until it is over or `stop`.

    looks: how often it looked for news; paints: how often there was any.
    """

    def __init__(self, paint: Callable[[], tuple[int, bool]], failed: Callable[[Exception], None]):
        self._paint, self._failed = paint, failed
        self._end, self._lock = threading.Event(), threading.Lock()
        self.looks = 0
        self._thread: threading.Thread | None = None
        self._again = False  # something new was given to paint since the last look
        self.paints = 0

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin, unless it is at work already."""
        with self._lock:
            self._again = True
            if self.alive and not self._end.is_set():
                return
            self._end = threading.Event()  # an older thread keeps its own, which is set
            self._thread = threading.Thread(target=self.work, args=(self._end,), daemon=True, name="octolab-dashboard")
            _at_work.add(self)
            self._thread.start()

    def stop(self, wait: float = 5.0) -> None:
        with self._lock:
            thread = self._thread
            self._end.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=wait)

    def work(self, end: threading.Event) -> None:
        """Paint in this thread until it is over or `end` is set, which is also the clock: its `wait` is the pause."""
        pause, failures = 0.0, 0
        while not end.wait(pause):
            self._again, start = False, time.thread_time()
            self.looks += 1
            try:
                points, over = self._paint()
                failures = 0
            except Exception as error:  # a picture must never end a run
                failures += 1
                if failures >= TRIES:
                    self._failed(error)
                    return
                pause = AFTER_FAILURE
                continue
            self.paints += points > 0
            if over and self._ends():
                return
            cost = time.thread_time() - start
            pause = max(1 / HERTZ, min(SLOWEST, max(cost / SHARE, points / POINTS)))

    def _ends(self) -> bool:
        """Whether to end now: decided under the lock, so that a `start` at this moment is not lost."""
        with self._lock:
            if not self._again:
                self._thread = None
            return not self._again


_at_work: weakref.WeakSet[Painter] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """A process that ends while something is painted waits until the painting is done: a thread inside C++ would abort it."""
    for painter in list(_at_work):
        painter.stop()
