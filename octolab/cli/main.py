"""From words to an exit status: parse, do, and say in a sentence what went wrong."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from octolab.cli.parser import build


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 2 after a mistake, 130 after an interrupt."""
    parser = build()
    with _any_encoding(sys.stdout), _any_encoding(sys.stderr):
        arguments = parser.parse_args(argv)
        if arguments.verb is None:
            parser.print_help()
            return 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a diverged run says so itself
                _do(arguments.verb, arguments)
                sys.stdout.flush()  # a full disk shows here
        except BrokenPipeError:
            _drop(sys.stdout)
        except KeyboardInterrupt:
            print("octolab: interrupted.", file=sys.stderr)
            return 130
        except Exception as error:
            if not _is_mistake(error):
                raise
            print(f"octolab {arguments.verb}: {_sentence(error)}", file=sys.stderr)
            return 2
    return 0


def _do(verb: str, arguments: object) -> None:
    from octolab.cli import verbs

    getattr(verbs, verb)(arguments)


@contextmanager
def _any_encoding(stream: TextIO | None) -> Iterator[None]:
    """Letters that the stream's encoding lacks become question marks: a result is never lost for a nabla."""
    before = getattr(stream, "errors", None)
    if stream is None or not hasattr(stream, "reconfigure") or before is None:
        yield
        return
    stream.reconfigure(errors="replace")
    try:
        yield
    finally:
        stream.reconfigure(errors=before)


def _is_mistake(error: Exception) -> bool:
    """What the user can mend: bad input, and what octolab says itself. A bug keeps its traceback."""
    from octolab.data import ChecksumError, DatasetUnavailable
    from octolab.errors import OctolabError

    return isinstance(error, (ValueError, OSError, ImportError, OctolabError, ChecksumError, DatasetUnavailable))


def _sentence(error: Exception) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    _drop(sys.stdout)
    return f"The output cannot be written: {error.strerror}."


def _drop(stream: TextIO) -> None:
    """Throw away what a stream could not take, or Python tries again at its end and complains in its own words."""
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
    except (OSError, ValueError):  # a stream without a file
        return
