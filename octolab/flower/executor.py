"""Runs client functions on Flower nodes: what `Federation(executor=...)` takes, and the clients' memory seen from here.

Clock, ledger, drop-outs, attacks and jobs stay the federation's own; only where a client function is evaluated changes.
Shared coins and addressed randomness need no traffic: a draw's address (seed, event, client, slot, cohort) is numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import octolab
from octolab.errors import ClientAway, NoReplies, OctolabError
from octolab.federation.executor import Result, priced
from octolab.federation.memory import Memory
from octolab.flower.codec import Down, check_wire, pack_rows, unpack, unpack_rows
from octolab.flower.connected_nodes import ConnectedNodes
from octolab.flower.messages import LOST, STALE, UNKNOWN, fingerprint, name_of
from octolab.flower.node_memory import NodeError, NodesMemory, Remembered
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


class GridExecutor:
    """Evaluates client functions on Flower nodes: `run` for calls, `job` for jobs.

    task: what nodes are told once (see `task_of`). open: makes the connection when it is first needed.
    """

    def __init__(self, task: dict[str, Any], method: Any, nodes: ConnectedNodes, open: Callable[[], None]):
        self.n, self.method, self.nodes, self.wire = task["clients"], method, nodes, check_wire(task["wire"])
        self.task, self._open = task, open
        self.remembered = Remembered(self.n)
        self.copies_wanted: Callable[[], bool] = lambda: (
            False
        )  # whether replies should bring along what clients remember
        self.number = 0  # of messages; a version of a client's memory is named by the message that made it
        self.metrics: Callable[[int, dict[str, float]], None] | None = None
        self._knows = [0] * self.n  # how many names of the layout a client has been told or has written
        self._told: dict[int, int] = {}  # client -> the node that was told the task
        self._arity: dict[str, int | None] = {}
        self._json, self._name = "", ""
        self._changed: Callable[[], None] = lambda: None

    @property
    def traffic(self) -> Traffic:
        return self.nodes.traffic

    def attach(self, fed: Federation) -> None:
        """Become the federation's executor, and its memory the nodes' memory."""
        if fed.beside:
            raise ValueError(
                f"{fed.problem.name}: running statistics that are averaged do not travel through Flower yet. Use "
                "batchnorm='local', 'frozen' or 'batch' (buffers='local' or 'server'), or ol.models.with_group_norm(module)."
            )
        memory = NodesMemory(self.remembered, self.memory)
        fed.executor, fed.memory, self._changed = self, memory, memory.changed
        self.nodes.print, self.nodes.out = fingerprint(fed.problem), fed.out

    # -- a call ----------------------------------------------------------------------------------------------------
    def run(self, fed: Federation, fn: Callable[..., Any], ids: np.ndarray, down: tuple, event: int) -> Result:
        m = len(ids)
        if m == 0:
            return Result([None], False, 0.0, 0.0, [])
        name = self._function(fn)
        packed = Down(down, self.wire)
        call = {"fn": name, "event": event, "kind": CALL, "cohort": m, **self._step(fn)}
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
        return priced(result)

    def settle(self, client: int, number: int) -> None:
        """The server counts on what this message did."""
        self.remembered.settle(client, number)
        self._changed()

    # -- a job -----------------------------------------------------------------------------------------------------
    def job(self, fed: Federation, job: Job) -> tuple[Payload, float, float]:
        name, client = self._function(job.fn), job.client
        call = {"fn": name, "event": job.number, "kind": JOB, "cohort": 1, "slot": 0, **self._step(job.fn)}
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
        for _ in range(2):  # told the task again, and then given back its memory
            again = [k for k, a in enumerate(heard) if a is not None and self._tell_again(asked[k][0], a.get("code"))]
            if again:
                retold = self.nodes.ask("train", [(asked[k][0], self._message(*asked[k])) for k in again], label)
                for k, answer in zip(again, retold, strict=True):
                    heard[k] = answer
        return [self._sound(asked[k][0], answer) for k, answer in enumerate(heard)]

    def _tell_again(self, client: int, code: str | None) -> bool:
        """Whether a node that was started anew only has to be told again what it forgot."""
        if code == UNKNOWN:
            self._told.pop(client, None)
            return True
        if code == LOST and self.remembered.give_back(client):
            self.nodes.events.append(f"client {client}'s node came back without its memory, and was given it back")
            return True
        return False

    def _message(self, client: int, down: Down, call: dict[str, Any]) -> dict[str, Any]:
        self.number += 1
        told = {
            **call,
            "client": client,
            "task": self._name,
            "number": self.number,
            "base": self.remembered.base[client],
        }
        told["tree"] = json.dumps(down.tree)
        blobs = down.of(call["slot"])
        if blobs:
            told["data"] = blobs
        node = self.nodes.node.get(client, -1)
        if self._told.get(client) != node:
            told["spec"] = self._json
            self._told[client] = node
        held = self.remembered
        if (rows := held.owed(client)) is not None:
            told["restore"] = pack_rows(rows)
        if self._knows[client] < len(held.layout) or held.base[client] == 0:
            told["layout"] = json.dumps(held.layout)
        if self.copies_wanted():
            told["copy"] = True
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
            self.remembered.layout.setdefault(name, layout)
        self._knows[client] = len(self.remembered.layout)
        if "rows" in answer:
            self.remembered.take_copy(client, answer["number"], unpack_rows(answer["rows"]))
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

    def _step(self, fn: Callable[..., Any]) -> dict[str, float]:
        """The step size of this round, where a schedule has made it another one than the nodes were told."""
        lr = getattr(getattr(fn, "__self__", None), "lr", None)
        return {"lr": lr} if isinstance(lr, float) and lr != getattr(self.method, "lr", None) else {}

    def tell(self, sizes: list[int] | None) -> None:
        """Fix what nodes are told. sizes: samples per client, where the data are the nodes' own."""
        self._json = json.dumps({**self.task, "sizes": sizes, "octolab": octolab.__version__}, sort_keys=True)
        self._name = name_of(self._json)
        self._told.clear()

    # -- memory and metrics ----------------------------------------------------------------------------------------
    def memory(self) -> dict[str, torch.Tensor]:
        """What all clients remember: name -> (n, ...). Fetched from the nodes; the run's ledger does not count it.

        A client whose memory cannot be had is in `remembered.missing`, and zero in the table.
        """
        held = self.remembered
        if not held.layout:
            return {}
        away = held.to_fetch()
        if away:
            self._open()
            asked = [(c, {"client": c, "task": self._name, "base": held.base[c]}) for c in away]
            for client, answer in zip(away, self.nodes.ask("query.memory", asked, "memory"), strict=True):
                if answer is not None and "error" not in answer:
                    held.take_copy(client, held.base[client], unpack_rows(answer["rows"]))
        missing = frozenset(held.to_fetch())
        if missing - held.missing:
            self.nodes.events.append(
                f"the memory of {_named(missing)} cannot be fetched: a run file marks {'them' if len(missing) > 1 else 'it'} out"
            )
        held.missing = missing
        return held.table()

    def put_memory(self, table: dict[str, torch.Tensor]) -> None:
        """Hand every client its rows, with the next message."""
        self.remembered.put(table)
        self._knows = [len(table)] * self.n

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


def _named(clients: frozenset[int]) -> str:
    return f"client{'s' if len(clients) > 1 else ''} {', '.join(map(str, sorted(clients)))}"
