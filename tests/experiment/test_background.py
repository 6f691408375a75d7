"""A run in the background: who may step, when a stop counts, and what save and fork see of a run at work."""

import copy
import pickle
import threading

import pytest
import torch

import octolab as ol
from octolab.errors import RunBusy
from octolab.experiment.launch import prepare

QUIET = {"live": False}


@pytest.fixture
def problem():
    return ol.problems.quadratics(n=5, d=6, L=10, mu=1, seed=0)


class Held(ol.methods.GD):
    """Gradient descent whose steps wait for `gate` once `entered` is set."""

    slug = ""
    entered, gate = threading.Event(), threading.Event()

    def step(self, fed, s):
        self.entered.set()
        assert self.gate.wait(120)
        return super().step(fed, s)


@pytest.fixture
def held():
    Held.entered.clear(), Held.gate.clear()
    yield Held()
    Held.gate.set()


def test_a_stop_before_the_workers_first_step_counts(problem, monkeypatch):
    """The worker is kept from entering until the stop has come."""
    run, gate = prepare("gd", problem, rounds=10**6), threading.Event()
    work = run._go_on
    monkeypatch.setattr(run, "_go_on", lambda progress: (gate.wait(120), work(progress)))
    run.launch()
    run.stop()
    gate.set()
    assert run.result(timeout=120).status == "stopped" and run.round == -1
    assert run.launch().stop().result(timeout=120) is run  # launching again goes on, and stops again


def test_only_one_thread_steps(problem, held):
    run = ol.start(held, problem, rounds=5)
    assert held.entered.wait(120)
    for step in (run.finish, run.advance):
        with pytest.raises(RunBusy, match="at work in another thread"):
            step()
    held.gate.set()
    assert run.result(timeout=120).round == 5 and run.finish().round == 5


def test_an_error_in_this_thread_leaves_the_run_failed_and_done(problem):
    class Broken(ol.methods.GD):
        slug = ""

        def step(self, fed, s):
            raise KeyError("a bug in the method")

    run = prepare(Broken(), problem, rounds=3)
    with pytest.raises(KeyError):
        run.finish()
    assert run.status == "failed" and run.done and isinstance(run.error, KeyError)


def test_a_save_waits_for_the_step_under_way(problem, held, tmp_path):
    run = ol.start(held, problem, rounds=10**6)
    assert held.entered.wait(120)
    saver = threading.Thread(target=run.save, args=(tmp_path / "a",))
    saver.start()
    saver.join(0.05)
    assert saver.is_alive() and not (tmp_path / "a").exists()
    held.gate.set()
    saver.join(120)
    run.stop().result(timeout=120)
    assert (tmp_path / "a").exists()


def test_a_step_that_saves_its_own_run_is_refused(problem, tmp_path):
    class Saves(ol.methods.GD):
        slug = ""

        def step(self, fed, s):
            run.save(tmp_path / "a")
            return super().step(fed, s)

    run = prepare(Saves(), problem, rounds=3)
    with pytest.raises(RunBusy, match="whole only between two steps"):
        run.finish()


ASYNCHRONOUS = {"fleet": ol.Fleet(seconds=[1, 2, 3, 5, 8], up=1e4, latency=0.01)}
KINDS = {
    "ef21-pp": {},
    "marina": {},
    "scaffnew": {},
    "fedavg": {},
    "ringmaster": ASYNCHRONOUS,
}


@pytest.mark.parametrize("method", KINDS)
def test_saves_and_forks_of_a_running_run_are_whole(method, tmp_path):
    """Each of them, taken at whatever moment, has the row that the uninterrupted run has in its round, and goes on alike."""
    problem = ol.problems.quadratics(n=5, d=6, L=10, mu=1, seed=0)
    made = {"fedavg": ol.methods.FedAvg(lr=0.05), "ringmaster": ol.methods.Ringmaster(R=3, lr=0.05)}.get(method, method)
    arguments = {"rounds": 10**6, "seed": 1, "evaluate_every": 1, **KINDS[method]}
    run = ol.start(made, problem, **arguments)
    copies = []
    for k in range(20):
        if k % 2:
            copies.append(run.fork())
        else:
            copies.append(ol.load_run(run.save(tmp_path / f"{k}")))
    run.stop().result(timeout=120)
    last = max(c.round for c in copies) + 5
    whole = prepare(made, problem, **{**arguments, "keep": "x"}).advance(last + 1)
    for twin in copies:
        assert torch.equal(twin.x, whole.iterates[twin.round]) if twin.round >= 0 else twin.state is None
        assert torch.equal(twin.advance(last - twin.round).x, whole.x)
        assert twin.history.equals(whole.history)


def test_a_deep_copy_is_a_fork_and_a_pickle_is_refused_in_words(problem):
    run = ol.run("ef21", problem, rounds=3, **QUIET)
    twin = copy.deepcopy(run)
    assert twin.history.equals(run.history) and twin.round == 3
    with pytest.raises(TypeError, match=r"run\.save\(path\).*load_run.*fork"):
        pickle.dumps(run)


def test_a_run_that_stands_between_two_evaluations_shows_its_present_loss(problem):
    run = prepare("gd", problem, rounds=100, evaluate_every=50).advance(8)
    assert run.history.loss.notna().sum() == 1
    assert run.last["loss"] == run.metrics()["loss"] and run.last["evaluated"] == run.round == 7
    assert f"{run.metrics()['loss']:.6g}" in str(run)
    assert run.history.loss.notna().sum() == 1  # nothing was recorded, and nobody paid
    assert run.last["gradients"] == 7


def test_a_run_at_work_says_of_which_round_its_loss_is(problem, held):
    run = prepare(held, problem, rounds=10**6, evaluate_every=10**6)
    held.gate.set()
    run.advance(3)
    held.gate.clear(), held.entered.clear()
    run.launch()
    assert held.entered.wait(120)
    assert run.last["evaluated"] == 0 and "of round 0" in str(run)
    held.gate.set()
    run.stop().result(timeout=120)
