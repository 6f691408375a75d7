"""Whatever is in a file: a run comes back whole, or a RunFileError says why not; a spec gives its run again."""

import json
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import octolab as ol
from octolab.errors import OctolabError, RunFileError
from octolab.experiment import runfile
from octolab.experiment.launch import prepare

pytestmark = pytest.mark.slow
FIXED = settings(
    deadline=None, derandomize=True, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
METHODS = ["gd", "ef21", "diana", "marina", "scaffnew", "fedavg"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def problem():
    return ol.problems.quadratics(n=3, d=4, L=10, mu=1, seed=0)


@pytest.fixture(scope="module")
def saved(problem, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run.octo"
    prepare("ef21", problem, rounds=6).advance(4).save(path)
    return path.read_bytes(), *runfile.read(path)


@FIXED
@given(st.sampled_from(METHODS), st.integers(1, 12), st.integers(0, 12), st.integers(0, 2**31), st.integers(1, 5))
def test_a_run_saved_anywhere_goes_on_as_if_nothing_had_been(problem, tmp_path, method, rounds, at, seed, every):
    plan = {"rounds": rounds, "seed": seed, "evaluate_every": every}
    run = prepare(method, problem, **plan).advance(min(at, rounds))
    again = ol.resume(run.save(tmp_path / "a"))
    assert again.history.equals(prepare(method, problem, **plan).finish().history)


@FIXED
@given(st.sampled_from(METHODS), st.integers(0, 50), st.integers(0, 2**31), st.sampled_from([None, "x"]))
def test_a_spec_gives_its_run_again(problem, method, rounds, seed, keep):
    run = prepare(method, problem, rounds=rounds, seed=seed, keep=keep)
    assert ol.from_spec(json.loads(json.dumps(run.spec))).spec == run.spec


@FIXED
@given(st.data())
def test_damaged_bytes_are_never_anything_but_a_run_file_error(saved, tmp_path, data):
    raw = bytearray(saved[0])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255).filter(lambda b, old=raw[at]: b != old))
    cut = data.draw(st.integers(0, len(raw)))
    (tmp_path / "a").write_bytes(raw if data.draw(st.booleans()) else raw[:cut])
    with pytest.raises(RunFileError):
        ol.load_run(tmp_path / "a")


@FIXED
@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4), st.binary(max_size=64))
def test_foreign_headers_are_never_anything_but_a_run_file_error(tmp_path, header, rest):
    text = json.dumps(header).encode()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(text)) + text + rest)
    with pytest.raises(RunFileError):
        ol.load_run(tmp_path / "a")


@FIXED
@given(
    st.sampled_from(["round", "state", "memory", "ledger", "now", "counters", "record", "jobs", "script", "started"]),
    JSON,
)
def test_a_body_with_rubbish_is_refused_in_words_or_still_a_run(saved, tmp_path, part, rubbish):
    _, content, tensors = saved
    body = {**content["body"], part: rubbish}
    runfile.write(tmp_path / "a", {**content, "body": body}, tensors)
    try:
        run = ol.load_run(tmp_path / "a")
    except OctolabError as error:
        assert len(str(error)) > 20
    else:
        assert run.round == 3 and len(run.history) == 4


@FIXED
@given(st.sampled_from(["method", "problem", "settings", "x0", "octolab"]), JSON)
def test_a_spec_with_rubbish_is_refused_in_words_or_still_a_run(problem, part, rubbish):
    spec = {**prepare("gd", problem, rounds=2).spec, part: rubbish}
    try:
        run = ol.from_spec(spec)
    except (OctolabError, ValueError) as error:
        assert len(str(error)) > 10
    else:
        assert run.round == -1
