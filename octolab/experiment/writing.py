"""Files that are whole or not there: written beside, synced, put in place at once; one writer for each."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from octolab.errors import RunFileError

try:
    import fcntl
except ImportError:  # Windows: nothing there dies with its process; two writers are not noticed
    fcntl = None  # type: ignore[assignment]

REMEDIES = {
    errno.ENOSPC: "The disk is full: make room",
    errno.EDQUOT: "Your quota is used up: make room",
    errno.EACCES: "Permission is denied: choose a folder you can write to",
    errno.EPERM: "Permission is denied: choose a folder you can write to",
    errno.EROFS: "The file system is read-only: choose another folder",
    errno.ENOENT: "The folder does not exist: make it first",
    errno.ENOTDIR: "A part of the path is no folder: choose another",
    errno.ELOOP: "Its links go round in a circle: choose another path",
    errno.ENAMETOOLONG: "The name is too long: choose a shorter one",
}


def target_of(path: str | os.PathLike[str]) -> Path:
    """The regular file, or nothing yet, that a path leads to through its links; RunFileError for anything else."""
    try:
        target = Path(os.path.realpath(path))
        mode = os.lstat(target).st_mode if os.path.lexists(target) else stat.S_IFREG
    except (OSError, ValueError) as error:
        raise RunFileError(f"{str(path)!r} cannot be written: {error}. Choose another path.") from None
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "link in a circle" if stat.S_ISLNK(mode) else "device or a pipe"
        raise RunFileError(f"{str(path)!r} cannot be written: it is a {kind}, and only a file is replaced.")
    return target


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file: the old one stays whole until the new one is complete. Its mode is kept, links are followed."""
    target = target_of(path)
    part = target.with_name(f"{_prefix(target)}{token_hex(4)}.part")
    try:
        with _locked(part) as handle:
            if target.exists():
                os.chmod(part, stat.S_IMODE(target.stat().st_mode))
            with os.fdopen(os.dup(handle), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        _sync_folder(target.parent)
    except OSError as error:
        rest = " The file that was there is whole." if os.path.lexists(target) else ""
        raise RunFileError(f"{str(path)!r} cannot be written. {_remedy(error)}, and save again.{rest}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    _sweep(target)


@contextmanager
def claimed(path: str | os.PathLike[str]) -> Iterator[None]:
    """This run alone writes here; RunFileError if another does. The claim dies with its process."""
    target = target_of(path)
    lock = _lock_of(target)
    with ExitStack() as held:
        try:
            handle = held.enter_context(_locked(lock))
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode())
        except BlockingIOError:
            raise RunFileError(
                f"checkpoint={str(path)!r}: another run writes it now (process {_owner(lock)}). Name another file, or end "
                f"that run first."
            ) from None
        except OSError as error:
            raise RunFileError(f"checkpoint={str(path)!r} cannot be written. {_remedy(error)}.") from error
        held.callback(lock.unlink, missing_ok=True)
        yield


def _remedy(error: OSError) -> str:
    return REMEDIES.get(error.errno or 0, f"{error.strerror or error}: choose another path")


def _prefix(target: Path) -> str:
    return f".octolab-{target.name}-"


def _lock_of(target: Path) -> Path:
    return target.with_name(f".octolab-{target.name}.lock")


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """An open file that is locked while its process lives. BlockingIOError if another has it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            if fcntl is not None:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise
                except OSError:
                    pass  # a file system without locks
            if _is_still(path, handle):  # its last owner may have removed it in between
                yield handle
                return
        finally:
            os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _owner(lock: Path) -> str:
    try:
        return lock.read_text().strip() or "unknown"
    except OSError:
        return "unknown"


def _sweep(target: Path) -> None:
    """Remove what killed writers of this file left behind: what nobody holds a lock on."""
    if fcntl is None:
        return
    left = [p for p in target.parent.iterdir() if p.name.startswith(_prefix(target)) and p.name.endswith(".part")]
    for path in [*left, _lock_of(target)]:
        with suppress(OSError):
            if path.exists():
                with _locked(path):
                    path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name last, where folders can be synced."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
