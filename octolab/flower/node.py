"""The client's side: what a Flower node does when a message of octolab's arrives.

A node knows its client number (`partition-id`), the problem (rebuilt from the run's spec, or from a data hook), the
method (rebuilt from JSON), and it keeps the client's memory in its context's state. Nothing else survives a message:
in a deployment every one is answered by a new process.

The transaction rule over a network: every message has a number, and the node keeps what its memory was after the last
ones. A message names the version the server counts on (`base`); what came later is undone, because its reply was lost
on the way, and the function runs on that version. Nobody has to know in advance which reply gets through.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict

import octolab
from octolab.federation.cohort import Cohort
from octolab.federation.executor import stacked
from octolab.federation.memory import CohortMemory, Memory
from octolab.flower.codec import pack, pack_rows, read_down, unpack_rows
from octolab.randomness import Randomness

RECORD, TASK, MEMORY = "octolab", "octolab.task", "octolab.memory"
UNKNOWN, LOST, STALE, RAISED = "unknown task", "lost memory", "stale", "raised"


def content(values: dict[str, Any]) -> RecordDict:
    return RecordDict({RECORD: ConfigRecord(values)})


def values(message: Message) -> Any:
    """What octolab wrote into a message; ValueError for somebody else's."""
    if RECORD not in message.content:
        raise ValueError(f"The message holds no {RECORD!r} record: it does not come from octolab's server.")
    return message.content[RECORD]


def name_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(problem: Any) -> dict[str, Any]:
    """What server and node must agree on: clients, parameters, precision, layers."""
    layers = [[q.name, *q.shape] for q in problem.layout]
    return {
        "clients": problem.n,
        "parameters": problem.d,
        "dtype": str(problem.dtype).removeprefix("torch."),
        "layers": name_of(json.dumps(layers)),
    }


class Failure(Exception):
    """What a node answers when it cannot do what it was asked; `code` says which way."""

    def __init__(self, code: str, text: str):
        super().__init__(text)
        self.code = code


class Node:
    """Answers messages. problem: None (from the run's spec), a `Problem`, or a function (client, clients) -> Problem
    that a practitioner writes; method, randomness: None (from JSON), or objects of the same process.
    """

    def __init__(self, problem: Any = None, method: Any = None, randomness: Any = None):
        self._problem, self._method, self._randomness = problem, method, randomness
        self._hooked: dict[int, Any] = {}
        self._tasks: dict[tuple[str, int], tuple[Any, Any, Any, str]] = {}

    # -- messages ------------------------------------------------------------------------------------------------
    def hello(self, message: Message, context: Context) -> Message:
        """Who is there: client number, octolab's version, and the data hook's fingerprint."""
        client, clients = client_of(context), int(values(message)["clients"])
        answer: dict[str, Any] = {"client": client, "octolab": octolab.__version__}
        try:
            hook = self._own_problem(client, clients)
            if hook is not None:
                answer["print"] = json.dumps(fingerprint(hook))
                answer["samples"] = int(hook.sizes[client])
        except Exception as error:
            answer |= {"error": _words(error), "code": RAISED}
        return Message(content(answer), reply_to=message)

    def train(self, message: Message, context: Context) -> Message:
        """One call or job: the client function's reply."""
        return self._answer(self._call, message, context)

    def memory(self, message: Message, context: Context) -> Message:
        """What the client remembers, for a checkpoint."""
        return self._answer(lambda asked, _: {"rows": pack_rows(_version(asked, context))}, message, context)

    def evaluate(self, message: Message, context: Context) -> Message:
        """Loss, accuracy and samples of a model on the client's own data."""
        return self._answer(self._evaluate, message, context)

    def _answer(self, do: Any, message: Message, context: Context) -> Message:
        try:
            with _quiet_torch():
                answer = do(values(message), context)
        except Failure as failure:
            answer = {"error": str(failure), "code": failure.code}
        except Exception as error:
            answer = {"error": _words(error), "code": RAISED}
        return Message(content(answer), reply_to=message)

    # -- work ------------------------------------------------------------------------------------------------------
    def _call(self, asked: Any, context: Context) -> dict[str, Any]:
        client = asked["client"]
        problem, method, randomness, wire = self._task(asked, context)
        task: Any = context.state[TASK]
        if asked["number"] <= task["latest"]:
            raise Failure(STALE, "A later message was answered already.")
        task["latest"] = asked["number"]
        own = Memory(1)
        rows = _version(asked, context)
        for name, value in rows.items():
            own[name] = value
        cohort = Cohort(
            problem,
            own,
            randomness,
            np.array([client]),
            slice(client, client + 1),
            asked["event"],
            asked["kind"],
            slots=np.array([asked["slot"]]),
            cohort_size=asked["cohort"],
        )
        cohort.memory = CohortMemory(own, slice(0, 1), 1)
        down = read_down(json.loads(asked["tree"]), asked.get("data", []), wire)
        function = None if asked["fn"].startswith("_") else getattr(method, asked["fn"], None)
        if function is None:
            raise ValueError(f"{type(method).__name__} has no client function {asked['fn']!r}.")
        returned = function(cohort, *down)
        own.commit(cohort.memory._staged, slice(0, 1), None)
        answer: dict[str, Any] = _packed(returned, wire)
        answer["gradients"], answer["samples"] = _number(cohort.gradients), _number(cohort.samples)
        after = dict(own.items())
        answer["number"] = asked["number"] if after else 0
        if after:
            _remember(context, asked, after)
            layout = {name: [list(v.shape[1:]), str(v.dtype).removeprefix("torch.")] for name, v in after.items()}
            if cohort.memory._staged and layout.keys() != rows.keys():
                answer["layout"] = json.dumps(layout)
        metrics = problem.take_metrics(client) if hasattr(problem, "take_metrics") else None
        if metrics:
            answer["metrics"] = json.dumps(metrics)
        return answer

    def _evaluate(self, asked: Any, context: Context) -> dict[str, Any]:
        client = asked["client"]
        problem, _, _, wire = self._task(asked, context)
        (x,) = read_down(json.loads(asked["tree"]), asked["data"], wire)
        found = problem.client_metrics(x, slice(client, client + 1))
        numbers = {name: float(value[0]) for name, value in found.items()}
        return {"metrics": json.dumps(numbers), "samples": int(problem.sizes[client])}

    # -- who and what ------------------------------------------------------------------------------------------------
    def _task(self, asked: Any, context: Context) -> tuple[Any, Any, Any, str]:
        """(problem, method, randomness, wire) of the run that a message names."""
        name, client = asked["task"], asked["client"]
        if "spec" in asked:
            context.state[TASK] = ConfigRecord({"spec": asked["spec"], "name": name, "latest": -1})
        held: Any = context.state.get(TASK)
        if held is None or held["name"] != name:
            raise Failure(UNKNOWN, "This node was not told what it runs.")
        ready = self._tasks.get((name, client))
        if ready is not None:
            return ready
        spec = json.loads(str(held["spec"]))
        problem = self._own_problem(client, spec["clients"]) or specified(spec["problem"])
        if hasattr(problem, "settle"):
            problem.settle(spec["sizes"])
        method = self._method
        if method is None:
            from octolab.experiment.spec import decode

            method = decode(spec["method"]).resolve(problem)
        randomness = self._randomness or Randomness(spec["seed"])
        self._tasks[name, client] = ready = problem, method, randomness, spec["wire"]
        return ready

    def _own_problem(self, client: int, clients: int) -> Any:
        if not callable(self._problem):
            return self._problem
        if client not in self._hooked:
            self._hooked[client] = self._problem(client, clients)
        return self._hooked[client]


def specified(spec: dict[str, Any]) -> Any:
    """The problem of a spec; the newest is kept, because Ray unpacks the app anew for every message."""
    key = json.dumps(spec, sort_keys=True)
    if key not in _made:
        from octolab import problems

        _made.clear()
        _made[key] = problems.from_spec(spec)
    return _made[key]


_made: dict[str, Any] = {}


def client_of(context: Context) -> int:
    """A node's client number: its `partition-id`."""
    try:
        return int(context.node_config["partition-id"])
    except KeyError:
        raise ValueError(
            "This node has no client number. Start each SuperNode with one of its own: "
            "--node-config 'partition-id=0 num-partitions=3'."
        ) from None


# -- memory --------------------------------------------------------------------------------------------------------
def _version(asked: Any, context: Context) -> dict[str, torch.Tensor]:
    """The client's memory as the server counts on it: name -> (1, ...). What came after it is undone."""
    journal: Any = context.state.get(MEMORY)
    base = asked["base"]
    if "restore" in asked:
        rows = unpack_rows(asked["restore"])
        base = 0
    elif base == 0:
        rows = {}
    elif journal is None or f"{asked['task']}/{base}" not in journal:
        raise Failure(LOST, f"This node no longer has what client {asked['client']} remembers.")
    else:
        rows = unpack_rows(journal[f"{asked['task']}/{base}"])
    if journal is not None:
        for key in [k for k in journal if k != f"{asked['task']}/{base}"]:
            del journal[key]
    for name, (shape, dtype) in json.loads(asked.get("layout", "{}")).items():
        if name not in rows:  # what others remember and this client has not written yet is zero
            rows[name] = torch.zeros(1, *shape, dtype=getattr(torch, dtype))
    return rows


def _remember(context: Context, asked: Any, rows: dict[str, torch.Tensor]) -> None:
    if MEMORY not in context.state:
        context.state[MEMORY] = ConfigRecord()
    journal: Any = context.state[MEMORY]
    journal[f"{asked['task']}/{asked['number']}"] = pack_rows(rows)


# -- answers -------------------------------------------------------------------------------------------------------
def _packed(returned: Any, wire: str) -> dict[str, Any]:
    is_tuple = isinstance(returned, tuple)
    data: list[bytes] = []
    metas: list[Any] = []
    for part in returned if is_tuple else (returned,):
        if part is None:
            metas.append(None)
            continue
        blob, meta = pack(stacked(part, 1), wire)
        data.append(blob)
        metas.append(meta)
    answer: dict[str, Any] = {"meta": json.dumps(metas), "tuple": is_tuple}
    return answer | {"data": data} if data else answer


def _number(value: Any) -> float:
    return float(np.sum(value))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _quiet_torch() -> Any:
    """One thread, no autograd: as the run does it where it computes itself."""
    if not torch.is_grad_enabled() and torch.get_num_threads() == 1:
        return nullcontext()
    from octolab.experiment.threads import one_thread

    return one_thread()
