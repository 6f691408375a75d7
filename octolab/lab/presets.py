"""Problems to try a method on, as frozen dataclasses: every field is a knob, `build()` makes the problem.

A preset's arguments are those of the function it calls, so that `python` is that very call. `PRESETS` are good starts;
`suited` picks the one on which a method's assumptions hold best.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from octolab import data
from octolab.data import Dirichlet, Partition, Split
from octolab.methods import Method
from octolab.params import param, settle
from octolab.problems import Problem, Quadratics


@dataclass(frozen=True)
class Preset:
    """The base: what is minimised, before it is built. kind: the name in a problem's spec; skew: the knob of
    heterogeneity, if there is one, with the range of its slider (logarithmic).
    """

    kind: ClassVar[str] = ""
    skew: ClassVar[tuple[str, float, float] | None] = None

    def __post_init__(self) -> None:
        settle(self, "problem")

    def build(self) -> Problem:
        """The problem. Raises ValueError, in words, where the numbers do not fit together."""
        raise NotImplementedError

    @property
    def call(self) -> str:
        """The function of `ol.problems` that `build` calls."""
        return self.kind

    def arguments(self) -> dict[str, Any]:
        """Its arguments, those at their default left out."""
        default = DEFAULTS[self.call]
        held = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in held.items() if value != default.get(name, ...)}

    def histogram(self) -> tuple[np.ndarray, list[str]] | None:
        """(n, classes) how often each class occurs at each client, and the classes' names; without building the problem."""
        return None

    @classmethod
    def read(cls, spec: dict[str, Any]) -> Preset:
        """The preset that makes the problem of a spec. Raises KeyError, ValueError or TypeError if there is none."""
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: spec[k] for k in known})


@dataclass(frozen=True)
class Classification(Preset):
    """A data set, a model and a split: `ol.problems.classification`."""

    kind: ClassVar[str] = "classification"
    skew: ClassVar[tuple[str, float, float] | None] = ("split.alpha", 0.01, 100.0)

    dataset: str = param("digits", "data set", choices=("digits", "breast-cancer", "fashion-mnist-7k"))
    model: str = param("logistic", "model", choices=("logistic", "mlp", "cnn"))
    clients: int = param(20, "number of clients", ge=1, le=1000)
    split: Split = param(Dirichlet(0.3), "how the samples are divided")
    l2: float | None = param(None, "ridge; None: 0.001 for linear models, 0 for networks", ge=0)
    nonconvex: float = param(0.0, "weight of a non-convex regulariser (two classes, logistic)", ge=0)
    weights: str = param(
        "examples", "a client's weight: its examples, or the same for all", choices=("examples", "uniform")
    )
    seed: int = param(0, "seed of the split and of a network's first weights", ge=0)
    test_share: float = param(0.2, "share of a client's samples kept for testing", ge=0, lt=1)

    def build(self) -> Problem:
        from octolab import problems

        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return problems.classification(given.pop("dataset"), given.pop("model"), **given)

    def partition(self) -> Partition:
        """Who holds which sample: the problem's own partition, in milliseconds."""
        return self.split.split(data.load(self.dataset), self.clients, seed=self.seed, test_share=self.test_share)

    def histogram(self) -> tuple[np.ndarray, list[str]] | None:
        partition = self.partition()
        return partition.histogram("train"), [str(c) for c in partition.classes]

    @classmethod
    def read(cls, spec: dict[str, Any]) -> Preset:
        if list(spec["hidden"]) != [64]:
            raise ValueError("a network with layers of its own")
        return super().read({**spec, "dataset": _plain(spec["dataset"]), "split": data.split_from_spec(spec["split"])})


@dataclass(frozen=True)
class QuadraticClients(Preset):
    """Clients with quadratic objectives: `ol.problems.quadratics`. Everything about them is known."""

    kind: ClassVar[str] = "quadratics"
    skew: ClassVar[tuple[str, float, float] | None] = ("spread", 0.01, 100.0)

    n: int = param(10, "number of clients", ge=1, le=1000)
    d: int = param(40, "dimension", ge=1, le=2000)
    L: float = param(100.0, "largest curvature of a client", gt=0)
    mu: float = param(1.0, "smallest curvature of a client", gt=0)
    spread: float = param(1.0, "how far the clients' own minimisers lie apart", ge=0)
    L_spread: float = param(1.0, "largest over smallest L_i", ge=1)
    eigenbasis: str = param("shared", "do clients share their axes?", choices=("shared", "random"))
    seed: int = param(0, "seed of the matrices", ge=0)
    noise: float = param(0.0, "standard deviation of a stochastic gradient's noise", ge=0)
    noise_kind: str = param("iid", "noise in each coordinate, or one number for all", choices=("iid", "scalar"))

    def build(self) -> Quadratics:
        from octolab import problems

        return problems.quadratics(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})


@dataclass(frozen=True)
class SameObjective(Preset):
    """One noisy quadratic, the same for all clients: `ol.problems.Tridiagonal`, the asynchronous papers' problem."""

    kind: ClassVar[str] = "Tridiagonal"

    d: int = param(50, "dimension", ge=1, le=20000)
    n: int = param(10, "number of clients", ge=1, le=10000)
    noise: float = param(0.01, "standard deviation of a stochastic gradient's noise", ge=0)
    noise_kind: str = param("scalar", "one number for all coordinates, or noise in each", choices=("scalar", "iid"))

    def build(self) -> Problem:
        from octolab import problems

        return problems.Tridiagonal(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})


@dataclass(frozen=True)
class NextCharacter(Preset):
    """Shakespeare's roles as clients, a small GPT as the model: `ol.problems.language`."""

    kind: ClassVar[str] = "language"

    dataset: str = param("shakespeare", "text", choices=("shakespeare",))
    clients: int = param(8, "how many of the 64 roles", ge=1, le=64)
    context: int = param(32, "characters a window holds", ge=4, le=256)
    samples: int | None = param(8, "windows per client; None: all", ge=1)
    test_samples: int = param(64, "windows of the test set", ge=1)
    width: int = param(32, "width of the model", ge=8, le=256)
    heads: int = param(4, "attention heads", ge=1, le=16)
    blocks: int = param(1, "transformer blocks", ge=1, le=8)
    seed: int = param(0, "seed of the model and the split", ge=0)

    def build(self) -> Problem:
        from octolab import problems

        return problems.language(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    @classmethod
    def read(cls, spec: dict[str, Any]) -> Preset:
        if spec["weights"] != "examples" or spec["test_share"] != 0.1:
            raise ValueError("a language problem with options of its own")
        return super().read({**spec, "dataset": _plain(spec["dataset"], ("seq_len",))})


@dataclass(frozen=True, eq=False)
class Given(Preset):
    """A problem that was handed in, as it is: it has no knobs."""

    def __init__(self, problem: Problem):
        object.__setattr__(self, "problem", problem)

    problem: ClassVar[Problem]

    def build(self) -> Problem:
        return self.problem

    def histogram(self) -> tuple[np.ndarray, list[str]] | None:
        partition = self.problem.partition
        return None if partition is None else (partition.histogram("train"), [str(c) for c in partition.classes])


def _plain(dataset: Any, implied: tuple[str, ...] = ()) -> str:
    """The name of a data set that a spec describes, if its name says all of it."""
    if isinstance(dataset, str):
        return dataset
    if set(dataset["options"]) - set(implied):
        raise ValueError("a data set with options of its own")
    return dataset["name"]


KINDS: dict[str, type[Preset]] = {c.kind: c for c in (Classification, QuadraticClients, SameObjective, NextCharacter)}


class _Defaults:
    """call -> what each argument defaults to, from the function's own signature."""

    @cached_property
    def found(self) -> dict[str, dict[str, Any]]:
        import inspect

        from octolab import problems

        calls = {kind: getattr(problems, kind) for kind in KINDS}
        return {k: {p.name: p.default for p in inspect.signature(f).parameters.values()} for k, f in calls.items()}

    def __getitem__(self, call: str) -> dict[str, Any]:
        return self.found[call]


DEFAULTS = _Defaults()

PRESETS: dict[str, tuple[str, Preset]] = {
    "digits": ("Digits, softmax (convex)", Classification()),
    "breast-cancer": ("Breast cancer, logistic (convex)", Classification(dataset="breast-cancer", clients=10)),
    "nonconvex": ("Breast cancer, non-convex", Classification(dataset="breast-cancer", clients=10, nonconvex=0.1)),
    "network": ("Digits, a small network", Classification(model="mlp")),
    "fashion": ("Fashion-MNIST, a network", Classification(dataset="fashion-mnist-7k", model="mlp")),
    "quadratics": ("Quadratics (all constants known)", QuadraticClients()),
    "same objective": ("One noisy quadratic for all", SameObjective()),
    "shakespeare": ("Shakespeare's roles, a tiny GPT", NextCharacter()),
}  # fmt: skip


def preset_of(problem: Problem) -> Preset:
    """The preset that makes this very problem (its spec says so), or `Given(problem)`."""
    try:
        spec = problem.spec
        made = KINDS[spec["kind"]].read({k: v for k, v in spec.items() if k != "kind"})
        if made.build().spec == spec:
            return made
    except (KeyError, ValueError, TypeError, NotImplementedError):
        pass
    return Given(problem)


def name_of(preset: Preset) -> str | None:
    """The name of a preset that stands in `PRESETS` as it is, or that differs by its knobs only; None for a given problem."""
    for name, (_, known) in PRESETS.items():
        if known == preset:
            return name
    main = ("dataset", "model")
    for name, (_, known) in PRESETS.items():
        if type(known) is type(preset) and all(getattr(known, m, None) == getattr(preset, m, None) for m in main):
            return name
    return None


def suited(method: Method) -> str:
    """The name of a preset on which a method shows what it can do, from what its page says it needs."""
    needs, tags = set(method.needs), set(method.tags)
    if "homogeneous" in needs:
        return "same objective"
    if "hessian" in needs:
        return "breast-cancer"
    if "strongly convex" in needs:
        return "quadratics"
    if "layer-wise" in tags:
        return "network"
    return "digits"
