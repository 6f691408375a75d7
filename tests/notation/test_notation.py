"""Objects as JSON, as words and as Python, and back; nothing is evaluated, and what 0.1 wrote is read."""

from __future__ import annotations

import json

import numpy as np
import pytest

import octolab as ol
from octolab import notation, rooms
from octolab.lab.explorer.knobs import made
from octolab.params import params

C, F, M = ol.compressors, ol.federation, ol.methods
EVERY = [
    (room, made(cls))
    for room in rooms.ROOMS
    if room not in ("problems", "stops")
    for cls in rooms.members(room).values()
    if made(cls) is not None
]
SPECIAL = [
    ("compressors", C.TopK(3) | C.Scaled(C.QSGD(7, norm="inf"))),
    ("compressors", C.Bernoulli(0.25, C.RandK(2), scaled=True)),
    ("samplers", F.Poisson((0.1, 0.5))),
    ("samplers", F.Block(((0, 2), (1,)), q=(0.25, 0.75))),
    ("splits", ol.data.FeatureShift(base=ol.data.Shards(3, by="classes"))),
    ("schedules", ol.schedules.Warmup(ol.schedules.Cosine(ol.Theory(2), rounds=9), rounds=3)),
    (
        "methods",
        M.FedAvg(lr=ol.Theory(4), local_steps=(1, 2), cohort=F.Nice(2), aggregator=ol.aggregators.TrimmedMean(2)),
    ),
    ("methods", M.EF21(compressor=C.PerTensor(C.TopK(0.1)), start="zero")),
    ("fleets", ol.Fleet(seconds=[1.0, 2.5], jitter=ol.fleets.HalfNormal((1.0, 2.0)))),
]


@pytest.mark.parametrize(("room", "value"), EVERY + SPECIAL, ids=lambda v: repr(v)[:40])
def test_every_object_comes_back_from_json_from_words_and_from_python(room, value):
    through_json = notation.from_json(json.loads(json.dumps(notation.to_json(value))))
    through_text = notation.from_text(notation.to_text(value), room)
    through_python = notation.from_python(notation.to_python(value))
    for back in (through_json, through_text, through_python, eval(notation.to_python(value), {"ol": ol, "np": np})):
        assert type(back) is type(value)
        assert notation.to_json(back) == notation.to_json(value)


def test_words_are_read_as_a_person_means_them():
    read = lambda field, word: notation.read(params(M.FedAvg)[field], word, "FedAvg")  # noqa: E731
    assert read("lr", "theory") == ol.Theory() and read("lr", "theory:4") == ol.Theory(4)
    assert read("lr", "1/20") == 0.05 and read("batch_size", "none") is None and read("batch_size", "8") == 8
    assert read("local_steps", "1,2,3") == (1, 2, 3) and read("cohort", "0.25") == 0.25
    assert read("cohort", "nice:3") == F.Nice(3) and read("aggregator", "TrimmedMean:2") == ol.aggregators.TrimmedMean(
        2
    )
    assert notation.from_text("RandK:0.1|Natural", "compressors") == C.RandK(0.1) | C.Natural()
    assert notation.from_text("TopK(0.05)", "compressors") == C.TopK(0.05)
    assert notation.from_text('{"kind": "TopK", "k": 7}', "compressors") == C.TopK(7)


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ({"compressor": {"kind": "TopK", "k": 0.1}}, C.TopK(0.1)),
        ({"object": "Theory", "multiplier": 2.0}, ol.Theory(2.0)),
        ({"object": "Nice", "m": 4}, F.Nice(4)),
        ({"object": "Exponential"}, ol.fleets.Exponential()),
        ({"object": "TrimmedMean", "b": 2}, ol.aggregators.TrimmedMean(2)),
        ({"object": "Until", "loss": 0.1, "grad_norm_sq": None, "bits": None, "seconds": None}, ol.Until(loss=0.1)),
        (
            {
                "method": "ef21",
                "compressor": {"compressor": {"kind": "TopK", "k": 2}},
                "lr": {"object": "Theory", "multiplier": 1.0},
            },
            M.EF21(compressor=C.TopK(2)),
        ),
    ],
)
def test_what_version_0_1_wrote_is_read(old, now):
    assert notation.from_json(old) == now


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda: notation.from_json({"kind": "Nice", "m": 3}), "names no room"),
        (lambda: notation.from_json({"kind": "samplers.Nyce"}), "Did you mean Nice"),
        (lambda: notation.from_json({"kind": "samplers.Nice", "k": 3}), "Nice has the fields m; given k"),
        (lambda: notation.from_json({"k": 3}), "an object with a kind"),
        (lambda: notation.from_json({"kind": "problems.classification", "dataset": "hub:a/b"}), "cannot be a problem"),
        (lambda: notation.from_json({"object": "os"}), "does not know"),
        (lambda: notation.to_json(object()), "cannot be written as JSON"),
        (lambda: notation.to_text(object()), "cannot be written in words"),
        (lambda: notation.to_python(lambda: 0), "cannot be written as Python text"),
        (lambda: notation.from_python("__import__('os').system('true')"), "no class that octolab knows"),
        (lambda: notation.from_python("ol.compressors.TopK(open('x'))"), "no class|There is no"),
        (lambda: notation.from_python("ol.compressors.TopK(1,"), "not a Python call"),
        (lambda: notation.from_text("TopK:0.05,list,3", "compressors"), "write name=value"),
        (lambda: notation.from_text("TopK:kk=3", "compressors"), "has no argument 'kk'. Did you mean k"),
        (lambda: notation.from_text("TopK:", "compressors"), "TopK has the fields k, index; given none"),
        (lambda: notation.from_text("{", "compressors"), "not JSON"),
        (lambda: notation.from_text("Nice:many", "samplers"), r"Nice: m='many': give a number"),
    ],
)
def test_what_is_not_understood_gets_a_sentence(do, words):
    with pytest.raises(ValueError, match=words):
        do()
