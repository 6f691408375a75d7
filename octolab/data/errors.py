"""What can go wrong with data, by name. Every message says what was given, what is allowed and what to do."""

from __future__ import annotations

from octolab.errors import OctolabError


class DatasetUnavailable(OctolabError, RuntimeError):
    """A data set is known but cannot be had here and now (no network, a package or a file is missing)."""


class ChecksumError(OctolabError, ValueError):
    """A file's bytes are not those that were promised: its SHA-256 or its size differs."""


class DataFileMissing(OctolabError, ValueError, FileNotFoundError):
    """There is no file where one was named."""

    __str__ = Exception.__str__  # the sentence alone: an OSError would look for a number in it


class DataWarning(UserWarning):
    """Data are used, but something in them is likely not meant: an index among the features, two scales."""
