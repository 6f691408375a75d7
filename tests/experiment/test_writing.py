"""Run files are whole or not there: what is replaced, what is kept, what killed writers leave, who may write."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

import octolab as ol
from octolab.errors import RunFileError
from octolab.experiment import writing
from octolab.experiment.launch import prepare
from octolab.experiment.writing import claimed, write_whole

QUIET = {"live": False}


@pytest.fixture
def problem():
    return ol.problems.quadratics(n=5, d=6, L=10, mu=1, seed=0)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_files_mode_is_kept_and_a_new_one_follows_the_umask(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"before")
    old.chmod(0o664)
    write_whole(old, b"after")
    before = os.umask(0o027)
    try:
        write_whole(new, b"after")
    finally:
        os.umask(before)
    assert old.read_bytes() == b"after" and stat.S_IMODE(old.stat().st_mode) == 0o664
    assert stat.S_IMODE(new.stat().st_mode) == 0o640
    assert names(tmp_path) == ["new", "old"]


def test_links_are_followed_and_stay_links(tmp_path):
    (tmp_path / "far").mkdir()
    link, target = tmp_path / "link", tmp_path / "far" / "target"
    link.symlink_to(target)
    for data in (b"first", b"second"):  # dangling, then not
        write_whole(link, data)
        assert link.is_symlink() and target.read_bytes() == data
    assert names(tmp_path / "far") == ["target"]


def test_only_files_are_replaced(problem, tmp_path):
    pipe, loop = tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    run = prepare("gd", problem, rounds=1).advance(1)
    for path, kind in ((pipe, "a pipe"), (tmp_path, "a folder"), (loop, "circle"), ("/dev/null", "device")):
        with pytest.raises(RunFileError, match=kind):
            run.save(path)
        with pytest.raises(ValueError, match=kind):
            prepare("gd", problem, rounds=1, checkpoint=str(path))
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_full_disk_names_path_and_remedy_and_leaves_the_old_file(problem, tmp_path, monkeypatch):
    path = tmp_path / "run"
    run = prepare("gd", problem, rounds=9, checkpoint=str(path), checkpoint_every=1).advance(3)
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        RunFileError, match=r"run' cannot be written\. The disk is full: make room.*that was there is whole"
    ):
        run.finish()
    assert run.status == "failed" and run.done and "disk is full" in str(run.error)
    assert path.read_bytes() == before and names(tmp_path) == ["run"]
    monkeypatch.undo()
    assert run.finish().status == "finished"


def test_what_killed_writers_left_goes_at_the_next_save(tmp_path):
    path = tmp_path / "run"
    (tmp_path / ".octolab-run-0123abcd.part").write_bytes(b"half")
    (tmp_path / ".octolab-run.lock").write_bytes(b"1")
    (tmp_path / ".octolab-other-0123abcd.part").write_bytes(b"somebody else's")
    with writing._locked(tmp_path / ".octolab-run-aaaaaaaa.part"):  # a writer that is alive
        write_whole(path, b"whole")
        assert names(tmp_path) == [".octolab-other-0123abcd.part", ".octolab-run-aaaaaaaa.part", "run"]


def test_a_second_run_on_the_same_checkpoint_is_refused(problem, tmp_path):
    path = tmp_path / "run"
    (tmp_path / "same").symlink_to(path)
    with claimed(path):
        run = prepare("gd", problem, rounds=3, checkpoint=str(tmp_path / "same"))
        with pytest.raises(RunFileError, match=f"another run writes it now .process {os.getpid()}"):
            run.finish()
    assert run.finish().status == "finished" and names(tmp_path) == ["run", "same"]


def test_a_claim_dies_with_its_process(tmp_path):
    path = tmp_path / "run"
    holds = (
        f"from octolab.experiment.writing import claimed\nwith claimed({str(path)!r}):\n print(1, flush=True)\n input()"
    )
    other = subprocess.Popen([sys.executable, "-c", holds], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    try:
        assert other.stdout.readline().strip() == b"1"
        with pytest.raises(RunFileError, match=f"process {other.pid}"), claimed(path):
            pass
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait(120)
    with claimed(path):
        assert names(tmp_path) == [".octolab-run.lock"]
    assert names(tmp_path) == []


KILLS = 200


@pytest.mark.slow
def test_two_hundred_kills_lose_nothing(tmp_path):
    """Children forked from one warm process write a checkpoint every round; each is killed at another moment."""
    import octolab.experiment

    problem = ol.problems.quadratics(n=5, d=40, seed=0)
    arguments = {"rounds": 10**6, "seed": 1, "evaluate_every": 10}
    path = tmp_path / "run.octo"
    prepare("ef21", problem, **arguments).advance(1).save(path)
    rounds = []
    for k in range(KILLS):
        child = os.fork()
        if child == 0:
            try:
                octolab.experiment.resume(path, checkpoint_every=1)
            finally:
                os._exit(1)
        before = path.stat().st_ino
        limit = time.monotonic() + 120
        while path.stat().st_ino == before and time.monotonic() < limit:
            time.sleep(0.001)  # it has begun to write
        time.sleep((k % 50) / 5000)  # and is met at whatever moment: any is right
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        run = ol.load_run(path)
        rounds.append(run.round)
    whole = prepare("ef21", problem, keep="x", **arguments).advance(rounds[-1] + 1)
    assert rounds == sorted(rounds) and run.history.equals(whole.history)
    assert bool((run.x == whole.x).all())
    run.save(path)
    assert names(tmp_path) == ["run.octo"]
