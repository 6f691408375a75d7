"""Run files: what was interrupted goes on bit for bit, and damaged or foreign files are refused in words."""

import json
import os

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.errors import RunFileError
from octolab.experiment import checkpoint, runfile
from octolab.experiment.launch import prepare

QUIET = {"live": False}


@pytest.fixture
def problem():
    return ol.problems.quadratics(n=5, d=6, L=10, mu=1, seed=0)


def same(a, b):
    assert torch.equal(a.x, b.x)
    assert a.history.equals(b.history)
    for name, value in a.federation.memory.items():
        assert torch.equal(value, b.federation.memory[name])
    for column in ("up", "down", "broadcast", "gradients"):
        assert np.array_equal(a.federation.ledger.per_client(column), b.federation.ledger.per_client(column))


@pytest.mark.parametrize("method", ["ef21-pp", "marina", "scaffnew", "diana"])
def test_resuming_is_bitwise_the_uninterrupted_run(problem, tmp_path, method):
    path = tmp_path / "run.octo"
    whole = ol.run(method, problem, rounds=20, seed=1, **QUIET)
    prepare(method, problem, rounds=20, seed=1).advance(8).save(path)
    same(whole, ol.resume(path))


@pytest.mark.parametrize("variant", ["ignore", "stop"])
def test_asynchronous_runs_resume_with_their_jobs_under_way(tmp_path, variant):
    problem = ol.problems.Tridiagonal(d=10, n=6, noise=0.1)
    fleet = ol.Fleet(seconds=np.sqrt(np.arange(1, 7)), jitter=ol.federation.LogNormal(0.3), up=1e4, latency=0.01)
    method = ol.methods.Ringmaster(R=3, lr=0.1, variant=variant)
    arguments = {"rounds": 60, "seed": 2, "fleet": fleet}
    whole = ol.run(method, problem, **arguments, **QUIET)
    prepare(method, problem, **arguments).advance(25).save(tmp_path / "a")
    same(whole, ol.resume(tmp_path / "a"))


def test_checkpoints_are_written_on_the_way(problem, tmp_path):
    path = tmp_path / "run.octo"
    rounds = []

    class Watched(ol.methods.GD):
        slug = ""

        def step(self, fed, s):
            if path.exists():
                rounds.append(json.loads(runfile.read(path)[0]["body"]["round"].__repr__()))
            return super().step(fed, s)

    ol.run(Watched(), problem, rounds=7, checkpoint=str(path), checkpoint_every=3, **QUIET)
    assert sorted(set(rounds)) == [0, 3, 6]
    assert runfile.read(path)[0]["body"]["round"] == 7


def test_a_loaded_run_can_be_looked_at_and_extended(problem, tmp_path):
    ol.run("gd", problem, rounds=5, keep="x", **QUIET).save(tmp_path / "a")
    run = ol.load_run(tmp_path / "a")
    assert run.round == 5 and run.iterates.shape == (6, 6)
    longer = ol.resume(tmp_path / "a", rounds=9)
    assert longer.round == 9
    same(longer, ol.run("gd", problem, rounds=9, keep="x", **QUIET))


def test_forks_go_their_own_way_and_leave_the_original_alone(problem):
    run = prepare("ef21", problem, rounds=20).advance(10)
    before = run.x.clone()
    twin, faster = run.fork(), run.fork(lr=0.5)
    assert torch.equal(twin.finish().x, prepare("ef21", problem, rounds=20).finish().x)
    assert not torch.equal(faster.advance(1).x, twin.x)
    assert torch.equal(run.x, before)
    with pytest.raises(ValueError, match="fork cannot change speed=3"):
        run.fork(speed=3)


def test_scripts_are_replayed_from_where_they_stood(problem):
    given = {"coins": [1, 0, 0, 1, 0, 1, 1, 0, 1, 1]}
    run = prepare("marina", problem, rounds=10, randomness=ol.Scripted(**given)).advance(5)
    fork = run.fork()
    assert torch.equal(fork.finish().x, run.finish().x)


def test_problems_from_given_arrays_must_be_handed_in(tmp_path):
    problem = ol.problems.Quadratics([np.eye(2)], [[1.0, 2.0]])
    ol.run("gd", problem, rounds=2, **QUIET).save(tmp_path / "a")
    with pytest.raises(ValueError, match="made from given arrays"):
        ol.load_run(tmp_path / "a")
    assert ol.load_run(tmp_path / "a", problem=problem).round == 2
    with pytest.raises(RunFileError, match="made on another problem"):
        ol.load_run(tmp_path / "a", problem=ol.problems.Quadratics([np.eye(2)], [[1.0, 3.0]]))


# -- damage ------------------------------------------------------------------------------------------------------------
def test_missing_and_foreign_files_get_a_sentence(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match="no run file"):
        ol.load_run(tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(RunFileError, match="not a readable run file"):
        ol.load_run(tmp_path / "text")
    save_file({"a": torch.zeros(1)}, str(tmp_path / "foreign"))
    with pytest.raises(RunFileError, match="not one that octolab wrote"):
        ol.load_run(tmp_path / "foreign")


def test_every_flipped_bit_in_the_tensors_is_found(problem, tmp_path):
    path = tmp_path / "run"
    prepare("ef21", problem, rounds=5).finish().save(path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunFileError, match="checksum does not match"):
        ol.load_run(path)


def test_a_truncated_file_gets_a_sentence(problem, tmp_path):
    path = tmp_path / "run"
    prepare("gd", problem, rounds=5).finish().save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(RunFileError, match="not a readable run file"):
        ol.load_run(path)


def test_another_version_gets_a_sentence(problem, tmp_path, monkeypatch):
    monkeypatch.setattr(runfile, "VERSION", 99)
    prepare("gd", problem, rounds=1).finish().save(tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(RunFileError, match="run-file version 99; this octolab reads version 1"):
        ol.load_run(tmp_path / "run")


def test_an_interrupted_save_leaves_the_old_file_whole(problem, tmp_path, monkeypatch):
    path = tmp_path / "run"
    run = prepare("gd", problem, rounds=9).advance(3)
    run.save(path)
    before = path.read_bytes()
    run.advance(3)

    def cut(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        run.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_an_unwritable_path_gets_a_sentence(problem, tmp_path):
    with pytest.raises(RunFileError, match=r"cannot be written.*folder does not exist: make it first"):
        prepare("gd", problem, rounds=1).advance(1).save(tmp_path / "no" / "such" / "folder")


def test_a_run_file_names_no_code(problem, tmp_path):
    """States are rebuilt from the method's own page; a name that the page does not define is refused."""
    data, tensors = checkpoint.snapshot(prepare("gd", problem, rounds=1).advance(1))
    data["state"]["named"] = "system"
    with pytest.raises(RunFileError, match="a state 'system' that"):
        checkpoint.restore(prepare("gd", problem, rounds=1), data, tensors)
