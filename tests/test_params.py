"""`param(...)` says once what a hyperparameter may hold."""

from dataclasses import FrozenInstanceError, dataclass, fields
from typing import get_type_hints

import numpy as np
import pytest

import octolab as ol
from octolab.methods import Method, Theory, param


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


def test_a_method_is_a_frozen_dataclass_without_saying_so():
    class Plain(Method):
        lr: Theory[float] = param(Theory(), "step size", gt=0)

    made = Plain(lr=0.5)
    assert made.lr == 0.5 and made == Plain(0.5) and hash(made) == hash(Plain(0.5)) and repr(made) == "Plain(lr=0.5)"
    with pytest.raises(FrozenInstanceError):
        made.lr = 1.0
    with pytest.raises(ValueError, match=r"lr=-1: give a number in \(0, inf\)"):
        Plain(lr=-1)


@pytest.mark.parametrize("how", [{"frozen": True}, {"frozen": True, "repr": False}])
def test_a_page_of_before_0_2_that_decorates_itself_keeps_working(how):
    @dataclass(**how)
    class Old(Method):
        lr: float | Theory = param(Theory(), "step size", gt=0)
        momentum: float = 0.9

    assert [f.name for f in fields(Old)] == ["lr", "momentum"] and fields(Old)[0].metadata["gt"] == 0
    assert Old(0.5).momentum == 0.9 and "lr=0.5" in repr(Old(lr=0.5))
    with pytest.raises(FrozenInstanceError):
        Old().lr = 1.0
    with pytest.raises(ValueError, match=r"lr=0: give a number in \(0, inf\)"):
        Old(lr=0)


def test_a_field_that_theory_may_give_is_a_union_for_readers_of_annotations():
    class Plain(Method):
        lr: Theory[float] = param(Theory(), "step size", gt=0)
        R: Theory[int] = param(Theory(), "delays", ge=1)

    assert get_type_hints(Plain)["lr"] == float | Theory and get_type_hints(Plain)["R"] == int | Theory


def test_numpys_scalars_never_show():
    share = np.linspace(0.05, 0.5, 3)[1]
    assert repr(ol.methods.EF21(compressor=ol.compressors.TopK(share))) == "EF21(compressor=TopK(0.275))"
    assert ol.compressors.RandK(np.float32(0.5)) == ol.compressors.RandK(0.5)
    made = [
        ol.methods.FedAvg(lr=np.float64(0.5), local_steps=tuple(np.arange(1, 3)), cohort=np.int64(2)),
        ol.federation.Nice(np.int64(3)), ol.federation.Poisson(share), ol.data.Dirichlet(share),
        ol.attacks.SignFlip((np.int64(0),)),
        ol.aggregators.TrimmedMean(np.int64(1)), ol.fleets.LogNormal(share), ol.schedules.Cosine(share, rounds=np.int64(9)),
        ol.local.SGD(momentum=share), ol.Until(loss=share), ol.Fleet(seconds=share), ol.Theory(share),
    ]  # fmt: skip
    assert not [value for value in made if "np." in repr(value)]


def test_fleets_of_the_same_devices_are_equal_and_hash_alike():
    assert (
        ol.Fleet(seconds=1.0) == ol.Fleet(seconds=1.0) and len({ol.Fleet(up=[1.0, 2.0]), ol.Fleet(up=[1.0, 2.0])}) == 1
    )
    assert ol.Fleet(seconds=1.0) != ol.Fleet(seconds=2.0) and ol.Fleet() != 1.0
