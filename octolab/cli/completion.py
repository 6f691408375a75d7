"""Completion scripts for shells, made by shtab from the parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from octolab.cli.parser import X, build

CHOICES = {"problem": ("quadratics", "tridiagonal"), "model": ("logistic", "linear", "mlp", "cnn"), "x": X}


def script(shell: str, slugs: Sequence[str], data_sets: Sequence[str]) -> str:
    """A script for bash, zsh or fish that knows every verb, option, method and data set. ImportError without shtab."""
    try:
        import shtab
    except ImportError:
        raise ImportError("Completion scripts need shtab: pip install 'octolab[completion]'.") from None

    parser = build()
    for action in _actions(parser):
        if action.metavar == "FILE" or action.dest in ("file", "folder"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.dest in ("method", "methods", "slug"):
            action.choices = list(slugs)
        elif action.dest in ("problem", "name"):
            action.choices = [*data_sets, *(CHOICES["problem"] if action.dest == "problem" else ())]
        elif action.dest in CHOICES:
            action.choices = CHOICES[action.dest]
    text: str = shtab.complete(parser, shell=shell)
    return text


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from _actions(verb)
        else:
            yield action
