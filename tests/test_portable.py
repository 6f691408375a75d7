"""The exact mode: the same bits whatever the chunks, the threads and the instruction set; refused where it cannot be."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import octolab as ol
from octolab import portable

WAYS = ({"executor": "loop"}, {"executor": "stacked"}, {"executor": 7}, *({"threads": k} for k in (1, 2, 3, 4)))
PROBLEMS = {
    "quadratics": lambda: ol.problems.quadratics(n=60, d=12),
    "logistic": lambda: ol.problems.classification("breast-cancer", clients=60),
    "softmax": lambda: ol.problems.classification("digits", clients=60),
    "least squares": lambda: ol.problems.regression(
        (np.sin(np.arange(900.0)).reshape(180, 5), np.arange(180.0)), clients=60
    ),
}


@functools.cache
def problem_of(name: str) -> Any:
    return PROBLEMS[name]()


def bits(slug: str, name: str, **way: object) -> str:
    run = ol.run(slug, problem_of(name), rounds=3, seed=1, deterministic="portable", live=False, **way)
    return hashlib.sha256(run.x.numpy().tobytes() + run.history["loss"].to_numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("slug", ["ef21", pytest.param("fedavg", marks=pytest.mark.slow)])
def test_chunks_and_threads_change_no_bit(slug, name):
    assert len({bits(slug, name, **way) for way in WAYS}) == 1


def capabilities() -> list[str]:
    best = torch.backends.cpu.get_cpu_capability().lower()
    known = ["default", "avx2", "avx512"]
    return known[: known.index(best) + 1] if best in known else [best]


@pytest.mark.slow
def test_the_instruction_set_changes_no_bit():
    code = "import sys; sys.path.insert(0, 'tests'); import test_portable as t; print(*(t.bits('ef21', p) for p in t.PROBLEMS))"
    told = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"ATEN_CPU_CAPABILITY": one},
        ).stdout.strip()
        for one in capabilities()
    }  # fmt: skip
    assert len(told) == 1 and "" not in told


def test_it_is_the_ordinary_run_to_rounding():
    problem = problem_of("logistic")
    exact = ol.run("gd", problem, rounds=20, deterministic="portable")
    assert torch.allclose(exact.x, ol.run("gd", problem, rounds=20).x, rtol=1e-12, atol=1e-14)


def test_networks_and_functions_without_a_portable_form_are_refused_in_words():
    with pytest.raises(ValueError, match=r"deterministic='portable' is for quadratics and linear models"):
        ol.run(
            ol.methods.FedAvg(lr=0.1),
            ol.problems.classification("digits", "mlp", clients=4),
            rounds=1,
            deterministic="portable",
        )
    with pytest.raises(ValueError, match=r"deterministic='portable': torch's .* differs between instruction sets"):
        ol.run("fednl", ol.problems.quadratics(n=4, d=3), rounds=2, deterministic="portable")
    with pytest.raises(ValueError, match="deterministic='exact': give 'portable'"):
        ol.run("gd", ol.problems.quadratics(n=4, d=3), rounds=1, deterministic="exact")


def test_it_is_part_of_the_spec_and_goes_on_after_a_save(tmp_path):
    run = ol.run("ef21", problem_of("quadratics"), rounds=6, deterministic="portable")
    half = ol.run("ef21", problem_of("quadratics"), rounds=3, deterministic="portable")
    half.save(tmp_path / "half.octo")
    assert ol.load_run(tmp_path / "half.octo").settings.deterministic == "portable"
    assert torch.equal(ol.resume(tmp_path / "half.octo", rounds=6).x, run.x)


def test_elementary_functions_are_right_to_rounding():
    x = np.concatenate([np.linspace(-700, 700, 4001), [0.0, -1e-300, 1e-17]])
    assert max(abs(a / math.exp(b) - 1) for a, b in zip(portable.exp(x), x, strict=True)) < 5e-16
    assert portable.exp(np.array([800.0, -800.0])).tolist() == [math.inf, 0.0]
    y = np.exp(np.linspace(-300, 300, 4001)) * 1.1
    assert np.abs(portable.log(y) - np.log(y)).max() < 2e-13
    assert portable.log(np.array([0.0, math.inf, 1.0])).tolist() == [-math.inf, math.inf, 0.0]
