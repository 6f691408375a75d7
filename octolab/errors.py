"""What can go wrong, by name. Every message says what was given, what is allowed and what to do."""

from __future__ import annotations


class OctolabError(Exception):
    """The base of octolab's own errors."""


class WrongArgument(OctolabError, ValueError, TypeError):
    """An argument is none that the function takes, or has a value that it does not take."""


class ScriptExhausted(OctolabError):
    """Scripted randomness was asked for more than it was given."""


class NoReplies(OctolabError):
    """Nobody answered a call whose result cannot be formed from nothing (a mean of models, say)."""


class NothingUnderWay(NoReplies):
    """An asynchronous method waits for an arrival, and no job is under way."""


class HalfWritten(OctolabError):
    """A step broke off and could not be taken back: the federation is no longer consistent, and nothing saves it."""


class ClientAway(OctolabError):
    """A job's client cannot be reached now. The job is put off; others go on."""


class NonFinite(OctolabError, ArithmeticError):
    """A result is not finite: the step is too large, or the data are. The run keeps its history and stops."""


class MethodMistake(OctolabError, TypeError):
    """A method's page is not right yet; the sentence names the line to change."""


class UnknownConstant(OctolabError, ValueError):
    """A theory value was asked of a problem whose constants are not known."""


class OutsideAssumptions(OctolabError, ValueError):
    """A method was asked for what its theory excludes (a biased compressor where an unbiased one is required, say)."""


class AssumptionWarning(UserWarning):
    """A method runs, but outside what its theorem assumes."""


class RunFileError(OctolabError, ValueError):
    """A run file is corrupted, foreign, or of another version."""


class RunBusy(OctolabError, RuntimeError):
    """A run was asked to step, or for its state, while another thread (or its own step) is at it."""


class RunFileMissing(RunFileError, FileNotFoundError):
    """There is no run file where one was asked for."""

    __str__ = Exception.__str__  # the sentence alone: an OSError would look for a number in it
