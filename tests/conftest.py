"""What every test runs under: no hub, no telemetry, one thread a process, no seed that nobody asked for."""

from __future__ import annotations

import os
import sys

import pytest

# Set before any test module is imported; every process a test starts (kernels, Ray, Flower) inherits them.
os.environ.update(
    HF_HUB_OFFLINE="1",  # without it a hub name costs 23 s of retries on a machine without a network
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    FLWR_TELEMETRY_ENABLED="0",
    FLWR_DISABLE_UPDATE_CHECK="1",
    RAY_USAGE_STATS_ENABLED="0",
)
# Two pytest workers with two threads each would fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A result may depend on its seed and on nothing else: were the hash order fixed, tests that repeat a run in a
# fresh process could not see a set's order leak into it.
os.environ.pop("PYTHONHASHSEED", None)


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> None:
    """One thread for torch where it is imported already; a later import reads OMP_NUM_THREADS."""
    torch = sys.modules.get("torch")
    if torch is not None and os.environ["OMP_NUM_THREADS"] == "1":
        torch.set_num_threads(1)
