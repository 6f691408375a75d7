"""What goes wrong on a network: lost replies, nodes that die, come late, come back, or are not what they should be.

All of it in this process, on a grid that fails on command; `test_deployment.py` kills real processes.
"""

import copy

import numpy as np
import pytest
import torch
from flwr.app import Context, Message, RecordDict

import octolab as ol
from octolab.experiment.launch import prepare
from octolab.flower import connected_nodes as nodes_module
from octolab.flower.client import Node, client_app
from octolab.flower.grid import FIRST_NODE, InProcessGrid
from octolab.flower.messages import content
from octolab.flower.server import OnGrid

pytestmark = pytest.mark.flower


class Grid(InProcessGrid):
    """Loses the replies to the n-th training messages (counted from 0) of given nodes, after they have worked."""

    def __init__(self, app, nodes, lose=()):
        super().__init__(app, nodes)
        self.lose, self.count, self.gone = set(lose), {}, set()

    def push_messages(self, messages):
        ids = super().push_messages(messages)
        for name, message in zip(ids, messages, strict=True):
            client = message.metadata.dst_node_id - FIRST_NODE
            if message.metadata.message_type == "train":
                k = self.count[client] = self.count.get(client, -1) + 1
                if (client, k) in self.lose:
                    del self._replies[name]
        return ids

    def get_node_ids(self):
        return [node for node in self.contexts if node not in self.gone]


def on(grid, **how):
    """A place on this grid that looks often and waits little."""
    place = OnGrid(**{"grid": grid, "wire": "exact", "timeout": 0.02, "patience": 0.05, **how})
    return place


def started(method, problem, grid, rounds=8, grace=0.0, **how):
    run = prepare(method, problem, rounds=rounds, on=on(grid, **how), keep="x")
    run.world.pause, run.world.nodes.grace = 0.001, grace
    return run


def quadratics(n=3):
    return ol.problems.quadratics(n=n, d=6, L=10, mu=1, seed=2)


EF21 = ol.methods.EF21(compressor=ol.compressors.TopK(2))


def agrees(run):
    """Whether the server's g is the mean of what the clients remember."""
    g = run.federation.memory.g
    return torch.allclose(run.state.g, g.mean(0), atol=1e-12)


def test_an_update_whose_reply_was_lost_is_undone_at_the_next_contact():
    problem = quadratics()
    grid = Grid(client_app(problem), 3, lose={(1, 3), (2, 4), (2, 5)})
    run = started(EF21, problem, grid).finish()
    assert run.status == "finished"
    assert agrees(run)
    assert run.history.dropped.dropna().sum() >= 3
    assert "client 1 did not answer within 0.02 s" in "; ".join(run.history.nodes.dropna())


def test_without_the_rule_server_and_client_would_disagree():
    """The same lost reply, and a client that keeps its update: the classic error-feedback bug."""
    problem = quadratics()
    grid = Grid(client_app(problem), 3, lose={(1, 3)})
    run = started(EF21, problem, grid, rounds=3).finish()
    journal = grid.contexts[FIRST_NODE + 1].state["octolab.memory"]
    kept = copy.deepcopy(dict(journal))
    assert len(kept) == 2  # before and after the call whose reply was lost
    assert agrees(run)
    from octolab.flower.codec import unpack_rows

    newest = unpack_rows(kept[max(kept, key=lambda k: int(k.split("/")[1]))])["g"]
    wrong = run.federation.memory.g.clone()
    wrong[1] = newest
    assert not torch.allclose(run.state.g, wrong.mean(0), atol=1e-6)


def test_a_late_reply_is_proof_of_life_and_nothing_else():
    problem = quadratics()
    grid = Grid(client_app(problem), 3)
    run = started(EF21, problem, grid, rounds=10)
    run.advance(3)
    held = {}
    push = InProcessGrid.push_messages

    def slow(messages):  # client 0 answers, but the answer comes after the server stopped waiting
        ids = push(grid, messages)
        for name, message in zip(ids, messages, strict=True):
            if message.metadata.dst_node_id == FIRST_NODE:
                held[name] = grid._replies.pop(name)
        return ids

    grid.push_messages = slow
    run.advance(1)
    assert len(held) == 1
    del grid.push_messages
    grid._replies.update(held)
    run.advance(3)
    assert agrees(run)
    assert run.history.dropped.dropna().tolist() == [1]


def test_nothing_is_sent_to_a_client_whose_message_is_still_under_way():
    problem = quadratics()
    grid = Grid(client_app(problem), 3)
    run = started(EF21, problem, grid, rounds=6, grace=30.0)
    run.advance(2)
    grid.down.add(FIRST_NODE + 2)
    run.advance(1)
    sent = grid._number
    run.advance(2)
    assert grid._number - sent == 2 * 2  # only the other two are asked
    assert run.history.dropped.dropna().tolist() == [1, 1, 1]
    assert "; ".join(run.history.nodes.dropna()).count("did not answer") == 1


def test_a_node_that_is_replaced_takes_part_again_if_it_had_nothing_to_remember():
    problem = quadratics()
    grid = Grid(client_app(problem), 3)
    run = started(ol.methods.FedAvg(lr=0.05, local_epochs=1), problem, grid, rounds=6)
    run.advance(2)
    grid.gone.add(FIRST_NODE + 1)
    run.advance(2)
    new = FIRST_NODE + 77
    grid.contexts[new] = Context(1, new, {"partition-id": 1, "num-partitions": 3}, RecordDict(), {})
    run.finish()
    answered = run.federation.ledger.per_client("replies")
    assert answered.tolist() == [6, 4, 6]
    assert "client 1's node has gone" in "; ".join(run.history.nodes.dropna())


def test_a_second_node_with_a_clients_number_stands_by_until_it_is_needed():
    """A SuperNode that died without a farewell is still listed for a minute; its successor does not wait for that."""
    problem = quadratics()
    grid = Grid(client_app(problem), 3)
    run = started(ol.methods.FedAvg(lr=0.05, local_epochs=1), problem, grid, rounds=8)
    new = FIRST_NODE + 78
    grid.contexts[new] = Context(1, new, {"partition-id": 1, "num-partitions": 3}, RecordDict(), {})
    run.advance(3)
    assert run.world.nodes.node[1] == FIRST_NODE + 1
    grid.down.add(FIRST_NODE + 1)
    run.finish()
    assert run.world.nodes.node[1] == new
    assert run.federation.ledger.per_client("replies").tolist() == [8, 7, 8]
    assert "client 1 goes on with another node" in "; ".join(run.history.nodes.dropna())


def test_a_node_that_says_farewell_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(nodes_module, "LOOK", 0.0)
    problem = quadratics()
    grid = Grid(client_app(problem), 3)
    run = started(ol.methods.FedAvg(lr=0.05, local_epochs=1), problem, grid, rounds=3, timeout=60.0)
    run.advance(2)
    grid.down.add(FIRST_NODE + 1)
    push = grid.push_messages

    def leave(messages):  # the node signs off while its message is on the way
        grid.gone.add(FIRST_NODE + 1)
        return push(messages)

    grid.push_messages = leave
    run.finish()  # were it waited for, this would take a minute
    assert run.federation.ledger.per_client("replies").tolist() == [3, 1, 3]


def test_a_node_that_lost_its_memory_stays_out_so_that_server_and_clients_agree():
    problem = quadratics()
    grid = Grid(client_app(problem), 3)
    run = started(EF21, problem, grid, rounds=8)
    run.advance(3)
    before = prepare(EF21, problem, rounds=8, executor="loop").advance(3).federation.memory.g[1].clone()
    old = FIRST_NODE + 1
    grid.contexts[old].state = RecordDict()  # the SuperNode was started anew
    run.finish()
    said = "; ".join(run.history.nodes.dropna())
    assert "came back without what the server counts on; it stays out" in said
    assert run.federation.ledger.per_client("replies").tolist() == [9, 3, 9]
    rest = dict(run.federation.memory.items())["g"][[0, 2]].sum(0)
    assert torch.allclose(run.state.g, (rest + before) / 3, atol=1e-12)


def lost_in_round_3(tmp_path=None, rounds=8, **how):
    """A run whose client 1 lost its memory after round 2, finished."""
    problem = quadratics()
    grid = Grid(client_app(problem), 3)
    files = {} if tmp_path is None else {"checkpoint": str(tmp_path / "run.octo"), **how}
    run = prepare(EF21, problem, rounds=rounds, on=on(grid), **files)
    run.world.pause, run.world.nodes.grace = 0.001, 0.0
    run.advance(3)
    grid.contexts[FIRST_NODE + 1].state = RecordDict()
    return run, grid


def test_the_memory_of_a_lost_node_cannot_be_shown_and_says_so():
    run, _ = lost_in_round_3()
    run.finish()
    with pytest.raises(ol.errors.OctolabError, match="Client 1's memory is lost with its node"):
        assert run.federation.memory.g is not None


def test_a_run_file_is_written_without_a_lost_client_and_marks_it_out(tmp_path):
    """Gone on with from there, in whichever world, the client stays out: server and clients agree."""
    run, _ = lost_in_round_3(tmp_path, checkpoint_every=5)
    run.finish()
    assert "the memory of client 1 cannot be fetched: a run file marks it out" in "; ".join(run.history.nodes.dropna())
    with pytest.warns(RuntimeWarning, match=r"Clients \[1\] stay out of this run: what they remembered was lost"):
        again = ol.load_run(tmp_path / "run.octo")
    assert again.round == 8 and again.federation.out == {1}
    before = again.federation.ledger.per_client("replies").tolist()
    for settings in ({"executor": "loop"}, {"on": ol.flower.InProcess(wire="exact")}):
        with pytest.warns(RuntimeWarning, match="stay out"):
            longer = again.fork(rounds=14, **settings)
        longer.finish()
        after = longer.federation.ledger.per_client("replies").tolist()
        assert after == [before[0] + 6, before[1], before[2] + 6]
        g = longer.federation.memory.g
        change = longer.state.g - again.state.g
        assert torch.allclose(change, (g - again.federation.memory.g)[[0, 2]].sum(0) / 3, atol=1e-12)


def test_with_frequent_run_files_a_node_that_lost_its_memory_is_given_it_back(tmp_path):
    """The replies before a run file bring copies along, so nothing is lost and nobody has to stay out."""
    run, _ = lost_in_round_3(tmp_path, checkpoint_every=1)
    run.finish()
    assert run.status == "finished" and run.federation.out == set() and agrees(run)
    assert run.federation.ledger.per_client("replies").tolist() == [9, 9, 9]
    assert "client 1's node came back without its memory, and was given it back" in "; ".join(
        run.history.nodes.dropna()
    )
    here = prepare(EF21, quadratics(), rounds=8, executor="loop").finish()
    assert torch.equal(here.x, run.x)


def test_a_client_that_is_silent_while_a_run_file_is_written_is_in_it_with_its_last_copy(tmp_path):
    problem = quadratics()
    grid = Grid(client_app(problem), 3)
    files = {"checkpoint": str(tmp_path / "run.octo"), "checkpoint_every": 1}
    run = prepare(EF21, problem, rounds=9, on=on(grid), **files)
    run.world.pause, run.world.nodes.grace = 0.001, 30.0
    run.advance(3)
    grid.down.add(FIRST_NODE + 2)
    run.advance(3)
    saved = ol.load_run(tmp_path / "run.octo")
    assert saved.round == 5 and saved.federation.out == set() and agrees(saved)


def test_a_run_file_costs_no_messages_of_its_own(tmp_path):
    """What clients remember comes with the replies: one message a client and round, hello apart."""
    problem = quadratics()
    grid = Grid(client_app(problem), 3)
    run = prepare(EF21, problem, rounds=5, on=on(grid), checkpoint=str(tmp_path / "run.octo"), checkpoint_every=1)
    run.finish()
    table = run.world.traffic.table().set_index("function")
    assert set(table.index) == {"hello", "begin", "client"}
    assert table.messages_down["client"] == 5 * 3
    whole = prepare(EF21, problem, rounds=5, executor="loop").finish()
    saved = ol.load_run(tmp_path / "run.octo")
    assert torch.equal(saved.federation.memory.g, whole.federation.memory.g)


def test_a_client_that_joins_late_begins_with_nothing_and_the_sum_is_right():
    problem = quadratics()
    grid = Grid(client_app(problem), 3)
    grid.gone.add(FIRST_NODE + 2)
    run = started(EF21, problem, grid, rounds=40, least=2)
    run.advance(4)
    grid.gone.clear()
    run.finish()
    assert run.federation.ledger.per_client("replies")[2] > 30
    assert agrees(run)


class Clock:
    """Virtual seconds: sleeping is what makes them pass."""

    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class SlowGrid(Grid):
    """Every training reply comes some virtual seconds after the message; `seconds` by client."""

    def __init__(self, app, nodes, seconds):
        super().__init__(app, nodes)
        self.clock, self.seconds, self.due = Clock(), seconds, {}

    def push_messages(self, messages):
        messages = list(messages)
        ids = super().push_messages(messages)
        for name, message in zip(ids, messages, strict=True):
            if message.metadata.message_type == "train":
                self.due[name] = self.clock.now + self.seconds[message.metadata.dst_node_id - FIRST_NODE]
        return ids

    def pull_messages(self, names):
        return super().pull_messages([name for name in names if self.due.get(name, 0.0) <= self.clock.now])


def slow(method, problem, seconds, rounds, **how):
    grid = SlowGrid(client_app(problem), problem.n, seconds)
    run = prepare(method, problem, rounds=rounds, on=on(grid, **{"timeout": 0.3, "patience": 60.0, **how}))
    run.world.nodes.clock = grid.clock
    return run, grid


FEDAVG = ol.methods.FedAvg(lr=0.05, local_epochs=1)


@pytest.mark.parametrize("method", [FEDAVG, EF21], ids=["fedavg", "ef21"])
def test_nodes_that_are_slower_than_the_timeout_are_waited_for_since_nobody_else_answers(method):
    """Replies after 0.5 s and timeout=0.3: each round waits for its first answer, and has one."""
    problem = quadratics()
    run, _ = slow(method, problem, [0.5, 0.5, 0.5], rounds=20)
    start = float(problem.evaluate(problem.x0)["loss"])
    run.finish()
    assert run.status == "finished" and run.round == 20
    assert "skipped" not in run.history
    assert run.history.loss.iloc[-1] < 0.9 * start


def test_with_cohorts_of_slow_nodes_rounds_have_answers_once_all_are_known_to_be_slow():
    problem = quadratics(n=6)
    method = ol.methods.FedAvg(lr=0.05, local_epochs=1, cohort=2)
    run, _ = slow(method, problem, [0.5] * 6, rounds=40)
    run.finish()
    assert run.status == "finished" and run.federation.ledger.per_client("replies").sum() >= 40


def test_a_cold_node_has_time_for_its_first_answer():
    """Client 1's first answer takes 40 s, the timeout is 0.3 s, and no round leaves it out."""
    problem = quadratics()
    run, grid = slow(FEDAVG, problem, [0.1, 40.0, 0.1], rounds=5)
    run.advance(2)
    grid.seconds[1] = 0.1
    run.finish()
    assert run.federation.ledger.per_client("replies").tolist() == [5, 5, 5]


def test_one_slow_node_among_quick_ones_is_left_out_as_before():
    problem = quadratics()
    run, grid = slow(FEDAVG, problem, [0.1, 0.1, 0.1], rounds=10)
    run.advance(3)
    grid.seconds[2] = 50.0
    before = grid.clock.now
    run.finish()
    assert run.status == "finished"
    assert run.federation.ledger.per_client("replies").tolist() == [10, 10, 2]
    assert grid.clock.now - before < 10


@pytest.mark.parametrize("method", [FEDAVG, EF21], ids=["fedavg", "ef21"])
def test_a_run_whose_nodes_all_fall_silent_stops_with_a_sentence_and_can_go_on(method):
    problem = quadratics()
    run, grid = slow(method, problem, [0.1] * 3, rounds=30, patience=20.0)
    run.advance(5)
    x = run.x.clone()
    grid.seconds[:] = [1e9] * 3
    words = r"No client has answered for 20\.\d s .*3 still at work on an earlier message.*timeout=0\.3, patience=20"
    with pytest.warns(RuntimeWarning, match=words):
        run.finish()
    assert run.status == "stalled" and run.round == 4 and torch.equal(run.x, x)
    grid.seconds[:] = [0.1] * 3
    grid.clock.now += 100.0  # what was lost is given up
    run.finish()
    assert run.status == "finished" and run.round == 30


def test_a_run_waits_for_nodes_that_left_and_goes_on_when_one_is_back():
    problem = quadratics()
    run, grid = slow(FEDAVG, problem, [0.1] * 3, rounds=12)
    run.advance(3)
    grid.gone.update(FIRST_NODE + i for i in range(3))
    run.world.nodes.look()
    sleep = grid.clock.sleep

    def wake(seconds):
        sleep(seconds)
        if grid.clock.now > 30.0:
            grid.gone.discard(FIRST_NODE)

    grid.clock.sleep = wake
    run.finish()
    assert run.status == "finished" and run.round == 12
    assert run.federation.ledger.per_client("replies").tolist() == [12, 2, 2]


def test_if_no_node_ever_answered_the_first_call_there_is_nothing_to_go_on_with():
    problem = quadratics()
    run, _ = slow(EF21, problem, [1e9] * 3, rounds=2)
    with pytest.warns(RuntimeWarning, match="No client has answered for 60"):
        run.finish()
    assert run.status == "stalled" and run.round == -1


def asynchronous(rounds=30):
    problem = ol.problems.Tridiagonal(d=5, n=3, noise=0.01)
    grid = Grid(client_app(problem), 3)
    return started(ol.methods.ASGD(lr=0.05), problem, grid, rounds=rounds), grid


def test_an_asynchronous_run_goes_on_without_a_node_that_died_and_with_it_when_it_is_back():
    run, grid = asynchronous(rounds=90)
    run.advance(4)
    answered = run.federation.ledger.per_client("replies").copy()
    grid.gone.add(FIRST_NODE + 1)
    run.advance(30)
    there = run.federation.ledger.per_client("replies") - answered
    assert there[1] == 0 and there[0] > 10 and there[2] > 10
    assert "client 1" in "; ".join(run.history.nodes.dropna())
    bits = run.federation.ledger.per_client("up")
    assert bits[1] == bits[0] / run.federation.ledger.per_client("replies")[0] * answered[1]  # what it sent, no more
    grid.gone.clear()
    run.finish()
    assert run.status == "finished"
    assert run.federation.ledger.per_client("replies")[1] > answered[1] + 5


def test_an_asynchronous_run_whose_nodes_are_all_gone_stops_with_a_sentence():
    run, grid = asynchronous()
    run.advance(4)
    grid.gone.update(FIRST_NODE + i for i in range(3))
    with pytest.warns(RuntimeWarning, match=r"No client has answered for .*3 without a node"):
        run.finish()
    assert run.status == "stalled"


# -- who may not take part -------------------------------------------------------------------------------------------
def test_too_few_nodes_are_counted_in_words():
    problem = quadratics(n=5)
    run = started(EF21, problem, Grid(client_app(problem), 3))
    with pytest.raises(ValueError, match=r"5 clients, 5 of them must be there .* 3 nodes serve one.*partition-id=3, 4"):
        run.finish()


def test_more_nodes_than_clients_say_whose_number_is_wrong():
    run = started(EF21, quadratics(), Grid(client_app(quadratics()), 4))
    with pytest.raises(ValueError, match="says that it is client 3, and the problem's clients are 0 to 2"):
        run.finish()


def test_a_node_without_a_number_says_how_to_give_it_one():
    grid = Grid(client_app(quadratics()), 3)
    grid.contexts[FIRST_NODE].node_config = {}
    with pytest.raises(ol.errors.OctolabError, match=r"no client number.*--node-config 'partition-id=0"):
        started(EF21, quadratics(), grid).finish()


class Older(Node):
    def hello(self, message, context):
        told = {"client": context.node_config["partition-id"], "octolab": "0.0.9"}
        return Message(content(told), reply_to=message)


def test_a_node_with_another_octolab_is_refused_in_words():
    app = client_app(quadratics())
    app._registered_funcs["query.hello"] = Older().hello
    with pytest.raises(ValueError, match=r"node has octolab 0\.0\.9 and the server .*Install the same version"):
        started(EF21, quadratics(), Grid(app, 3)).finish()


def test_a_data_hook_with_another_model_is_refused_in_words():
    def hook(client, clients):
        width = 5 if client == 1 else 4
        module = ol.problems.MLP(width, 3, 2)
        if client is None:
            return ol.flower.OwnData(module, clients)
        return ol.flower.OwnData(module, clients, client, np.ones((6, width)), np.arange(6) % 2)

    run = started(ol.methods.FedAvg(lr=0.1), hook(None, 3), Grid(client_app(hook), 3))
    with pytest.raises(
        ValueError, match=r"Client 1's data hook makes another model \(parameters: 26 there and 23 here"
    ):
        run.finish()


def test_a_data_hook_that_fails_says_what_it_said():
    def hook(client, clients):
        raise FileNotFoundError("no /data/client.csv here")

    run = started(ol.methods.FedAvg(lr=0.1), quadratics(), Grid(client_app(hook), 3))
    with pytest.raises(ol.errors.OctolabError, match=r"data hook failed: FileNotFoundError: no /data/client\.csv"):
        run.finish()


def test_a_message_that_is_too_large_is_refused_before_it_is_sent(monkeypatch):
    monkeypatch.setattr(nodes_module, "LARGEST", 40)
    with pytest.raises(ValueError, match=r"too large: flwr 1\.41\.\d+ takes 2 GiB"):
        started(EF21, quadratics(), Grid(client_app(quadratics()), 3)).finish()


def test_the_largest_message_is_the_installed_flwrs():
    """Flower carries a node's record as one object, which protobuf and gRPC take up to this size."""
    from flwr.supercore.grpc import GRPC_MAX_MESSAGE_LENGTH

    assert 0 < GRPC_MAX_MESSAGE_LENGTH - nodes_module.LARGEST <= 2**20
