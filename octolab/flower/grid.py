"""Flower's Grid in this very process: no Ray, no server, no port. A message is answered when it is pushed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run as FlowerRun
from flwr.supercore.task_identity import TaskIdentity

from octolab.arguments import expects, function, instance, whole

FIRST_NODE = 1000  # node ids are no client numbers, and should not look like them


def identify() -> None:
    """Let messages be made in this process. flwr makes them only inside its own tasks; this is the one place where
    octolab touches what flwr calls internal, and `tests/flower/test_grid.py` says so when it changes.
    """
    for name in ("task_id", "run_id", "node_id"):
        if getattr(TaskIdentity, f"_{name}") is None:
            setattr(TaskIdentity, name, 1)


class InProcessGrid(Grid):
    """A Grid whose nodes 0..nodes-1 are a `ClientApp` in this process, each with its own context.

    run_config: what the app's pyproject would give. `contexts` can be looked at: they hold what nodes remember.
    """

    @expects(app=function("a Flower ClientApp"), nodes=whole(1), run_config=instance("a dict", dict))
    def __init__(self, app: ClientApp, nodes: int, run_config: dict[str, Any] | None = None):
        if isinstance(nodes, bool) or not isinstance(nodes, int) or nodes < 1:
            raise ValueError(f"nodes={nodes!r}: give a whole number >= 1.")
        identify()
        self.app, self._number = app, 0
        self.contexts: dict[int, Context] = {}
        self.down: set[int] = set()  # nodes that do not answer: to try what happens
        for i in range(nodes):
            config: dict[str, Any] = {"partition-id": i, "num-partitions": nodes}
            node = FIRST_NODE + i
            self.contexts[node] = Context(1, node, config, RecordDict(), dict(run_config or {}))
        self._replies: dict[str, Message] = {}

    def set_run(self, run: FlowerRun) -> None:
        pass

    @property
    def run(self) -> FlowerRun:
        return FlowerRun.create_empty(1)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            self._number += 1
            name = str(self._number)
            message.metadata.__dict__["_message_id"] = name
            ids.append(name)
            if message.metadata.dst_node_id not in self.down:
                self._replies[name] = self._answer(message)
        return ids

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        if node not in self.contexts:
            return Message(Error(ErrorCode.NODE_UNAVAILABLE, f"there is no node {node}"), reply_to=message)
        try:
            return self.app(message, self.contexts[node])
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))
