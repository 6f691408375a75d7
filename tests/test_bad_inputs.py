"""Nonsense is refused before any work: the sentence names the argument, the value, and what is allowed.

Every public function has rows here (a new one without them fails); those of registered classes follow from their fields.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import inspect
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import octolab as ol
from octolab.errors import OctolabError
from octolab.params import params

ALLOWED = re.compile(
    r"give|choose|leave (it )?out|can change|fill|encode|must|need|allowed|known|takes?\b|are\b|make|use|at least|at most|one of"
    r"|whole number|>=? ?-?\d|has\b|is a\b",
    re.I,
)
NAN, INF = math.nan, math.inf


@functools.cache
def problem() -> Any:
    return ol.problems.quadratics(n=4, d=3)


@functools.cache
def run() -> Any:
    return ol.run("gd", problem(), rounds=1)


@functools.cache
def saved() -> str:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    return str(run().save(f"{folder}/run.octo"))


@functools.cache
def model_folder() -> str:
    return str(classifier().save_model(saved() + ".model"))


@functools.cache
def layer() -> nn.Module:
    return nn.Linear(2, 2)


X, Y = [np.ones((3, 2)), np.ones((2, 2))], [np.array([1, -1, 1]), np.array([1, -1])]
FRAME = pd.DataFrame({"a": [1.0, 2.0, 3.0], "label": [0, 1, 0]})
EYE, ZERO = np.eye(2)[None], np.zeros((1, 2))


@dataclass
class Rows:
    """bad: argument -> values that it may not have; good: the other arguments; call: how it is called, if not by name."""

    bad: dict[str, tuple[Any, ...]]
    good: Callable[[], dict[str, Any]] = dict
    call: Callable[..., Any] | None = None


TABLE: dict[str, Rows] = {}


def rows(
    name: str, good: Callable[[], dict[str, Any]] = dict, /, *, call: Callable[..., Any] | None = None, **bad: Any
) -> None:
    TABLE[name] = Rows({k: v if isinstance(v, tuple) else (v,) for k, v in bad.items()}, good, call)


WHOLE = (-1, 1.5, True, "3", NAN)
NUMBER = (NAN, "much", True, None)
SEED = (-1, 1.5, True, "0", NAN, [1])
FLAG = ("yes", 2)
NAME = (5, "nonsense")
PATH = (5, b"\x00x", "no/such/folder/file")


def on() -> dict[str, Any]:
    return {"method": "gd", "problem": problem()}


# -- runs ------------------------------------------------------------------------------------------------------------
SETTINGS: dict[str, tuple[Any, ...]] = {
    "method": (5, None, "nonsense", ol.Fleet()),
    "problem": (5, None, "digits", [1]),
    "rounds": (-1, 1.5, True, "3", NAN),
    "until": (5, "loss", {"loss": NAN}, {"loss": INF}, {"loss": "low"}, {"bits": -1}, {"bits": NAN}, {}, {"lss": 1.0}),
    "fleet": (5, "phones", [1.0]),
    "seed": SEED,
    "x0": ("zero", [1.0], np.full(3, NAN), 5),
    "dtype": (5, "float99", torch.int64),
    "randomness": (5, "scripted"),
    "keep": (5, "y", ("x", "z")),
    "deadline": (-1.0, NAN, "soon", True),
    "attack": (5, "lies", 0.5, ["SignFlip"]),
    "fleet_seed": (-1, 1.5, True, "0"),
    "evaluate_every": (0, 1.5, True, "3"),
    "metrics": (5, "nonsense", [5]),
    "executor": (0, 1.5, True, "fast"),
    "threads": (0, 1.5, True, "3"),
    "on": (5, "moon"),
    "checkpoint": (5, b"x", "no/such/folder/run.octo", "."),
    "checkpoint_every": (0, 1.5, True, "3"),
    "callbacks": (5, "print", [5]),
    "rouns": (3,),
    "evaluate_evry": (3,),
}
rows("ol.run", on, **SETTINGS, live=("yes",))
rows("ol.start", on, **SETTINGS)
rows(
    "ol.Run",
    lambda: {**on(), "settings": ol.experiment.Settings(rounds=1)},
    method=NAME,
    problem=(5,),
    settings=(5, {}),
)
rows(
    "ol.compare",
    lambda: {"methods": ["gd"], "problem": problem()},
    methods=(5, None, [], "nonsense", [5], {"a": 5}),
    problem=(5, None),
    rounds=WHOLE,
    until=(5, {"loss": NAN}),
    seeds=(-1, 1.5, True, "3", [], [0, 0], [0.5], [True]),
    vary=(5, "nonsense", ["nonsense"]),
    x=NAME,
    tune=("yes", 5, []),
    fleet=(5,),
    rouns=(3,),
    live=("yes",),
)
rows(
    "ol.repeat",
    on,
    method=NAME,
    problem=(5,),
    seeds=(0, 1.5, True, "3", [], [0, 0]),
    vary=(5, "nonsense"),
    rounds=WHOLE,
    fleet=(5,),
    rouns=(3,),
    live=("yes",),
)
rows(
    "ol.tune",
    on,
    method=NAME,
    problem=(5,),
    rounds=WHOLE,
    grid=(5, "x", [], ["x"], [NAN], [-1.0]),
    field=NAME,
    seed=SEED,
    rouns=(3,),
)
rows(
    "ol.tune_k",
    lambda: {"method": "ef21", "problem": problem(), "budget": 1.0},
    method=(5, ol.methods.GD()),
    problem=(5,),
    budget=(0, -1.0, NAN, "much", True),
    by=NAME,
    seed=SEED,
    least=(0, 1.5, True, "1", 99),
)
rows(
    "ol.experiment.halving",
    lambda: {"arms": [ol.methods.GD()], "problem": problem(), "budget": 1.0},
    arms=(5, [], [5], {"a": 5}, "gd"),
    problem=(5,),
    budget=(0, NAN, "much", True),
    by=NAME,
    seed=SEED,
    rounds=(3,),
    rouns=(3,),
)
rows(
    "ol.load_run",
    lambda: {"path": saved()},
    path=(None, 5, "no-such-file", "."),
    problem=(5,),
    method=(5,),
    allow=("nonsense", 5),
)
rows(
    "ol.resume",
    lambda: {"path": saved()},
    path=(None, 5, "no-such-file"),
    rounds=WHOLE,
    problem=(5,),
    method=(5,),
    allow=("nonsense", 5),
    checkpoint_every=(0, 1.5, "3"),
    callbacks=(5, [5]),
)
rows(
    "ol.from_spec",
    lambda: {"spec": run().spec},
    spec=(5, None, "{", [], {}, {"method": 5}),
    problem=(5,),
    method=(5,),
    allow=("nonsense", 5),
)
rows(
    "ol.replay",
    lambda: {**on(), "events": pd.DataFrame()},
    events=(5, None, "no-such-file.csv"),
    method=(5,),
    problem=(5,),
    rounds=WHOLE,
    fleet=(ol.Fleet(),),
)
rows("ol.experiment.written", table=(5, None, "x"))
rows(
    "ol.experiment.Settings",
    lambda: {"rounds": 1},
    rounds=WHOLE,
    threads=(0,),
    dtype=("float99",),
    keep=("y",),
    deadline=(NAN,),
    seed=SEED,
)


def of_run(name: str, good: dict[str, Any] | None = None, /, **bad: Any) -> None:
    rows(f"ol.Run.{name}", lambda: good or {}, call=lambda **given: getattr(run(), name)(**given), **bad)


of_run("advance", rounds=(-1, 1.5, "3", True))
of_run("finish", progress=(5, "bar"))
of_run("launch", progress=(5, "bar"))
of_run("result", timeout=("soon", NAN, -1.0))
of_run("join", timeout=("soon", NAN, -1.0))
of_run("save", path=(None, 5, ".", "no/such/folder/run.octo"))
of_run("export", path=(None, 5, "run.doc", "no/such/folder/run.csv"))
of_run("export_flower_app", {"folder": "x"}, folder=(None, 5), replace=("yes",))
of_run("fork", lrr=(0.1,), rounds=(-1, "3"), lr=("much", -1.0), fleet=(5,))
of_run("guarantee", delta=(-1.0, 0.0, 1.5, NAN, "small"))
of_run("module", personal=(-1, 99, 1.5, "first"))
of_run("state_dict", personal=(-1, 99, 1.5, "first"))
of_run("save_model", {"folder": "x"}, folder=(None, 5), personal=(99, "first"))
of_run("client_metrics", personal=("yes", 5))
of_run("plot", ax=(5,), x=NAME, y=NAME)
of_run("dashboard", panels=(5, ["nonsense"]), x=NAME, height=(-1, "tall"))
of_run("listen", callbacks=(5, [5], "print"))
of_run("greater_is_better", column=(5, None))
rows(
    "ol.Run.predict",
    call=lambda **g: classifier().predict(**{"X": np.ones((1, 30)), **g}),
    X=("text", None, np.ones((2, 3))),
    scores=("yes",),
    personal=(99, "first"),
)


@functools.cache
def classifier() -> Any:
    return ol.run("gd", ol.problems.classification("breast-cancer", clients=3), rounds=1)


# -- problems --------------------------------------------------------------------------------------------------------
rows(
    "ol.problems.quadratics",
    n=(0, *WHOLE),
    d=(0, *WHOLE),
    L=(0, -1.0, INF, *NUMBER),
    mu=(0, -1.0, 99.0, INF, *NUMBER),
    spread=(-1.0, INF, *NUMBER),
    L_spread=(0.5, INF, *NUMBER),
    eigenbasis=NAME,
    seed=(None, *SEED),
    noise=(-1.0, INF, *NUMBER),
    noise_kind=NAME,
    sed=(0,),
)
rows(
    "ol.problems.Tridiagonal",
    n=(0, *WHOLE),
    d=(0, *WHOLE),
    noise=(-1.0, INF, *NUMBER),
    noise_kind=NAME,
    dtype=("float99", 5, None, torch.int64),
)
rows(
    "ol.problems.Quadratics",
    lambda: {"A": EYE, "b": ZERO},
    A=("x", None, 5, EYE * NAN, EYE * 1j),
    b=("x", None, np.zeros(3)),
    weights=("equal", [1.0, 1.0], [-1.0], [NAN], 5),
    noise=(-1.0, *NUMBER),
    noise_kind=NAME,
    x0=("x", [1.0], [NAN, 1.0]),
    dtype=("float99", torch.int64),
    name=(5,),
)
SAMPLES: dict[str, tuple[Any, ...]] = {
    "features": (5, None, "x", [], [X[0] * 1j, X[1]], [X[0] * NAN, X[1]]),
    "weights": ("equal", 5, [1.0], [NAN, NAN]),
    "x0": ("x", [1.0], np.full(2, NAN)),
    "dtype": ("float99", torch.int64),
    "l2": (-1.0, INF, *NUMBER),
    "test": (5, [5]),
    "global_test": (5,),
}
rows(
    "ol.problems.Logistic",
    lambda: {"features": X, "labels": Y},
    **SAMPLES,
    labels=(5, None, [np.ones(9), Y[1]], [Y[0] * 1j, Y[1]], [[0, 1, 2], Y[1]]),
    nonconvex=(-1.0, INF, *NUMBER),
)
rows(
    "ol.problems.Softmax",
    lambda: {"features": X, "labels": [np.arange(3), np.arange(2)]},
    **SAMPLES,
    labels=(5, None, [np.arange(3) * 1j, np.arange(2)]),
    classes=(1, 1.5, True, "3"),
    bias=FLAG,
)
rows(
    "ol.problems.LeastSquares",
    lambda: {"features": X, "targets": [np.ones(3), np.ones(2)]},
    **SAMPLES,
    targets=(5, None, [np.ones(3) * 1j, np.ones(2)], [np.full(3, NAN), np.ones(2)]),
    bias=FLAG,
)
rows(
    "ol.problems.Network",
    lambda: {"module": layer(), "features": X, "labels": [np.array([0, 1, 0]), np.array([0, 1])]},
    module=(5, None, "mlp"),
    loss=(5, "nonsense"),
    features=(5, "x", []),
    labels=(5, [np.ones(9), Y[1]]),
    l2=(-1.0, "much", NAN),
    weights=("equal", 5),
    dtype=("float99",),
    batchnorm=NAME,
    buffers=NAME,
)
rows(
    "ol.problems.classification",
    lambda: {"clients": 3, "dataset": "breast-cancer"},
    dataset=(5, None, "nonsense"),
    model=NAME,
    clients=(0, *WHOLE, 10**9),
    split=(5, "dirichlet"),
    seed=SEED,
    l2=(-1.0, INF, "much", NAN, True),
    nonconvex=(-1.0, "much", NAN),
    weights=("equal", 5),
    hidden=(5, "wide", [0], [1.5]),
    test_share=(-0.1, 1.0, "much", NAN),
    validation_share=(-0.1, 1.0, "much", NAN),
    dtype=("float99", 5, "int8"),
    loss=(5, "nonsense"),
    target=(5,),
    client=(5,),
    batchnorm=NAME,
    clinets=(3,),
)
rows(
    "ol.problems.regression",
    lambda: {"dataset": (np.arange(9.0)[:, None], np.arange(9.0)), "clients": 3},
    dataset=(5, None, "nonsense"),
    model=NAME,
    clients=(0, *WHOLE),
    split=(5, "dirichlet"),
    seed=SEED,
    l2=(-1.0, "much", NAN),
    weights=("equal", 5),
    test_share=(-0.1, "much", NAN),
    loss=(5, "nonsense"),
    dtype=("float99",),
)
rows(
    "ol.problems.language",
    dataset=(5, None, "nonsense", "digits"),
    clients=(0, *WHOLE),
    context=(0, *WHOLE),
    samples=(0, 1.5, True, "3"),
    test_samples=(-1, 1.5, "3"),
    width=(0, 1.5, "3"),
    heads=(0, 1.5, "3"),
    blocks=(0, 1.5, "3"),
    weights=("equal", 5),
    seed=SEED,
    dtype=("float99",),
)
rows(
    "ol.problems.from_spec",
    lambda: {"spec": {}},
    spec=(5, None, {}, {"kind": "mystery"}, {"kind": 5}, {"kind": "quadratics", "n": "x"}),
)
rows("ol.problems.CNN", channels=(0, *WHOLE), side=(2, *WHOLE), classes=(0, *WHOLE), seed=SEED)
rows(
    "ol.problems.MLP",
    lambda: {},
    call=lambda widths=(4, 2), **g: ol.problems.MLP(*widths, **g),
    widths=((3,), (3, 0), (3, 1.5), ("a", "b")),
    seed=SEED,
)
rows(
    "ol.problems.CharGPT",
    lambda: {"vocabulary": 5},
    vocabulary=(0, *WHOLE),
    context=(0, *WHOLE),
    width=(0, *WHOLE, 5),
    heads=(0, *WHOLE),
    blocks=(0, *WHOLE),
    seed=SEED,
)

# -- data ------------------------------------------------------------------------------------------------------------
TABLES = {"target": (5, "nonsense"), "client": (5, "nonsense"), "groups": (5, "nonsense"), "kind": NAME}
rows("ol.data.load", lambda: {"name": "digits"}, name=(5, None, "", "nonsense", "file:no/such.csv"), colour=("red",))
rows("ol.data.as_dataset", lambda: {"given": FRAME}, given=(5, None, "nonsense"), **TABLES)
rows(
    "ol.data.from_frame",
    lambda: {"df": FRAME},
    df=(5, None, "x"),
    **TABLES,
    features=(5, ["nonsense"]),
    categorical=NAME,
    missing=NAME,
)
rows(
    "ol.data.from_arrays",
    lambda: {"X": np.ones((3, 2)), "y": [0, 1, 0]},
    X=("x", None, 5, np.full((3, 2), NAN), np.ones((3, 2)) * 1j),
    y=("x", None, 5, [0, 1], np.array([0, 1, 0]) * 1j),
    clients=(5, [0]),
    groups=(5, [0]),
    kind=NAME,
    classes=(5,),
    names=(5,),
    test=(5,),
)
rows(
    "ol.data.from_torch",
    lambda: {"dataset": torch.utils.data.TensorDataset(torch.ones(3, 2), torch.tensor([0, 1, 0]))},
    dataset=(5, None, "x"),
    clients=(5, [0]),
    kind=NAME,
    test_share=(-0.1, 1.0, "much", NAN),
    test=(5,),
)
rows("ol.data.from_hugging_face", dataset=(5, None, "x"))
rows("ol.data.split_from_spec", spec=(5, None, {}, {"split": "nonsense"}, {"kind": "nonsense"}))

# -- fleets ----------------------------------------------------------------------------------------------------------
for preset in ("hospitals", "iot", "phones"):
    rows(f"ol.fleets.{preset}", n=(0, *WHOLE), seed=SEED, latency=(-1.0, "much", NAN), dropout=(2.0,), colour=("red",))
rows(
    "ol.fleets.lognormal",
    lambda: {"count": 3},
    count=(0, *WHOLE),
    compute_ratio=(0.5, INF, *NUMBER),
    network_ratio=(0.5, INF, *NUMBER),
    seed=SEED,
    colour=("red",),
)
rows("ol.fleets.from_csv", path=(5, None, "no-such-file.csv"))
rows("ol.fleets.from_frame", lambda: {"table": FRAME}, table=(5, None))
rows("ol.fleets.to_frame", lambda: {"fleet": ol.Fleet(), "n": 3}, fleet=(5, None), n=(0, *WHOLE))
rows(
    "ol.fleets.profile",
    lambda: {"fleet": ol.Fleet(), "n": 3},
    fleet=(5, None),
    n=(0, *WHOLE),
    jobs=(0, *WHOLE),
    work=(0, -1.0, *NUMBER),
    bits=(-1.0, *NUMBER),
    seed=SEED,
)
rows(
    "ol.fleets.advise",
    lambda: {"fleet": ol.fleets.phones(4), "problem": problem()},
    fleet=(5, None),
    problem=(5, None),
    s=(-1.0, NAN, "x"),
    rule=NAME,
    low_latency=FLAG,
    batch_size=(0, *WHOLE),
    bits=(-1.0, NAN, "x"),
)
rows(
    "ol.fleets.allocate",
    lambda: {"fleet": ol.Fleet(), "n": 3, "seconds": 1.0},
    fleet=(5, None),
    n=(0, *WHOLE),
    seconds=(0, -1.0, *NUMBER),
    server_core_seconds=(-1.0, *NUMBER),
    bandwidth_mbps=(-1.0, *NUMBER),
    battery_share=(0, 1.5, *NUMBER),
    bits=(-1.0, *NUMBER),
)

# -- the rest --------------------------------------------------------------------------------------------------------
rows("ol.Randomness", seed=(None, *SEED))
rows("ol.Scripted", seed=(None, *SEED), coinz=([1],), coins=(5, "heads"))
rows(
    "ol.Federation",
    lambda: {"problem": problem()},
    problem=(5, None),
    fleet=(5, "phones"),
    randomness=(True, 1.5, "x", -1, None),
    x0=("x", [1.0]),
    deadline=(-1.0, NAN, "soon"),
    attack=(5, "lies", 0.5),
    executor=(0, "fast", True),
    threads=(0, 1.5, "3"),
)
rows(
    "ol.compressors.TopKQSGD",
    lambda: {"k": 0.5, "levels": 2},
    k=(0, -1, 1.5, NAN, "x", True),
    levels=(0, *WHOLE),
    scaled=FLAG,
    index=NAME,
    coding=NAME,
)
rows("ol.compressors.from_spec", spec=(5, None, {}, {"kind": "nonsense"}))
rows("ol.EarlyStopping", metric=(5, None), patience=(0, *WHOLE), least_gain=(-1.0, *NUMBER))
for name in ("CSV", "JSONL"):
    rows(f"ol.callbacks.{name}", lambda: {"path": "x.csv"}, path=(5, None, ""), clock=(5, "now"))
rows("ol.callbacks.KeepBest", metric=(5, None), path=(5, ""))
rows("ol.callbacks.ProgressBar", name=(5,), delay=(-1.0, *NUMBER))
rows("ol.callbacks.Stream", clock=(5, "now"))
rows("ol.callbacks.TensorBoard", folder=(5, None))
rows("ol.callbacks.MLflow", experiment=(5, None), uri=(5,))
for name in ("Trackio", "WandB"):
    rows(f"ol.callbacks.{name}", project=(5, None), mode=(5,))
rows("ol.callbacks.View", run=(5, None))
rows(
    "ol.dashboard",
    lambda: {"runs": run()},
    runs=(5, [5], "gd"),
    panels=(5, ["nonsense"]),
    x=NAME,
    panel=NAME,
    height=(-1, "tall", True),
)
rows("ol.load_model", lambda: {"folder": model_folder()}, folder=(5, None, "no-such-folder"), module=(5,))
rows(
    "ol.models.predictions",
    lambda: {"problem": classifier().problem, "module": classifier().module(), "X": np.ones((1, 30))},
    problem=(5, None),
    module=(5, None),
    X=("x", None, np.ones((2, 3))),
    scores=FLAG,
)
rows(
    "ol.models.save_model",
    lambda: {"module": layer(), "folder": "x"},
    module=(5, None),
    folder=(5, None),
    card=(5, "x"),
)
rows("ol.models.with_group_norm", lambda: {"module": layer()}, module=(5, None), groups=(0, *WHOLE))
rows("ol.methods.get", slug=(5, None, "", "fedavgg"))
rows("ol.methods.register", cls=(5, None, "x", int))
rows("ol.methods.template", name=(5, None, "", "no identifier!"), show=FLAG)
rows("ol.metrics.greater_is_better", column=(5, None))
rows("ol.metrics.metric_of", given=(5, None, "nonsense"))
rows("ol.metrics.metrics_of", given=(5, "nonsense", [5]))
rows("ol.metrics.PerClient", of=(5, None, "nonsense"))
rows(
    "ol.param",
    lambda: {"default": 1, "doc": "a number"},
    doc=(5, None),
    gt=("x",),
    ge=(NAN,),
    choices=(5, "abc"),
    main=("yes",),
    upper=(3,),
)
rows("ol.payloads.as_payload", message=(5, None, "x"))
rows("ol.register", lambda: {"room": "compressors"}, room=(5, None, "kitchen"), name=(5,))
rows("ol.rooms.catalog", room=(5, None, "kitchen"))
rows("ol.rooms.find", lambda: {"room": "compressors", "name": "TopK"}, room=(5, "kitchen"), name=(5, "nonsense"))
rows("ol.rooms.fitting", base=(5, None, "x"))
rows("ol.rooms.members", lambda: {"room": "compressors"}, room=(5, "kitchen"), load=("yes",))
rows("ol.rooms.named", lambda: {"text": "compressors.TopK"}, text=(5, None, "TopK"), room=(5,))
rows(
    "ol.rooms.nearest",
    lambda: {"word": "TopK", "known": ["TopK"]},
    word=(5, None),
    known=(5, None),
    cutoff=(-1.0, 2.0, "x", NAN),
)
rows("ol.schedules.as_schedule", lambda: {"value": 0.1}, value=("x", None, NAN, -1.0, True), what=(5,))
rows("ol.testing.check_method", lambda: {"method": ol.methods.GD()}, method=(5, None, "nonsense"), problem=(5,))
rows(
    "ol.testing.fitted", lambda: {"method": ol.methods.GD(), "problem": problem()}, method=(5, None), problem=(5, None)
)
rows("ol.testing.home", lambda: {"method": ol.methods.GD()}, method=(5, None), n=(0, *WHOLE), d=(0, *WHOLE))
for name in ("detection", "fairness_table", "groups"):
    rows(f"ol.trust.{name}", run=(5, None, "gd"))
rows("ol.trust.evenness", lambda: {"values": [1.0]}, values=("x", None, [], [NAN], [-1.0, "x"]), greater_is_better=FLAG)
rows("ol.trust.Budget", lambda: {"epsilon": 1.0}, epsilon=(-1.0, INF, *NUMBER), delta=(0, 1.0, *NUMBER), file=(5,))
CASES = {
    "methods": {"a": ol.methods.FedAvg},
    "aggregators": {"b": None},
    "attacks": {"c": None},
    "heterogeneity": {"p": None},
}
rows(
    "ol.trust.worst_case",
    lambda: CASES,
    methods=(5, {}),
    aggregators=(5, {}),
    attacks=(5, {}),
    heterogeneity=({},),
    rounds=(0, *WHOLE),
    metric=(5, None),
    seed=SEED,
)
rows("ol.trust.jain", values=("x", None, [], [NAN], [1j]))

# -- Flower ----------------------------------------------------------------------------------------------------------
rows(
    "ol.flower.InProcessGrid",
    lambda: {"app": ol.flower.client_app(), "nodes": 2},
    app=(5, None),
    nodes=(0, *WHOLE),
    run_config=(5, "x"),
)
rows("ol.flower.client_app", problem=(5, "digits"), method=(5, "gd"), randomness=(5,))
rows("ol.flower.deploy_local", nodes=(0, *WHOLE), secure=FLAG, colour=("red",))
rows("ol.flower.export", lambda: {"run": run(), "folder": "x"}, run=(5, None), folder=(5, None), replace=FLAG)
rows("ol.flower.load_app", folder=(5, None, "no-such-folder"))
rows("ol.flower.problem_of", lambda: {"spec": problem().spec, "clients": 4}, spec=(5, None, {}), clients=(0, *WHOLE))
rows(
    "ol.flower.run_app",
    lambda: {"app": "no-such-folder"},
    app=(5, None, (5, 5)),
    nodes=(0, *WHOLE),
    config=(5, "x"),
    patience=(-1.0, *NUMBER),
    live=FLAG,
)
rows(
    "ol.flower.serve",
    lambda: {"grid": None, "context": None, "spec": run().spec},
    spec=(5, None, {}),
    problem=(5,),
    method=(5,),
)
rows("ol.flower.server_app", lambda: {"spec": run().spec}, spec=(5, None, {}), problem=(5,), method=(5,))
rows(
    "ol.flower.OwnData",
    lambda: {"module": layer(), "clients": 2},
    module=(5, None),
    clients=(0, *WHOLE),
    client=(-1, 1.5, "x"),
    loss=(5,),
    l2=(-1.0, NAN, "x"),
    weights=NAME,
)
rows(
    "ol.flower.OwnLoop",
    lambda: {"module": layer(), "clients": 2},
    module=(5, None),
    clients=(0, *WHOLE),
    train=(5, "x"),
    samples=(5, [0], ["x"]),
    evaluate=(5, "x"),
)


# -- registered classes: rows from their fields -----------------------------------------------------------------------
def wrong_values(p: Any) -> Iterator[Any]:
    """What a field may not hold, by what it says of itself."""
    by_kind = {
        "number": ("much", NAN, True),
        "share": ("much", NAN, True),
        "whole": ("much", 1.5, True),
        "switch": ("yes", 2),
        "choice": ("nonsense", 3.7),
        "text": (5,),
        "list": (5, "abc"),
        "object": ("nonsense", 5.5j),
    }
    yield from by_kind.get(p.kind, ())
    for bound, step in ((p.gt, 0), (p.ge, -1), (p.lt, 0), (p.le, 1)):
        if bound is not None and p.kind in ("number", "whole", "share") and math.isfinite(bound):
            yield bound + step


NEEDED: dict[str, dict[str, Any]] = {
    "Weighted": {"q": [0.5, 0.5]},
    "Importance": {"q": [0.5, 0.5]},
    "Cyclic": {"groups": [[0], [1]]},
    "Filled": {"members": [[0], [1]], "q": [0.5, 0.5], "m": 1},
    "Block": {"blocks": [[0], [1]], "q": [0.5, 0.5]},
    "Powers": {"times": [0.0, 1.0], "powers": [1.0, 1.0]},
}


def from_fields(cls: type) -> Rows:
    bad = {p.name: tuple(wrong_values(p)) for p in params(cls).values()}
    good = {p.name: p.example for p in params(cls).values() if p.required and p.example is not ...} | NEEDED.get(
        cls.__name__, {}
    )
    return Rows({k: v for k, v in bad.items() if v}, lambda: good)


def public() -> Iterator[tuple[str, Any]]:
    """Every public name that is called: of octolab, of its modules, and what a run can be asked."""
    seen: set[int] = set()
    places = [(f"ol.{n}", ol, n) for n in ol._NAMES]
    for module in ol._MODULES:
        room = getattr(ol, module)
        places += [(f"ol.{module}.{n}", room, n) for n in getattr(room, "__all__", ())]
    for name, room, attribute in places:
        thing = getattr(room, attribute)
        if callable(thing) and id(thing) not in seen:
            seen.add(id(thing))
            yield name, thing
    for name, thing in inspect.getmembers(ol.Run, inspect.isfunction):
        if not name.startswith("_"):
            yield f"ol.Run.{name}", thing


MADE_INSIDE = [
    "place",
    "lab",
    "LiveChart",
    "index_bits",
    "ordered_sum",
    "upper",
    "Batch",
    "Layer",
    "Cohort",
    "Job",
    "Ledger",
    "Memory",
    "Replies",
    "Timeline",
    "Sampler",
    "AttackContext",
    "Each",
    "Method",
    "Theory",
    "Compressor",
    "Attack",
    "Split",
    "Availability",
    "Jitter",
    "Callback",
    "Dataset",
    "Partition",
    "Provenance",
    "Comparison",
    "Halving",
    "Repetition",
    "Tuned",
    "Advice",
    "Allocation",
    "LatencyPredictor",
    "LocalDeployment",
    "Traffic",
    "Card",
    "Scored",
    "Metric",
    "Problem",
    "Linear",
    "Any",
    "Room",
    "Report",
    "Schedule",
    "OfRound",
    "Staleness",
    "LocalOptimizer",
    "Torch",
    "Payload",
    "Blocks",
    "Buckets",
    "Bundle",
    "Dense",
    "Gated",
    "Grid",
    "LowRank",
    "Masked",
    "Quantized",
    "Ragged",
    "Rescaled",
    "Scalars",
    "Sparse",
    "Symmetric",
]
"""Bases, what octolab makes and hands over, the engine's inner loops, and `rooms.place`, which takes anything."""


def needs_rows(name: str, thing: Any) -> bool:
    if name.split(".")[-1] in MADE_INSIDE or (inspect.isclass(thing) and issubclass(thing, BaseException)):
        return False
    return any(p != "self" for p in inspect.signature(thing).parameters)


def all_rows() -> Iterator[tuple[str, Any, Rows]]:
    for name, thing in public():
        if needs_rows(name, thing):
            yield name, thing, TABLE.get(name) or (from_fields(thing) if dataclasses.is_dataclass(thing) else Rows({}))
    for slug, cls in ol.rooms.members("methods").items():
        yield f"ol.methods.{slug}", cls, from_fields(cls)


ROWS = list(all_rows())


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A refusal comes before the first round, and leaves nothing behind."""

    def worked(*_: Any, **__: Any) -> None:
        raise AssertionError("work was begun")

    for it in (run, problem, layer, classifier, saved, model_folder):
        it()
    monkeypatch.setattr(ol.Run, "_turn", worked)
    monkeypatch.chdir(tmp_path)


def complaint(call: Callable[..., Any], held: Rows, argument: str, value: Any) -> str:
    """What is wrong with how a value is refused; nothing if all is well."""
    try:
        call(**{**held.good(), argument: value})
    except (OctolabError, ValueError) as error:
        sentence = str(error)
    except Exception as error:
        return f"raw words: {type(error).__name__}: {error}"
    else:
        return "accepted"
    for wrong, what in (
        (not any(word in sentence for word in (argument, *NOUNS.get(argument, ()))), "names no argument"),
        (not shows(sentence, value), "does not show the value"),
        (not ALLOWED.search(sentence), "does not say what is allowed"),
    ):
        if wrong:
            return f"{what}: {sentence}"
    return ""


NOUNS = {
    "slug": ("method",),
    "method": ("method",),
    "dataset": ("data set", "load("),
    "given": ("data set", "metrics="),
    "of": ("metrics=",),
    "name": ("data set", "compressor", "template(", "does not exist"),
    "spec": ("compressor", "split", "problem", "made from"),
    "path": ("file", "cannot be written"),
    "grid": ("lr=",),
    "value": ("lr=",),
    "text": ("room",),
    "targets": ("labels",),
    "message": ("send",),
    "clients": ("clients",),
    "train": ("loops",),
    "room": ("room",),
}
"""What sentences call an argument, if not by its name."""


def shows(sentence: str, value: Any) -> bool:
    """Whether a sentence shows a value: as Python writes it, or what is wrong inside it, or what kind of thing it is."""
    if isinstance(value, dict):
        return not value or any(shows(sentence, k) or shows(sentence, v) for k, v in value.items())
    if (
        not isinstance(value, (list, tuple))
        and np.ndim(value) == 0
        and any(words in sentence for words in ("shape ()", "a single value"))
    ):
        return True
    if isinstance(value, (int, float)) and f"{value:,}" in sentence:
        return True
    if isinstance(value, (list, tuple)):
        return (
            not value
            or str(len(value)) in sentence
            or any(shows(sentence, v) for v in value)
            or repr(value) in sentence
        )
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return any(
            word in sentence
            for word in (str(tuple(value.shape)), type(value).__name__, "nan", "array(", "complex", str(value.dtype))
        )
    return repr(value)[:60] in sentence or str(value)[:60] in sentence or type(value).__name__ in sentence


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, thing, held", ROWS, ids=[name[3:] for name, _, _ in ROWS])
def test_nonsense_is_refused_in_a_sentence(name, thing, held):
    found = {
        f"{argument}={value!r}": wrong
        for argument, values in held.bad.items()
        for value in values
        if (wrong := complaint(held.call or thing, held, argument, value))
    }
    assert not found, "\n".join(f"{name}({given}) {wrong}" for given, wrong in found.items())


def test_every_public_function_has_rows():
    known = {name for name, _ in public()}
    missing = [
        n for n, thing in public() if needs_rows(n, thing) and n not in TABLE and not dataclasses.is_dataclass(thing)
    ]
    assert not missing, "add rows to TABLE for " + ", ".join(missing)
    assert not [n for n in TABLE if n not in known], "rows of what is no longer public"
    assert sum(len(values) for _, _, held in ROWS for values in held.bad.values()) >= 300
