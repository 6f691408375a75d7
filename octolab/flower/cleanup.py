"""What this process has started ends with it: at its exit, on SIGTERM, and, on Linux, even if it is killed outright.

Things with a `close` are registered while they are open. Programs are started `tethered`: the kernel sends them SIGTERM
when the process that started them is gone, however it went.
"""

from __future__ import annotations

import atexit
import contextlib
import signal
import sys
import threading
from types import FrameType
from typing import Protocol

TETHER = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "os.getppid() == int(sys.argv[1]) or sys.exit('the process that started this is gone'); "
    "os.execvp(sys.argv[2], sys.argv[2:])"
)
"""PR_SET_PDEATHSIG (1) survives the change into the program itself."""


class Closable(Protocol):
    """Something that is open until it is closed; closing twice does no harm."""

    def close(self) -> None: ...


_open: list[Closable] = []
_earlier: list[signal.Handlers | object] = []  # what SIGTERM did before, once it is ours


def register(thing: Closable) -> None:
    """Close a thing when this process ends, unless it was closed before."""
    _open.append(thing)
    if not _earlier and threading.current_thread() is threading.main_thread():
        _earlier.append(signal.getsignal(signal.SIGTERM))
        signal.signal(signal.SIGTERM, _terminated)


def forget(thing: Closable) -> None:
    """A thing is closed, or being closed."""
    with contextlib.suppress(ValueError):
        _open.remove(thing)


@atexit.register
def close_all() -> None:
    """Close whatever is open, the newest first; one that fails does not keep the others open."""
    while _open:
        with contextlib.suppress(Exception):
            _open.pop().close()


def _terminated(number: int, frame: FrameType | None) -> None:
    close_all()
    earlier = _earlier.pop()
    signal.signal(signal.SIGTERM, earlier if callable(earlier) or isinstance(earlier, int) else signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


def tethered(words: list[str], parent: int) -> list[str]:
    """The words of a command whose program ends when the process `parent` does (elsewhere than on Linux: as they are).

    The kernel watches the thread that starts it, so it has to be the main thread's doing.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return words
    return [sys.executable, "-I", "-S", "-c", TETHER, str(parent), *words]
