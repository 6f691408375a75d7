"""Which flwr this package is written for, said in words where it is missing or another one."""

from __future__ import annotations

import importlib.metadata
import os

SERIES = "1.41"
HOW = "pip install 'octolab[flower]'"


def check_flwr() -> str:
    """The installed flwr's version; ImportError in words if there is none, or one of another series.

    Called before octolab's first import of flwr, which reads at that moment whether it may report its use.
    """
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    try:
        found = importlib.metadata.version("flwr")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(
            f"octolab.flower needs flwr {SERIES}, and there is none here. Install the extra: {HOW}."
        ) from None
    if found.split(".")[:2] != SERIES.split("."):
        raise ImportError(
            f"octolab.flower is written for flwr {SERIES} and {found} is installed, whose messages may mean something "
            f"else. Install the extra's own: {HOW}."
        )
    return found
