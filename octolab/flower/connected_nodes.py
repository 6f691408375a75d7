"""The server's view of the nodes: which node is which client, who answers, and what travelled.

A client that does not answer within `timeout` seconds is absent from that call, like a device that drops out. It is not
asked again while its message is still on its way, so that a dead node costs one wait and not one per round; it takes
part again once it answers, or once another node with its client number appears.

A round that nobody answers is no round: where nobody else can be counted on, the server waits `patience` seconds longer
for one answer, and then stops the run with a sentence. A client's first answer gets that time too, since its node may
be cold.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Protocol

from flwr.app import Error, Message
from flwr.common import GRPC_MAX_MESSAGE_LENGTH
from flwr.common.constant import ErrorCode

import octolab
from octolab.errors import NothingUnderWay
from octolab.flower.messages import content, values
from octolab.flower.node_memory import NodeError
from octolab.flower.traffic import Traffic

BROKEN = (ErrorCode.LOAD_CLIENT_APP_EXCEPTION, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, ErrorCode.CLIENT_APP_CRASHED)
LOOK = 1.0  # seconds between two looks for new nodes while answers are awaited
LARGEST = GRPC_MAX_MESSAGE_LENGTH - 2**20  # of the bytes in a message, some room left for the rest


class Clock(Protocol):
    """What waits and measures: the `time` module, or a test's own."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


@dataclass
class Late:
    """A message that was not answered in time."""

    message_id: str
    expires: float


class ConnectedNodes:
    """Clients 0..clients-1 on the nodes of a Flower `Grid`.

    timeout: seconds to wait for answers. patience: seconds to wait for nodes to connect. least: how many must be there
    for the run to start (None: all). print: the fingerprint that a node's own data must have (None: any).
    """

    def __init__(self, clients: int, *, timeout: float, patience: float, least: int | None, traffic: Traffic):
        self.clients, self.timeout, self.patience, self.traffic = clients, timeout, patience, traffic
        self.least = clients if least is None else least
        self.print: dict[str, Any] | None = None
        self.node: dict[int, int] = {}  # client -> node
        self.samples: dict[int, int] = {}  # client -> samples, where its data are its own
        self.out: set[int] = set()  # clients that may not take part any more
        self.events: list[str] = []  # what happened, in sentences; `news` takes them
        self._greeted: dict[int, str | None] = {}  # node -> the hello under way, or None once it is answered
        self._late: dict[int, Late] = {}
        self._spare: dict[int, int] = {}  # client -> a second node with its number, should the first one fail
        self._slow: set[int] = set()  # clients whose newest message was not answered within the timeout
        self._warm: set[int] = set()  # clients that have answered in time once
        self._silent_since: float | None = None
        self._grid: Any = None
        self._pause, self._starting = 0.0, True
        self.clock: Clock = time
        self.check: Callable[[], None] = lambda: None  # raises if the runtime that carries the messages is gone
        self.grace = 5.0  # seconds beyond the timeout until a message expires and its client is asked again

    # -- who is there ----------------------------------------------------------------------------------------------
    def connect(self, grid: Any, pause: float) -> None:
        """Greet the nodes until enough are there. pause: seconds between two looks."""
        self._grid, self._pause, self._starting = grid, pause, True
        self.node.clear()
        self._greeted.clear()
        self._late.clear()
        self._spare.clear()
        end = self.clock.monotonic() + self.patience
        while True:
            self.look()
            if len(self.node) >= self.least or self.clock.monotonic() > end:
                break
            self._sleep()
        if len(self.node) < self.least:
            raise NodeError(self._too_few())
        self._starting = False

    def _too_few(self) -> str:
        missing = [str(c) for c in range(self.clients) if c not in self.node]
        shown = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
        refused = "" if not self.events else " " + " ".join(self.events)
        return (
            f"The problem has {self.clients} clients, {self.least} of them must be there to start, and after "
            f"{self.patience:g} s {len(self.node)} nodes serve one. Start SuperNodes with partition-id={shown}, make a "
            f"problem with fewer clients, or allow a start with fewer: least={max(1, len(self.node))}.{refused}"
        )

    def look(self) -> None:
        """Greet nodes that are new, and admit those that have answered."""
        online = set(self._grid.get_node_ids())
        self._spare = {client: node for client, node in self._spare.items() if node in online}
        self._greeted = {
            node: message for node, message in self._greeted.items() if node in online
        }  # greeted again later
        for client, node in list(self.node.items()):
            if node not in online:
                del self.node[client]
                self._late.pop(client, None)
                self.events.append(f"client {client}'s node has gone")
                self._stand_in(client)
        new = [node for node in online if node not in self._greeted]
        if new:
            hello = {"octolab": octolab.__version__, "clients": self.clients}
            asked = [Message(content(hello), dst_node_id=node, message_type="query.hello") for node in new]
            for node, message_id in zip(new, self._push(asked), strict=True):
                self._greeted[node] = message_id
        waiting = {mid: node for node, mid in self._greeted.items() if mid is not None}
        for reply in self._grid.pull_messages(list(waiting)) if waiting else ():
            node = waiting[reply.metadata.reply_to_message_id]
            self._greeted[node] = None
            self._admit(node, reply)

    def _admit(self, node: int, reply: Message) -> None:
        if reply.has_error():
            said = values_of_error(reply.error)
            self.events.append(f"a node could not be greeted: {said}")
            if reply.error.code in BROKEN and self._starting:
                raise NodeError(f"A node could not start octolab's client: {said}")
            return
        self.traffic.count("hello", None, reply)
        told = values(reply)
        client = int(told["client"])
        refusal = self._refusal(client, told)
        if refusal:
            self.events.append(refusal)
            if self._starting:
                raise NodeError(refusal)
            return
        if "samples" in told:
            self.samples[client] = int(told["samples"])
        self._spare[client] = node
        if client not in self.node:
            self._assign(client)
        elif client in self._late:
            self._stand_in(client)

    def _stand_in(self, client: int) -> bool:
        """Go on with a client's second node, if there is one."""
        if client not in self._spare:
            return False
        self._assign(client)
        self.events.append(f"client {client} goes on with another node")
        return True

    def _assign(self, client: int) -> None:
        """A client's spare node becomes its node; nothing of the earlier one's pace says anything of this one's."""
        self.node[client] = self._spare.pop(client)
        for known in (self._warm, self._slow):
            known.discard(client)
        self._late.pop(client, None)

    def _refusal(self, client: int, told: Any) -> str:
        """Why a node cannot take part, in words ("" if it can)."""
        if told["octolab"] != octolab.__version__:
            return (
                f"Client {client}'s node has octolab {told['octolab']} and the server {octolab.__version__}: the same "
                f"method may do something else there. Install the same version on both."
            )
        if not 0 <= client < self.clients:
            return (
                f"A node says that it is client {client}, and the problem's clients are 0 to {self.clients - 1}. "
                f"Give each SuperNode its own partition-id in that range, or make a problem with more clients."
            )
        if "error" in told:
            return f"Client {client}'s data hook failed: {told['error']}"
        theirs = json.loads(told.get("print", "{}"))
        different = [k for k, v in theirs.items() if self.print is not None and self.print.get(k, v) != v]
        if different:
            both = ", ".join(f"{k}: {theirs[k]} there and {self.print[k]} here" for k in different if self.print)
            return f"Client {client}'s data hook makes another model ({both}). Use the same model on all nodes."
        return ""

    # -- messages --------------------------------------------------------------------------------------------------
    def ask(self, kind: str, asked: Sequence[tuple[int, dict[str, Any]]], label: str) -> list[Any]:
        """Send each (client, values) and wait; the answers' values in the same order, None where none came.

        A client that is asked twice gets its second message once the first is answered.
        """
        answers: list[Any] = [None] * len(asked)
        left = list(range(len(asked)))
        while left:
            wave: list[int] = []
            rest: list[int] = []
            seen: set[int] = set()
            for k in left:
                (rest if asked[k][0] in seen else wave).append(k)
                seen.add(asked[k][0])
            for k, answer in self._wave(kind, [(k, *asked[k]) for k in wave], label):
                answers[k] = answer
            left = rest
        return answers

    def _wave(self, kind: str, asked: list[tuple[int, int, dict[str, Any]]], label: str) -> list[tuple[int, Any]]:
        """One message to each of some clients: (position, answer) of those who answered."""
        if self._pause:
            self.look()
        clients = [client for _, client, _ in asked]
        work = kind == "train"
        if work:
            self._wait_for_one_of(clients)
        waiting: dict[str, tuple[int, int]] = {}
        ttl = self.timeout + max(self.grace, self.patience)
        sent = [(k, c, Message(content(told), dst_node_id=self.node[c], message_type=kind, ttl=ttl))
                for k, c, told in asked if self._reachable(c, kind)]  # fmt: skip
        for _, _, message in sent:
            self.traffic.count(label, message, None)
        for (k, client, _), name in zip(sent, self._push([message for _, _, message in sent]), strict=True):
            waiting[name] = (k, client)
        return self._collect(waiting, clients, label, work)

    def _collect(
        self, waiting: dict[str, tuple[int, int]], clients: list[int], label: str, work: bool
    ) -> list[tuple[int, Any]]:
        """Wait for the answers to messages, {id: (position, client)}, as long as it makes sense."""
        asked_of = {name: self.node[client] for name, (_, client) in waiting.items()}
        out: list[tuple[int, Any]] = []
        start = looked = self.clock.monotonic()
        allowed = self.timeout
        while waiting:
            for reply in self._grid.pull_messages(list(waiting)):
                k, client = waiting.pop(reply.metadata.reply_to_message_id)
                answer = self._heard(client, reply, label)
                if answer is not None:
                    self._note(client, self.clock.monotonic() - start <= self.timeout)
                    out.append((k, answer))
            now = self.clock.monotonic()
            longer = work and self._deserves_patience([c for _, c in waiting.values()], clients, bool(out))
            allowed = self.timeout + (self.patience if longer else 0.0)
            if not waiting or now > start + allowed:
                break
            if now > looked + LOOK:
                looked = now
                self.look()
                waiting = {name: (k, c) for name, (k, c) in waiting.items() if self.node.get(c) == asked_of[name]}
            self._sleep()
        for name, (_, client) in waiting.items():
            self._note(client, False)
            self._late[client] = Late(name, self.clock.monotonic() + self.grace)
            self.events.append(f"client {client} did not answer within {allowed:g} s")
        if work:
            self._count_silence(bool(out), start, clients)
        return out

    # -- patience --------------------------------------------------------------------------------------------------
    def _note(self, client: int, quick: bool) -> None:
        """Whether a client answered its newest message within the timeout."""
        (self._slow.discard if quick else self._slow.add)(client)
        if quick:
            self._warm.add(client)

    def _others_are_well(self, clients: Sequence[int]) -> bool:
        """Whether somebody beside these clients can be counted on: there, and not late with its newest message."""
        asked = set(clients)
        return any(c not in asked and c not in self._slow and c not in self.out for c in self.node)

    def _deserves_patience(self, waiting: list[int], clients: list[int], answered: bool) -> bool:
        """Whether to wait beyond the timeout: for a node that is cold, or because without an answer there is no round."""
        if any(client not in self._warm and client not in self._slow for client in waiting):
            return True
        return not answered and not self._others_are_well(clients)

    def _wait_for_one_of(self, clients: list[int]) -> None:
        """If nobody at all can be asked, wait for a late answer or a node; after `patience`, stop with a sentence."""
        possible = [client for client in clients if client not in self.out]
        if not possible and self._anybody():
            return
        end = self.clock.monotonic() + self.patience
        while not any([self._reachable(client, "train") for client in possible]):
            if self._others_are_well(clients):
                return
            if not possible or self.clock.monotonic() > end:
                if self._anybody():
                    return
                raise NothingUnderWay(self._nobody(self.patience))
            self.look()
            self._sleep()

    def _anybody(self) -> bool:
        return any([self._reachable(client, "train") for client in range(self.clients)])

    def _count_silence(self, answered: bool, start: float, clients: list[int]) -> None:
        """Stop with a sentence once nobody has answered for `patience` seconds, and nobody else could."""
        if answered:
            self._silent_since = None
            return
        if self._silent_since is None:
            self._silent_since = start
        silent = self.clock.monotonic() - self._silent_since
        if silent >= self.patience and not self._others_are_well(clients):
            self._silent_since = None
            raise NothingUnderWay(self._nobody(silent))

    def _nobody(self, seconds: float) -> str:
        away = sum(client not in self.node and client not in self.out for client in range(self.clients))
        stuck = sum(client in self._late for client in range(self.clients))
        parts = [f"{away} without a node", f"{stuck} still at work on an earlier message"]
        parts += [f"{len(self.out)} that stay out"] if self.out else []
        newest = f" Newest: {'; '.join(self.events[-3:])}." if self.events else ""
        return (
            f"No client has answered for {seconds:.3g} s ({self.clients} clients: {', '.join(parts)}). The model is what "
            f"it was before. Look at the SuperNodes, bring back those that are gone or give slow ones more time "
            f"(timeout={self.timeout:g}, patience={self.patience:g}), and go on with run.finish().{newest}"
        )

    def _sleep(self) -> None:
        self.check()
        self.clock.sleep(max(self._pause, 0.001))

    def _heard(self, client: int, reply: Message, label: str) -> Any:
        if reply.has_error():
            said = values_of_error(reply.error)
            if reply.error.code in BROKEN and reply.error.code != ErrorCode.CLIENT_APP_CRASHED:
                raise NodeError(f"Client {client}'s node could not run octolab's client: {said}")
            self.events.append(f"client {client} could not be reached: {said}")
            self._greeted.pop(self.node.pop(client, -1), None)  # greeted again, if it is still there
            return None
        self.traffic.count(label, None, reply)
        return values(reply)

    def _reachable(self, client: int, kind: str) -> bool:
        """Whether a client can be asked now. What is still on its way is looked for first; queries do not wait for it."""
        if client in self.out or (client not in self.node and not self._stand_in(client)):
            return False
        late = self._late.get(client)
        if late is None or kind.startswith("query"):
            return True
        if not list(self._grid.pull_messages([late.message_id])):
            if self._stand_in(client):
                return True
            if self.clock.monotonic() <= late.expires:
                return False
        del self._late[client]
        return True

    def _push(self, messages: list[Message]) -> list[str]:
        if not messages:
            return []
        for message in messages:
            told = values(message)
            size = sum(len(blob) for blob in told.get("data", [])) + len(told.get("restore", b""))
            if size > LARGEST:
                raise ValueError(
                    f"A message of {size / 2**30:.2f} GiB is too large: flwr {metadata.version('flwr')} takes "
                    f"{GRPC_MAX_MESSAGE_LENGTH / 2**30:.0f} GiB. Use a smaller model, or a "
                    f"compressor on the way down."
                )
        self._grid.push_messages(messages)
        return [message.metadata.message_id for message in messages]

    def news(self) -> str:
        """What happened since the last call, in one line; "" if nothing did."""
        said, self.events = "; ".join(self.events), []
        return said


def values_of_error(error: Error) -> str:
    return f"{error.reason or 'no reason given'} (Flower error {error.code})"
