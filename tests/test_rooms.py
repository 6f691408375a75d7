"""Registries by room and name: a stranger's class joins by registering itself, and is then known everywhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import octolab as ol
from octolab import notation, rooms
from octolab.cli import main
from octolab.data.splits.base import Draft
from octolab.params import param


class State(NamedTuple):
    x: torch.Tensor


@dataclass(frozen=True, repr=False)
class Half(ol.compressors.Compressor):
    """Half of every entry."""

    share: float = param(0.5, "what is left", gt=0, le=1)

    def compress(self, x: torch.Tensor, draws: Any) -> Any:
        return ol.compressors.Identity()(self.share * x)

    def alpha(self, d: int) -> float:
        return 1 - (1 - self.share) ** 2

    def bits(self, d: int) -> int:
        return 32 * d


@dataclass(frozen=True)
class First(ol.federation.Sampler):
    """The first m clients."""

    m: int = param(1, "clients", ge=1)


@dataclass(frozen=True)
class Twice:
    """Every time is doubled."""

    by: float = param(2.0, "factor", gt=0)

    def __call__(self, seconds: np.ndarray, u: np.ndarray) -> np.ndarray:
        return self.by * seconds


@dataclass(frozen=True)
class Ordered(ol.data.Split):
    """Samples in their order."""

    skip: int = param(0, "samples left out", ge=0)

    def assign(self, samples: Any, n: int | None, seed: int) -> Draft:
        return Draft(np.arange(len(samples)) * (n or 1) // len(samples), n or 1)


@dataclass(frozen=True, eq=False)
class Silent(ol.federation.Attack):
    """Zeros."""

    def __call__(self, context: Any) -> torch.Tensor:
        return torch.zeros_like(context.own)


@dataclass(frozen=True)
class FirstRow:
    """The first row."""

    def __call__(self, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return rows[0]


@dataclass(frozen=True)
class Linear(ol.schedules.Schedule):
    """lr (1 - t/rounds)."""

    lr: float = param(0.1, "step size", gt=0)


@dataclass(frozen=True)
class Sign(ol.local.LocalOptimizer):
    """Signs of gradients."""

    scale: float = param(1.0, "step", gt=0)


@dataclass(frozen=True)
class Exponential:
    """A fleet of one device; its name is also a jitter's."""

    seconds: float = param(1.0, "seconds", ge=0)


class Walk(ol.Method):
    """One step along the mean gradient."""

    slug = "walk"
    lr: float = param(0.1, "step size", gt=0)

    def init(self, fed: ol.Federation) -> State:
        return State(fed.x0)

    def step(self, fed: ol.Federation, s: State) -> State:
        return State(s.x - self.lr * fed.call(lambda cohort, x: cohort.grad(x), s.x).mean())


def far_away(n: int = 3) -> Any:
    """Quadratics."""
    return ol.problems.quadratics(n=n, d=2)


STRANGERS = {
    "compressors": Half, "samplers": First, "jitters": Twice, "splits": Ordered, "attacks": Silent, "aggregators": FirstRow,
    "schedules": Linear, "local": Sign, "fleets": Exponential, "methods": Walk, "problems": far_away,
}  # fmt: skip


@pytest.fixture
def joined():
    """Every stranger in its room, for one test."""
    before = {room: dict(rooms.members(room)) for room in STRANGERS}
    for room, thing in STRANGERS.items():
        rooms.register(room, "walk" if thing is Walk else None)(thing)
    yield STRANGERS
    for room in STRANGERS:
        for name in set(rooms.members(room)) - set(before[room]):
            rooms.forget(room, name)


@pytest.mark.parametrize("room", [r for r in STRANGERS if r != "problems"])
def test_a_strangers_class_is_written_and_read_in_all_three_notations(joined, room):
    cls = joined[room]
    name = rooms.place(cls)[1]
    made = cls()
    assert type(notation.from_json(notation.to_json(made))) is cls
    assert type(notation.from_text(notation.to_text(made), room)) is cls
    assert type(notation.from_python(notation.to_python(made))) is cls
    assert eval(notation.to_python(made), {"ol": ol}) == made or room == "attacks"  # attacks are told apart
    assert rooms.find(room, name.upper()) is cls and name in set(rooms.catalog(room).name)


def test_a_strangers_problem_comes_from_words_and_from_its_spec(joined):
    assert notation.from_text("far_away:n=4", "problems").n == 4
    assert ol.problems.from_spec({"kind": "far_away", "n": 5}).n == 5


def test_a_strangers_compressor_runs_from_the_command_line_and_from_a_spec(joined, capsys):
    words = "run ef14 --problem quadratics:d=4 --clients 2 --rounds 2 --json --set lr=0.1 --set compressor=Half:0.25"
    assert main(words.split()) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "finished"
    run = ol.run(ol.methods.EF14(compressor=Half(0.25), lr=0.1), ol.problems.quadratics(n=2, d=4), rounds=2)
    assert ol.from_spec(run.spec).given == run.given


def test_one_name_in_two_rooms_is_two_things(joined):
    assert rooms.find("jitters", "Exponential") is ol.fleets.Exponential
    assert rooms.find("fleets", "Exponential") is Exponential
    assert notation.to_json(ol.fleets.Exponential()) == {"kind": "jitters.Exponential"}


def test_a_cell_run_again_takes_its_own_place_and_another_class_of_that_name_is_refused(joined):
    again = dataclass(frozen=True)(
        type("Twice", (), {"__module__": Twice.__module__, "__qualname__": Twice.__qualname__})
    )
    assert rooms.register("jitters")(again) is again and rooms.find("jitters", "Twice") is again
    other = dataclass(frozen=True)(type("Twice", (), {"__module__": "elsewhere"}))
    with pytest.raises(ValueError, match="There is a jitter Twice already"):
        rooms.register("jitters")(other)


def test_what_cannot_join_is_told_why():
    with pytest.raises(ValueError, match=r"There is no room 'compresors'. Did you mean compressors"):
        ol.register("compresors")
    with pytest.raises(ValueError, match="Plain is no dataclass"):
        ol.register("jitters")(type("Plain", (), {}))
    with pytest.raises(ValueError, match=r"There is no sampler 'Nyce'. Did you mean Nice"):
        rooms.find("samplers", "Nyce")


def test_the_rooms_tables_have_one_form():
    for table in (ol.methods.catalog(), ol.compressors.catalog(), ol.data.catalog(), rooms.catalog("samplers")):
        assert {"name", "summary"} <= set(table.columns) and table.summary.str.len().gt(0).all()
