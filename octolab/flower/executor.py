"""Runs client functions on Flower nodes: what `Federation(executor=...)` takes, and the clients' memory seen from here.

Clock, ledger, drop-outs, attacks and jobs stay the federation's own; only where a client function is evaluated changes.
Shared coins and addressed randomness need no traffic: a draw's address (seed, event, client, slot, cohort) is numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import octolab
from octolab.errors import ClientAway, NoReplies, OctolabError
from octolab.federation.executor import Result, _priced
from octolab.federation.memory import Memory
from octolab.flower.codec import Down, check_wire, pack_rows, unpack, unpack_rows
from octolab.flower.connected_nodes import ConnectedNodes, NodeError
from octolab.flower.messages import LOST, STALE, UNKNOWN, fingerprint, name_of
from octolab.flower.traffic import Traffic
from octolab.payloads import Payload
from octolab.randomness import CALL, JOB

if TYPE_CHECKING:
    from octolab.federation import Federation
    from octolab.federation.jobs import Job


@dataclass
class Remote(Result):
    """What a cohort did on its nodes. Its memory is there; settling says which messages count."""

    executor: Any = None
    clients: tuple[int, ...] = ()
    numbers: tuple[int | None, ...] = ()  # of the messages that were answered

    def settle(self, memory: Memory, replied: np.ndarray | None) -> None:
        for k, (client, number) in enumerate(zip(self.clients, self.numbers, strict=True)):
            if number is not None and (replied is None or replied[k]):
                self.executor.settle(client, number)


class NodesMemory(Memory):
    """The clients' memory, where it is: on the nodes. Reading fetches it, for a checkpoint or a look; that is charged
    to nobody. Assigning (a run that is resumed) sends each client its rows with the next message.
    """

    executor: GridExecutor

    def __init__(self, executor: GridExecutor):
        super().__init__(executor.n)
        object.__setattr__(self, "executor", executor)

    def changed(self) -> None:
        object.__setattr__(self, "version", self.version + 1)

    def __getitem__(self, name: str) -> torch.Tensor:
        held = dict(self.items())
        if name not in held:
            raise KeyError(f"The clients' memory holds no {name!r}; it holds {', '.join(held) or 'nothing yet'}.")
        return held[name]

    def __setitem__(self, name: str, value: torch.Tensor) -> None:
        super().__setitem__(name, value)  # checks the shape
        self._store.pop(name)
        self.executor.put_memory({**self.executor.memory(), name: value})

    def __contains__(self, name: object) -> bool:
        return name in self.executor.layout

    def __iter__(self) -> Iterator[str]:
        return iter(self.executor.layout)

    def items(self) -> Any:
        return self.executor.memory().items()

    def commit(self, *_: Any) -> None:
        raise TypeError("The clients' memory is on the nodes: it changes with their replies.")


class GridExecutor:
    """Evaluates client functions on Flower nodes: `run` for calls, `job` for jobs.

    task: what nodes are told once (see `task_of`). open: makes the connection when it is first needed.
    """

    def __init__(self, task: dict[str, Any], method: Any, nodes: ConnectedNodes, open: Callable[[], None]):
        self.n, self.method, self.nodes, self.wire = task["clients"], method, nodes, check_wire(task["wire"])
        self.task, self._open = task, open
        self.layout: dict[str, Any] = {}  # name -> [shape, dtype] of what clients remember
        self.number = 0  # of messages; a version of a client's memory is named by the message that made it
        self.base = [0] * self.n  # the version that counts
        self.metrics: Callable[[int, dict[str, float]], None] | None = None
        self._knows = [0] * self.n  # how many names of the layout a client has been told or has written
        self._told: dict[int, int] = {}  # client -> the node that was told the task
        self._rows: dict[str, torch.Tensor] = {}  # memory that was handed in, for those in _owed
        self._owed: set[int] = set()
        self._fetched: dict[str, torch.Tensor] | None = None  # what all remember, until a reply changes it
        self._arity: dict[str, int | None] = {}
        self._json, self._name = "", ""
        self._changed: Callable[[], None] = lambda: None

    @property
    def traffic(self) -> Traffic:
        return self.nodes.traffic

    def attach(self, fed: Federation) -> None:
        """Become the federation's executor, and its memory the nodes' memory."""
        memory = NodesMemory(self)
        fed.executor, fed.memory, self._changed = self, memory, memory.changed
        self.nodes.print = fingerprint(fed.problem)

    # -- a call ----------------------------------------------------------------------------------------------------
    def run(self, fed: Federation, fn: Callable[..., Any], ids: np.ndarray, down: tuple, event: int) -> Result:
        m = len(ids)
        if m == 0:
            return Result([None], False, 0.0, 0.0, [])
        name = self._function(fn)
        packed = Down(down, self.wire)
        call = {"fn": name, "event": event, "kind": CALL, "cohort": m}
        asked = [(int(i), packed, {**call, "slot": k}) for k, i in enumerate(ids)]
        answers = self._ask(asked, name)
        if said := self.nodes.news():
            fed.log(nodes=said)
        return self._result(name, ids, answers)

    def _result(self, name: str, ids: np.ndarray, answers: list[Any]) -> Result:
        m = len(ids)
        absent = np.array([answer is None for answer in answers])
        rows: list[list[Payload | None] | None] = [None if a is None else self._payloads(a) for a in answers]
        some = next((k for k in range(m) if not absent[k]), None)
        numbers = tuple(None if a is None else a["number"] for a in answers)
        joined: list[Payload | None]
        if some is None:
            arity = self._arity.get(name, -1)
            if arity == -1:
                raise NoReplies(f"Call of {name}: no node answered, and none ever has. Are the SuperNodes running?")
            joined, is_tuple = [None] * (arity or 1), arity is not None
        else:
            columns = zip(*(rows[some] if r is None else r for r in rows), strict=True)  # the absent: any row will do
            joined = [None if column[0] is None else type(column[0]).cat(list(column)) for column in columns]
            is_tuple = bool(answers[some]["tuple"])
            self._arity[name] = len(joined) if is_tuple else None
        gradients, samples = (
            _same([0.0 if a is None else a[what] for a in answers]) for what in ("gradients", "samples")
        )
        clients = tuple(ids.tolist())
        result = Remote(joined, is_tuple, gradients, samples, [], executor=self, clients=clients, numbers=numbers)
        result.absent = absent if absent.any() else None
        return _priced(result)

    def settle(self, client: int, number: int) -> None:
        """The server counts on what this message did."""
        self.base[client] = number
        self._owed.discard(client)
        self._fetched = None
        self._changed()

    # -- a job -----------------------------------------------------------------------------------------------------
    def job(self, fed: Federation, job: Job) -> tuple[Payload, float, float]:
        name, client = self._function(job.fn), job.client
        call = {"fn": name, "event": job.number, "kind": JOB, "cohort": 1, "slot": 0}
        (answer,) = self._ask([(client, Down(job.down, self.wire), call)], name)
        if said := self.nodes.news():
            fed.log(nodes=said)
        if answer is None:
            raise ClientAway(f"Client {client}'s job cannot be evaluated: its node does not answer.")
        (payload,) = self._payloads(answer)
        if payload is None:
            raise TypeError(f"{name} returned nothing, and a job's result was asked for.")
        self.settle(client, answer["number"])
        return payload, float(answer["gradients"]), float(answer["samples"])

    # -- messages --------------------------------------------------------------------------------------------------
    def _ask(self, asked: list[tuple[int, Down, dict[str, Any]]], label: str) -> list[Any]:
        """One message to each client; the answers' values, None for those who are absent."""
        self._open()
        messages = [(client, self._message(client, down, call)) for client, down, call in asked]
        heard = self.nodes.ask("train", messages, label)
        again = [k for k, a in enumerate(heard) if a is not None and a.get("code") == UNKNOWN]
        if again:  # a node that was started anew does not know the task
            for k in again:
                self._told.pop(messages[k][0], None)
            retold = self.nodes.ask("train", [(asked[k][0], self._message(*asked[k])) for k in again], label)
            for k, answer in zip(again, retold, strict=True):
                heard[k] = answer
        return [self._sound(asked[k][0], answer) for k, answer in enumerate(heard)]

    def _message(self, client: int, down: Down, call: dict[str, Any]) -> dict[str, Any]:
        self.number += 1
        told = {**call, "client": client, "task": self._name, "number": self.number, "base": self.base[client]}
        told["tree"] = json.dumps(down.tree)
        blobs = down.of(call["slot"])
        if blobs:
            told["data"] = blobs
        node = self.nodes.node.get(client, -1)
        if self._told.get(client) != node:
            told["spec"] = self._json
            self._told[client] = node
        if client in self._owed:
            told["restore"] = pack_rows({name: value[client : client + 1] for name, value in self._rows.items()})
        if self._knows[client] < len(self.layout) or self.base[client] == 0:
            told["layout"] = json.dumps(self.layout)
        return told

    def _sound(self, client: int, answer: Any) -> Any:
        """The answer if it can be used; None if the client is absent; an error if its function failed."""
        if answer is None or "error" not in answer:
            if answer is not None:
                self._learn(client, answer)
            return answer
        if answer["code"] == LOST:
            self.nodes.out.add(client)
            self.nodes.events.append(
                f"client {client}'s node came back without what the server counts on; it stays out, so that server and "
                f"clients agree"
            )
            return None
        if answer["code"] == STALE:
            return None
        raise NodeError(f"Client {client} failed: {answer['error']}")

    def _learn(self, client: int, answer: Any) -> None:
        for name, layout in json.loads(answer.get("layout", "{}")).items():
            self.layout.setdefault(name, layout)
        self._knows[client] = len(self.layout)
        if self.metrics is not None and "metrics" in answer:
            self.metrics(client, json.loads(answer["metrics"]))

    def _payloads(self, answer: Any) -> list[Payload | None]:
        left = iter(answer.get("data", ()))
        return [None if meta is None else unpack(next(left), meta, self.wire) for meta in json.loads(answer["meta"])]

    def _function(self, fn: Callable[..., Any]) -> str:
        name = getattr(fn, "__name__", "")
        if getattr(getattr(type(self.method), name, None), "__name__", None) != name:
            raise OctolabError(
                f"{fn!r} cannot be named to a node: on Flower, what clients run is a function of the method's own page "
                f"({type(self.method).__name__}), such as self.client."
            )
        return name

    def tell(self, sizes: list[int] | None) -> None:
        """Fix what nodes are told. sizes: samples per client, where the data are the nodes' own."""
        self._json = json.dumps({**self.task, "sizes": sizes, "octolab": octolab.__version__}, sort_keys=True)
        self._name = name_of(self._json)
        self._told.clear()

    # -- memory and metrics ----------------------------------------------------------------------------------------
    def memory(self) -> dict[str, torch.Tensor]:
        """What all clients remember: name -> (n, ...). Fetched from the nodes; the run's ledger does not count it."""
        if not self.layout:
            return {}
        if self._fetched is None:
            self._fetched = self._fetch()
        return dict(self._fetched)

    def _fetch(self) -> dict[str, torch.Tensor]:
        away = [c for c in range(self.n) if self.base[c] and c not in self._owed]
        gone = [c for c in away if c in self.nodes.out]
        if gone:
            raise NodeError(f"Client {gone[0]}'s memory is lost with its node, so it cannot be saved or shown.")
        table = {
            name: torch.zeros(self.n, *shape, dtype=getattr(torch, dtype))
            for name, (shape, dtype) in self.layout.items()
        }
        for name, value in self._rows.items():
            owed = sorted(self._owed)
            table[name][owed] = value[owed]
        if away:
            self._open()
            asked = [(c, {"client": c, "task": self._name, "base": self.base[c]}) for c in away]
            for client, answer in zip(away, self.nodes.ask("query.memory", asked, "memory"), strict=True):
                if answer is None or "error" in answer:
                    said = "it does not answer" if answer is None else answer["error"]
                    raise NodeError(f"Client {client}'s memory cannot be fetched: {said}.")
                for name, value in unpack_rows(answer["rows"]).items():
                    table[name][client : client + 1] = value
        return table

    def put_memory(self, table: dict[str, torch.Tensor]) -> None:
        """Hand every client its rows, with the next message."""
        self._rows, self._fetched = table, None
        self._owed = set(range(self.n)) if table else set()
        self.layout = {k: [list(v.shape[1:]), str(v.dtype).removeprefix("torch.")] for k, v in table.items()}
        self._knows = [len(self.layout)] * self.n

    def evaluate(self, x: torch.Tensor) -> dict[str, float]:
        """Each client's metrics of a model on its own data, averaged by samples. Charged to nobody."""
        self._open()
        down = Down((x,), self.wire)
        asked = [(client, self._message(client, down, {"slot": 0})) for client in range(self.n)]
        answers = [
            self._sound(c, a) for (c, _), a in zip(asked, self.nodes.ask("evaluate", asked, "evaluate"), strict=True)
        ]
        heard = [a for a in answers if a is not None]
        total = sum(a["samples"] for a in heard)
        found = [(json.loads(a["metrics"]), a["samples"] / total) for a in heard]
        names = found[0][0] if found else {}
        return {name: sum(metrics[name] * share for metrics, share in found) for name in names}


def _same(values: list[float]) -> Any:
    """One number if it is the same for all, else (m,)."""
    return values[0] if len(set(values)) == 1 else np.array(values)
