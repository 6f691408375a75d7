"""`param(...)` says once what a hyperparameter may hold."""

from dataclasses import dataclass, fields

import pytest

from octolab.methods import Method, param


def test_the_names_of_bounds_before_0_2_still_work_and_say_the_new_one():
    for old, new in (("above", "gt"), ("low", "ge"), ("below", "lt"), ("upto", "le")):
        with pytest.warns(DeprecationWarning, match=rf"param\({old}=...\) is now {new}=..."):
            field = param(1.0, "a number", **{old: 3})
        assert field.metadata[new] == 3
    with pytest.raises(TypeError, match="bounds are gt, ge, lt and le"):
        param(1.0, "a number", least=3)


def test_each_bound_holds_its_own_end():
    @dataclass(frozen=True)
    class Bounded(Method):
        open: float = param(0.5, "inside", gt=0, lt=1)
        closed: float = param(0.5, "inside or on the edge", ge=0, le=1)

    assert [f.name for f in fields(Bounded(closed=1))] == ["open", "closed"]
    with pytest.raises(ValueError, match=r"open=0: give a number in \(0, 1\)"):
        Bounded(open=0)
    with pytest.raises(ValueError, match=r"open=1: give"):
        Bounded(open=1)
    with pytest.raises(ValueError, match=r"closed=1.5: give a number in \[0, 1\]"):
        Bounded(closed=1.5)
