"""Worlds are found by name through entry points, so that a third party can add one."""

from importlib.metadata import EntryPoint

import pytest

import octolab as ol
from octolab.experiment import world


class Elsewhere:
    """A world that runs clients where they are, and counts who joined."""

    remote, savable, seen = False, True, []

    def join(self, run):
        self.seen.append(run)
        return self

    def advance(self):
        raise AssertionError("not remote")

    def close(self):
        self.seen.append("closed")


@pytest.fixture
def problem():
    return ol.problems.quadratics(n=3, d=4, seed=0)


def test_a_third_partys_world_is_found_by_its_entry_point(problem, monkeypatch):
    point = EntryPoint("elsewhere", f"{__name__}:Elsewhere", world.GROUP)
    Elsewhere.seen.clear()
    monkeypatch.setattr(EntryPoint, "load", lambda self: Elsewhere)
    monkeypatch.setattr(world, "entry_points", lambda group: [point] if group == "octolab.worlds" else [])
    run = ol.run("gd", problem, rounds=2, on="elsewhere", live=False)
    assert Elsewhere.seen == [run, "closed"]


def test_an_object_with_join_is_a_world(problem):
    assert ol.run("gd", problem, rounds=2, on=Elsewhere(), live=False).round == 2


@pytest.mark.parametrize("on", ["flwoer", 5, Elsewhere])
def test_what_is_no_world_gets_a_sentence(problem, on):
    with pytest.raises(ValueError, match=r"on=.*: choose"):
        ol.run("gd", problem, rounds=1, on=on, live=False)
