"""A real SuperLink with real SuperNodes on loopback: the same numbers, and processes that are really killed.

Nothing but loopback is used; every test ends with no process left, which closing a deployment asserts.
"""

import functools
import os
import signal
import time
from pathlib import Path

import pytest

import octolab as ol
from octolab.errors import OctolabError
from octolab.experiment.launch import prepare
from octolab.flower.command_line import NAME, Flwr
from octolab.flower.deploy import LocalDeployment, tagged
from tests.flower.cases import CASES, gap, run

pytestmark = pytest.mark.deployment


@pytest.fixture(scope="module")
def deployment():
    with ol.flower.deploy_local(nodes=3, timeout=40.0, patience=150.0) as link:  # a busy machine takes its time
        yield link
    assert tagged(link.tag) == []


@pytest.fixture(scope="module")
def deployed(deployment):
    """Each case's run there, made once."""
    return functools.cache(lambda name: run(name, 2, on=deployment))


@pytest.mark.parametrize("name", list(CASES))
def test_deployed_with_three_supernodes_the_numbers_agree_to_1e6(deployed, name):
    here = run(name, 2, executor="loop")
    there = deployed(name)
    assert there.status == "finished"
    assert gap(here, there) <= 1e-6
    for column in ("round", "time", "bits_up", "bits_down", "gradients"):
        assert there.history[column].tolist() == here.history[column].tolist()
    assert there.history.loss.to_numpy() == pytest.approx(here.history.loss.to_numpy(), rel=1e-5, abs=1e-5)


def test_what_travelled_comes_back_with_the_run(deployed):
    there = deployed("scaffold")
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
        wait_until(path.exists, 100)
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


@pytest.fixture(scope="module")
def killed(deployment, tmp_path_factory):
    """A run whose ServerApp was killed after its first checkpoint, and that checkpoint."""
    method, problem, _ = CASES["ef21"]
    path = tmp_path_factory.mktemp("killed") / "run.octo"
    settings = {"rounds": 1, "seed": 4, "keep": "x", "checkpoint": str(path), "checkpoint_every": 1}
    started = prepare(method, problem(), on=deployment, **settings)
    started.advance(1)
    wait_until(path.exists, 100)
    kill_serverapp(deployment)
    return started, path


def test_a_run_whose_serverapp_was_killed_goes_on_from_its_checkpoint(killed, deployment):
    """A new ServerApp, new contexts on the nodes: what they remembered comes from the run file."""
    again = ol.load_run(killed[1]).fork(on=deployment, checkpoint=None, checkpoint_every=None)
    assert again.round == 0
    again.finish()
    assert again.status == "finished" and again.round == 1
    assert gap(run("ef21", 1), again) <= 1e-6


def test_a_killed_serverapp_is_noticed_and_the_sentence_says_what_to_do(killed):
    """The SuperLink needs most of a minute to notice; then nothing waits any longer."""
    started, _ = killed
    words = r"ServerApp ended after round 0 without a result. Go on from its checkpoint.* The SuperLink"
    with pytest.raises(OctolabError, match=words):
        started.finish()
    assert started.status == "failed"


def test_too_few_supernodes_are_counted_in_words(deployment):
    problem = ol.problems.quadratics(n=4, d=5, L=10, mu=1)
    link = ol.flower.SuperLink(deployment.link.address, insecure=True, patience=8.0)
    with pytest.raises(OctolabError, match=r"4 clients, 4 of them must be there .* after 8 s \d nodes serve one"):
        ol.run("gd", problem, rounds=1, on=link, live=False)


def two_quadratics():
    return ol.problems.quadratics(n=2, d=12, L=10, mu=1, seed=1)


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
    method, problem = ol.methods.FedAvg(lr=0.05, local_epochs=1), two_quadratics()
    with ol.flower.deploy_local(nodes=2, timeout=20.0) as link:
        started = prepare(method, problem, rounds=4, on=link)
        started.advance(2)
        link.kill(1)
        link.add(1)
        started.finish()
    assert started.status == "finished" and started.round == 4
    answered = started.federation.ledger.per_client("replies").tolist()
    assert 2 <= answered[1] < 4  # it missed the round in which it was killed; its successor answered later ones
    said = "; ".join(started.history.nodes.dropna())
    assert "client 1" in said
    assert started.history.dropped.dropna().sum() == 8 - sum(answered)


def test_a_supernode_that_joins_late_takes_part_from_then_on():
    method, problem = CASES["ef21"][0], two_quadratics()
    with ol.flower.deploy_local(nodes=1, least=1, timeout=40.0) as link:
        started = prepare(method, problem, rounds=3, on=link)
        started.advance(1)
        link.add()
        started.finish()
    answered = started.federation.ledger.per_client("replies").tolist()
    assert started.status == "finished"
    assert answered[0] == 4 and 1 <= answered[1] < 4
    g = started.federation.memory.g  # came back in the run file
    assert float((started.state.g - g.mean(0)).abs().max()) <= 1e-6


def test_with_tls_and_node_keys_strangers_stay_outside():
    """The exported README's worked example, with certificates and keys made for this test."""
    method, problem = CASES["ef21"][0], two_quadratics()
    with ol.flower.deploy_local(nodes=2, secure=True, timeout=40.0) as link:
        for process in link._all:
            assert b"--insecure" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        here, there = (ol.run(method, problem, rounds=1, keep="x", live=False, on=on) for on in (None, link))
        assert gap(here, there) <= 1e-6
        stranger = link.nodes[link.add(7, registered=False)]
        assert stranger.wait(timeout=30) != 0
        assert "Failed to activate SuperNode" in link.said("client-7")
        plain = ol.flower.SuperLink(link.link.address, insecure=True)
        with pytest.raises(ConnectionError, match="do TLS and keys fit"):
            ol.run(method, problem, rounds=1, live=False, on=plain)


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
