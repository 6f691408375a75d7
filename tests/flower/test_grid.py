"""Flower's Grid in this process, and the one place where octolab touches what flwr calls internal."""

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

import octolab as ol
from octolab.flower.grid import FIRST_NODE, InProcessGrid, identify

pytestmark = pytest.mark.flower


def echo():
    app = ClientApp()

    @app.train()
    def train(message, context):
        seen = int(context.state["seen"]["times"]) + 1 if "seen" in context.state else 1
        context.state["seen"] = ConfigRecord({"times": seen})
        if message.content["ask"]["text"] == "fail":
            raise RuntimeError("I was told to")
        number = context.node_config["partition-id"]
        return Message(RecordDict({"reply": ConfigRecord({"number": number, "seen": seen})}), reply_to=message)

    return app


def ask(node, text="hello"):
    return Message(RecordDict({"ask": ConfigRecord({"text": text})}), dst_node_id=node, message_type="train")


def test_flwr_still_lets_messages_be_made_after_its_task_identity_is_set(monkeypatch):
    """If this fails, flwr has changed what `octolab.flower.grid.identify` sets: look there."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, None)
    with pytest.raises(RuntimeError, match="is not set"):
        ask(1)
    identify()
    assert ask(1).metadata.run_id == 1


def test_an_identity_that_flwr_has_set_is_left_alone(monkeypatch):
    monkeypatch.setattr(TaskIdentity, "_run_id", 77)
    identify()
    assert TaskIdentity.run_id == 77


def test_every_node_has_its_own_number_and_state():
    grid = InProcessGrid(echo(), 3)
    nodes = list(grid.get_node_ids())
    assert len(nodes) == 3 and all(node >= FIRST_NODE for node in nodes)
    for times in (1, 2):
        replies = list(grid.send_and_receive([ask(node) for node in nodes]))
        assert [(r.content["reply"]["number"], r.content["reply"]["seen"]) for r in replies] == [
            (i, times) for i in range(3)
        ]


def test_replies_are_pulled_once_and_by_their_message():
    grid = InProcessGrid(echo(), 2)
    first, second = grid.push_messages([ask(FIRST_NODE), ask(FIRST_NODE + 1)])
    (reply,) = grid.pull_messages([second])
    assert reply.metadata.reply_to_message_id == second
    assert [r.metadata.reply_to_message_id for r in grid.pull_messages([first, second])] == [first]


def test_an_app_that_fails_and_a_node_that_does_not_exist_are_flower_errors():
    grid = InProcessGrid(echo(), 1)
    failed, nowhere = grid.send_and_receive([ask(FIRST_NODE, "fail"), ask(5)])
    assert failed.has_error() and "RuntimeError: I was told to" in failed.error.reason
    assert nowhere.has_error() and "there is no node 5" in nowhere.error.reason


def test_a_grid_has_nodes():
    with pytest.raises(ValueError, match="nodes=0: give a whole number >= 1"):
        InProcessGrid(ol.flower.client_app(), 0)
