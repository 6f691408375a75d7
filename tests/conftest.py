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
    ANYWIDGET_HMR="0",
)
# Two pytest workers with two threads each are slower than with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
