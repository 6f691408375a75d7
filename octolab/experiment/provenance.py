"""Where a run's numbers come from: software, machine, data. Beside the spec and never in its hash."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import octolab

if TYPE_CHECKING:
    from octolab.experiment.run import Run


def provenance(run: Run) -> dict[str, Any]:
    """octolab's version and commit, Python, torch, numpy, CPU, threads, and the data's name, checksum and licence."""
    return {**_software(), "threads": run.settings.threads or torch.get_num_threads(), "data": _data(run)}


@cache
def _software() -> dict[str, Any]:
    return {
        "octolab": octolab.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pandas": version("pandas"),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
    }


def _commit() -> str | None:
    """The git commit of this octolab, with + if its files differ from it; None if it is no checkout, or without git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        ask = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _data(run: Run) -> dict[str, Any] | None:
    """What the problem's samples are; None where it has none."""
    spec = run.problem.spec
    if "given" in spec:
        return {"given": spec["given"]}
    named = spec.get("dataset")
    return _bundled(named) if isinstance(named, str) else named


@cache
def _bundled(name: str) -> dict[str, Any]:
    """A data set that travels with octolab, or was read from a named place: its bytes' checksum."""
    from octolab.data import DatasetUnavailable, load

    try:
        return {"name": name, **load(name).provenance.as_dict()}
    except (DatasetUnavailable, OSError, ValueError) as error:
        return {"name": name, "unavailable": str(error)}
