"""A file describes, it never acts: what foreign specs and run files may not do, and how rubbish is refused."""

import json
import struct

import pytest
import torch

import octolab as ol
from octolab.errors import RunFileError
from octolab.experiment import runfile
from octolab.experiment.launch import prepare

QUIET = {"live": False}


@pytest.fixture
def problem():
    return ol.problems.quadratics(n=5, d=6, L=10, mu=1, seed=0)


@pytest.fixture
def spec(problem):
    return json.loads(json.dumps(prepare("gd", problem, rounds=3).spec))


def changed(spec, part, **values):
    return {**spec, part: {**spec[part], **values}}


@pytest.mark.parametrize(
    ("settings", "action"), [({"checkpoint": "PATH", "checkpoint_every": 1}, "write"), ({"on": "flower"}, "place")]
)
def test_a_spec_neither_writes_nor_places_unless_the_caller_says_so(spec, settings, action, tmp_path):
    path = tmp_path / "precious"
    path.write_text("precious")
    asks = changed(spec, "settings", **{k: str(path) if v == "PATH" else v for k, v in settings.items()})
    with pytest.raises(RunFileError, match=rf"allow=\('{action}',\)"):
        ol.from_spec(asks)
    assert path.read_text() == "precious"


def test_what_is_allowed_is_done(spec, tmp_path):
    asks = changed(spec, "settings", checkpoint=str(tmp_path / "a"), checkpoint_every=1)
    ol.from_spec(asks, allow=("write",)).finish()
    assert (tmp_path / "a").exists()
    with pytest.raises(ValueError, match="allow='everything': choose from 'write', 'network'"):
        ol.from_spec(asks, allow="everything")


@pytest.mark.parametrize(("name", "action"), [("hub:a/b", "network"), ("file:/etc/passwd", "files")])
def test_a_spec_fetches_and_opens_nothing_unless_the_caller_says_so(spec, name, action, monkeypatch):
    monkeypatch.setattr(ol.data.catalogue, "_call", lambda *a: pytest.fail("the data set was asked for"))
    data = {"kind": "classification", "model": "logistic", "split": {"kind": "IID"}}
    for named in (name, {"name": name, "options": {}, "sha256": "0"}):
        with pytest.raises(RunFileError, match=rf"allow=\('{action}',\)"):
            ol.from_spec({**spec, "problem": {**data, "dataset": named}})


def test_a_run_file_goes_on_only_where_the_caller_named(problem, tmp_path):
    """A file whose spec asks for a checkpoint elsewhere is refused; resuming writes the file that was named."""
    run = prepare("gd", problem, rounds=5, checkpoint=str(tmp_path / "a"), checkpoint_every=2).advance(3)
    run.save(tmp_path / "b")
    (tmp_path / "a").unlink()
    ol.resume(tmp_path / "b")
    run.fork().finish()
    assert ol.load_run(tmp_path / "b").round == 5 and not (tmp_path / "a").exists()
    content, tensors = runfile.read(tmp_path / "b")
    content["spec"]["settings"]["checkpoint"] = str(tmp_path / "a")
    runfile.write(tmp_path / "foreign", content, tensors)
    for open_it in (ol.load_run, ol.resume):
        with pytest.raises(RunFileError, match=r"allow=\('write',\)"):
            open_it(tmp_path / "foreign")


def test_a_resumed_run_goes_on_checkpointing(problem, tmp_path):
    rounds = []

    class Watched(ol.methods.GD):
        slug = ""

        def step(self, fed, s):
            if path.exists():
                rounds.append(runfile.read(path)[0]["body"]["round"])
            return super().step(fed, s)

    path = tmp_path / "run.octo"
    prepare(Watched(), problem, rounds=9, checkpoint=str(path), checkpoint_every=2).advance(3)
    rounds.clear()
    ol.resume(path, method=Watched())
    assert sorted(set(rounds)) == [2, 4, 6, 8] and runfile.read(path)[0]["body"]["round"] == 9


def test_another_method_than_the_files_is_refused(problem, tmp_path):
    prepare(ol.methods.GD(lr=0.1), problem, rounds=3).advance(2).save(tmp_path / "a")
    assert ol.load_run(tmp_path / "a", method=ol.methods.GD(lr=0.1)).round == 1
    for other in (ol.methods.GD(lr=0.2), ol.methods.EF21()):
        with pytest.raises(RunFileError, match="made by another method"):
            ol.load_run(tmp_path / "a", method=other)


def test_a_scripted_run_is_saved_with_its_script(problem, tmp_path):
    given = {"coins": [1, 0, 0, 1, 0, 1, 1, 0, 1, 1]}
    prepare("marina", problem, rounds=10, randomness=ol.Scripted(**given)).advance(5).save(tmp_path / "a")
    whole = prepare("marina", problem, rounds=10, randomness=ol.Scripted(**given)).finish()
    assert ol.resume(tmp_path / "a").history.equals(whole.history)


# -- rubbish -----------------------------------------------------------------------------------------------------------
NESTED = "[" * 5000 + "]" * 5000
BAD = {
    "no JSON": "{",
    "a list": "[]",
    "nothing": "{}",
    "depth": '{"method": ' + NESTED + ', "problem": {}, "settings": {}}',
    "a number for a method": '{"method": 1, "problem": {}, "settings": {}}',
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_specs_that_are_none_get_a_sentence(text):
    with pytest.raises(RunFileError):
        ol.from_spec(text)


@pytest.mark.parametrize(
    ("part", "values", "words"),
    [
        ("problem", {"n": 10**5, "d": 10**5}, "numbers, and a spec makes at most"),
        ("problem", {"n": float("inf")}, "numbers, and a spec makes at most"),
        ("problem", {"kind": "Tridiagonal", "d": 10**12}, "numbers, and a spec makes at most"),
        ("settings", {"speed": 3}, r"settings have \['speed'\]"),
        ("settings", {"fleet": {"array": ["x" * 1000, "y"]}}, "an array holds numbers"),
        ("settings", {"fleet": {"array": [[1, 2], [3]]}}, "rows differ in length"),
    ],
)
def test_what_is_too_large_or_unknown_is_refused_before_it_is_made(spec, part, values, words):
    with pytest.raises(ValueError, match=words):
        ol.from_spec(changed(spec, part, **values))


def file_of(tmp_path, header, data=b""):
    text = json.dumps(header).encode()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return tmp_path / "a"


def test_sizes_are_checked_against_the_file_before_anything_is_allocated(tmp_path):
    entry = {"dtype": "F64", "shape": [10**9], "data_offsets": [0, 8 * 10**9]}
    for header in (
        {"t0": entry},
        {"t0": {**entry, "data_offsets": [0, 8]}},
        {"t0": {**entry, "shape": [-1]}},
        {"t0": {}},
        [],
        {"t0": {**entry, "data_offsets": [8, 0]}},
    ):
        with pytest.raises(RunFileError, match="not a readable run file"):
            ol.load_run(file_of(tmp_path, header, b"\0" * 8))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (("round",), 77),
        (("round",), "many"),
        (("state",), {"named": "State"}),
        (("state",), {"tensor": "t99"}),
        (("memory",), 5),
        (("ledger",), {}),
        (("ledger",), None),
        (("now",), float("nan")),
        (("counters",), 3),
        (("record",), {"dict": []}),
        (("jobs",), {"counts": 1}),
        (("script",), {"dict": [["coins", 5]]}),
    ],
)
def test_a_body_that_does_not_fit_gets_a_sentence(problem, tmp_path, at, value):
    prepare("gd", problem, rounds=3).advance(3).save(tmp_path / "a")
    content, tensors = runfile.read(tmp_path / "a")
    content["body"][at[0]] = value
    runfile.write(tmp_path / "b", content, tensors)
    with pytest.raises(RunFileError):
        ol.load_run(tmp_path / "b")


@pytest.mark.parametrize("path", [None, 5, "."])
def test_what_is_no_path_gets_a_sentence(path):
    with pytest.raises(RunFileError):
        ol.load_run(path)


def test_tensors_of_another_shape_get_a_sentence_where_the_run_knows_theirs(problem, tmp_path):
    prepare("ef21", problem, rounds=3).advance(3).save(tmp_path / "a")
    content, tensors = runfile.read(tmp_path / "a")
    known = {
        t["tensor"] for t in (content["body"]["state"]["values"][0], *(v for _, v in content["body"]["memory"]["dict"]))
    }
    for name in known:
        runfile.write(tmp_path / "b", content, {**tensors, name: torch.zeros(3)})
        with pytest.raises(RunFileError):
            ol.load_run(tmp_path / "b")
