"""Messages that must arrive, clients that have missed one, and the server's own draws."""

from __future__ import annotations

import numpy as np
import torch

import octolab as ol
from octolab.compressors import RandK
from octolab.federation.delivery import current, deliver, missed, repair, spread

PROBLEM = ol.problems.quadratics(n=6, d=4)


def federation(**settings) -> ol.Federation:
    fed = ol.Federation(PROBLEM, **settings)
    fed.call(note, fed.x0)
    fed.started = True
    return fed


def note(cohort, x):
    cohort.memory.seen = x.expand(cohort.m, -1)


def test_a_delivery_reaches_everybody_however_often_devices_drop_out():
    fed = federation(fleet=ol.Fleet(dropout=0.5))
    assert len(deliver(fed, note, fed.x0 + 1, to=np.array([0, 2, 5]))) == 0
    assert fed.memory.seen[:, 0].tolist() == [1, 0, 1, 0, 0, 1]


def test_a_delivery_gives_the_dead_up_and_names_them():
    fed = federation(fleet=ol.Fleet(dropout=np.array([0.0, 1.0, 0.0, 0.0, 0.0, 1.0])))
    assert deliver(fed, note, fed.x0 + 1, to=np.arange(6)).tolist() == [1, 5]
    calls = fed.counters["calls"]
    assert len(deliver(fed, note, fed.x0, to=np.array([], dtype=np.int64))) == 0 and fed.counters["calls"] == calls


def test_who_missed_a_change_is_behind_until_everything_is_sent_anew():
    fed = federation(fleet=ol.Fleet(dropout=np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])))
    behind = torch.zeros(6, dtype=torch.bool)
    assert current(behind) is None and repair(fed, behind, note, fed.x0) is behind
    behind = spread(fed, behind, note, fed.x0 + 1)
    assert behind.tolist() == [False, True, False, False, False, False] and current(behind).tolist() == [0, 2, 3, 4, 5]
    assert repair(fed, behind, note, fed.x0 + 1).tolist() == behind.tolist()  # it is away still
    assert missed(behind, np.arange(1, 6)).tolist() == [True, True, False, False, False, False]
    whole = federation()
    assert not repair(whole, behind, note, whole.x0 + 1).any()


def test_the_servers_message_is_drawn_apart_from_the_clients():
    fed = federation()
    v = torch.arange(1.0, 5.0, dtype=torch.float64)
    own = fed.compress(RandK(1), v).dense()
    theirs = fed.call(lambda cohort: RandK(1)(v.expand(cohort.m, -1), cohort)).stack()
    assert own.shape == (4,) and (own != 0).sum() == 1
    again = fed.compress(RandK(1), v).dense()
    assert not (torch.equal(own, again) and all(torch.equal(own, row) for row in theirs))
    assert torch.equal(federation().compress(RandK(1), v).dense(), own)  # a function of seed and call
