"""A real SuperLink with real SuperNodes on loopback: the same numbers, and processes that are really killed.

Nothing but loopback is used; every test ends with no process left, which closing a deployment asserts.
"""

import os
import signal
import time
from pathlib import Path

import pytest

import octolab as ol
from octolab.errors import OctolabError
from octolab.experiment.front import prepare
from octolab.flower.deploy import LocalDeployment, tagged
from octolab.flower.superlink import NAME, Flwr
from tests.flower.cases import CASES, gap, run

pytestmark = pytest.mark.deployment


@pytest.fixture(scope="module")
def deployment():
    with ol.flower.deploy_local(nodes=3, timeout=40.0) as link:
        yield link
    assert tagged(link.tag) == []


@pytest.mark.parametrize("name", list(CASES))
def test_deployed_with_three_supernodes_the_numbers_agree_to_1e6(deployment, name):
    here = run(name, 2, executor="loop")
    there = run(name, 2, on=deployment)
    assert there.status == "finished"
    assert gap(here, there) <= 1e-6
    for column in ("round", "time", "bits_up", "bits_down", "gradients"):
        assert there.history[column].tolist() == here.history[column].tolist()
    assert there.history.loss.to_numpy() == pytest.approx(here.history.loss.to_numpy(), rel=1e-5, abs=1e-5)


def test_what_travelled_comes_back_with_the_run(deployment):
    there = run("scaffold", 1, on=deployment)
    ledger, traffic = there.federation.ledger, there.world.traffic
    assert traffic.total("payload_up") * 8 == ledger.total("up")
    assert traffic.total("payload_down") * 8 == ledger.total("down") + ledger.total("broadcast")
    assert traffic.total("envelope_up") > 0


def test_an_exported_app_runs_as_it_is(deployment, tmp_path):
    """`flwr run` on the folder, nothing else; the ServerApp writes what octolab can open."""
    here = run("ef21", 1)
    folder = here.export_flower_app(tmp_path / "my_app")
    flwr = Flwr(deployment.link)
    try:
        flwr.ask("run", folder, NAME, "-c", f"out='{tmp_path / 'out'}'")
        path = tmp_path / "out" / "run.octo"
        wait_until(path.exists, 75)
    finally:
        flwr.close()
    there = ol.load_run(path)
    assert there.round == 1 and float((there.x - here.x).abs().max()) <= 1e-6


def test_a_run_that_is_stopped_here_is_stopped_there(deployment, tmp_path):
    method, problem = ol.methods.FedAvg(lr=0.05, local_epochs=1), CASES["ef21"][1]()
    path = tmp_path / "run.octo"
    started = prepare(method, problem, rounds=500, on=deployment, checkpoint=str(path))
    started.finish(lambda run: run.stop())
    assert started.status == "stopped" and started.round == 0
    assert not path.exists()  # the server's state has not come, so there is nothing to write
    wait_until(lambda: not any(runs(pid, b"flwr-serverapp") for pid in deployment.processes()), 60)


def test_too_few_supernodes_are_counted_in_words(deployment):
    problem = ol.problems.quadratics(n=4, d=5, L=10, mu=1)
    link = ol.flower.SuperLink(deployment.link.address, insecure=True, patience=8.0)
    with pytest.raises(OctolabError, match=r"4 clients, 4 of them must be there .* after 8 s \d nodes serve one"):
        ol.run("gd", problem, rounds=1, on=link, live=False)


def test_a_run_whose_serverapp_was_killed_goes_on_from_its_checkpoint(deployment, tmp_path):
    """A new ServerApp, new contexts on the nodes: what they remembered comes from the run file."""
    whole = run("ef21", 1)
    path = str(tmp_path / "run.octo")
    method, problem, _ = CASES["ef21"]
    settings = {"rounds": 1, "seed": 4, "keep": "x", "checkpoint": path, "checkpoint_every": 1}
    started = prepare(method, problem(), on=deployment, **settings)
    started.advance(1)
    wait_until(lambda: os.path.exists(path), 30)
    kill_serverapp(deployment)
    again = ol.load_run(path).fork(on=deployment, checkpoint=None, checkpoint_every=None)
    assert again.round == 0
    again.finish()
    started.world.close()
    assert again.status == "finished" and again.round == 1
    assert gap(whole, again) <= 1e-6


def test_a_killed_serverapp_is_noticed_and_the_sentence_says_what_to_do(deployment, tmp_path):
    """The SuperLink needs most of a minute to notice; then nothing waits any longer."""
    method, problem, _ = CASES["ef21"]
    path = str(tmp_path / "run.octo")
    started = prepare(method, problem(), rounds=3, on=deployment, checkpoint=path, checkpoint_every=3)
    started.world.launch()
    wait_until(lambda: any(runs(pid, b"flwr-clientapp") for pid in deployment.processes()), 40)  # it has sent something
    kill_serverapp(deployment)
    with pytest.raises(
        OctolabError, match=r"ServerApp ended after round -1 without a result. Go on from its checkpoint"
    ):
        started.finish()
    assert started.status == "failed"


def wait_until(true, seconds):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.1)
    assert true()


def kill_serverapp(deployment):
    for pid in deployment.processes():
        if runs(pid, b"flwr-serverapp"):
            os.kill(pid, signal.SIGKILL)


def runs(pid, program):
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word.endswith(program) for word in words)


def test_a_supernode_killed_in_mid_round_is_left_out_and_its_successor_takes_part():
    method, problem = ol.methods.FedAvg(lr=0.05, local_epochs=1), CASES["ef21"][1]()
    with ol.flower.deploy_local(nodes=3, timeout=20.0) as link:
        started = prepare(method, problem, rounds=4, on=link)
        started.advance(2)
        link.kill(2)
        link.add(2)
        started.finish()
    assert started.status == "finished" and started.round == 4
    answered = started.federation.ledger.per_client("rounds").tolist()
    assert 2 <= answered[2] < 4  # it missed the round in which it was killed; its successor answered later ones
    said = "; ".join(started.history.nodes.dropna())
    assert "client 2" in said
    assert started.history.dropped.dropna().sum() == 12 - sum(answered)


def test_a_supernode_that_joins_late_takes_part_from_then_on():
    method, problem = CASES["ef21"][0], CASES["ef21"][1]()
    with ol.flower.deploy_local(nodes=2, least=2, timeout=40.0) as link:
        started = prepare(method, problem, rounds=3, on=link)
        started.advance(1)
        link.add()
        started.finish()
    answered = started.federation.ledger.per_client("rounds").tolist()
    assert started.status == "finished"
    assert answered[:2] == [4, 4] and 1 <= answered[2] < 4
    g = started.federation.memory.g  # came back in the run file
    assert float((started.state.g - g.mean(0)).abs().max()) <= 1e-6


def test_with_tls_and_node_keys_strangers_stay_outside():
    """The exported README's worked example, with certificates and keys made for this test."""
    with ol.flower.deploy_local(nodes=3, secure=True, timeout=40.0) as link:
        for process in link._all:
            assert b"--insecure" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        here, there = run("ef21", 1), run("ef21", 1, on=link)
        assert gap(here, there) <= 1e-6
        stranger = link.nodes[link.add(7, registered=False)]
        assert stranger.wait(timeout=30) != 0
        assert "Failed to activate SuperNode" in link.said("client-7")
        plain = ol.flower.SuperLink(link.link.address, insecure=True)
        with pytest.raises(ConnectionError, match="do TLS and keys fit"):
            run("ef21", 1, on=plain)


def test_an_address_where_nobody_listens_gets_a_sentence():
    from octolab.flower.deploy import free_port

    link = ol.flower.SuperLink(f"127.0.0.1:{free_port()}", insecure=True)
    with pytest.raises(ConnectionError, match=r"The SuperLink at 127\.0\.0\.1:\d+ did not .*Is it running"):
        run("ef21", 1, on=link)


def test_a_deployment_that_fails_to_start_leaves_nothing(monkeypatch):
    made = []
    start = LocalDeployment.start

    def fail(self):
        made.append(self)
        start(self)
        raise RuntimeError("no")

    monkeypatch.setattr(LocalDeployment, "start", fail)
    with pytest.raises(RuntimeError, match="no"):
        ol.flower.deploy_local(nodes=1)
    assert made[0].processes() == [] and not made[0].home.exists()


def test_a_deployment_has_nodes():
    with pytest.raises(ValueError, match="nodes=0: give a whole number >= 1"):
        ol.flower.deploy_local(nodes=0)
