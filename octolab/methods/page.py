"""What nearly every page is written with, so that one import line brings it. What is special to a page comes from its room."""

from __future__ import annotations

from typing import NamedTuple

import torch

from octolab.compressors import Compressor
from octolab.federation import Cohort, Federation, Reply, Sampler
from octolab.methods.constants import Constants
from octolab.methods.method import Method
from octolab.methods.stage import Stage
from octolab.params import Theory, param
from octolab.payloads import Payload
from octolab.problems import Problem

__all__ = [
    "Cohort",
    "Compressor",
    "Constants",
    "Federation",
    "Method",
    "NamedTuple",
    "Payload",
    "Problem",
    "Reply",
    "Sampler",
    "Stage",
    "Theory",
    "param",
    "torch",
]
