"""The client's side: what a Flower node does when a message of octolab's arrives.

A node knows its client number (`partition-id`), the problem (rebuilt from the run's spec, or from a data hook), the
method (rebuilt from JSON), and it keeps the client's memory in its context's state. Nothing else survives a message:
in a deployment every one is answered by a new process.

The transaction rule over a network: every message has a number, and the node keeps what its memory was after the last
ones. A message names the version the server counts on (`base`); what came later is undone, because its reply was lost
on the way, and the function runs on that version. Nobody has to know in advance which reply gets through.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

import octolab
from octolab.arguments import METHOD, PROBLEM, expects, function, like
from octolab.federation.cohort import Cohort
from octolab.federation.executor import stacked
from octolab.federation.memory import CohortMemory, Memory
from octolab.flower.codec import pack, pack_rows, read_down, unpack_rows
from octolab.flower.messages import (
    LOST,
    MEMORY,
    RAISED,
    STALE,
    TASK,
    UNKNOWN,
    DataHook,
    Refusal,
    content,
    fingerprint,
    hooked,
    values,
)
from octolab.flower.task import fields_of
from octolab.notation import from_json
from octolab.randomness import Randomness

if TYPE_CHECKING:
    from octolab.methods.method import Method
    from octolab.payloads import Payload
    from octolab.problems.problem import Problem

Answer = dict[str, Any]
"""What a node writes into its reply: numbers, texts and bytes by name."""


LARGEST_COPY = 2**28  # bytes of memory that come along with a reply unasked; more is fetched by a message of its own


class Task(NamedTuple):
    """What a node works on."""

    problem: Problem
    method: Method
    randomness: Randomness
    wire: str


class Node:
    """Answers messages. problem: None (from the run's spec), a `Problem`, or a function (client, clients) -> Problem
    that a practitioner writes; method, randomness: None (from JSON), or objects of the same process.
    """

    def __init__(
        self,
        problem: Problem | DataHook | None = None,
        method: Method | None = None,
        randomness: Randomness | None = None,
    ):
        self._problem, self._method, self._randomness = problem, method, randomness
        self._hooked: dict[int, Problem] = {}
        self._tasks: dict[tuple[str, int], Task] = {}

    # -- messages ------------------------------------------------------------------------------------------------
    def hello(self, message: Message, context: Context) -> Message:
        """Who is there: client number, octolab's version, and the data hook's fingerprint."""
        client, clients = client_of(context), int(values(message)["clients"])
        answer: Answer = {"client": client, "octolab": octolab.__version__}
        try:
            hook = self._own_problem(client, clients, context)
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

    def _answer(self, do: Callable[[Any, Context], Answer], message: Message, context: Context) -> Message:
        try:
            with _quiet_torch():
                answer = do(values(message), context)
        except Refusal as refusal:
            answer = {"error": str(refusal), "code": refusal.code}
        except Exception as error:
            answer = {"error": _words(error), "code": RAISED}
        return Message(content(answer), reply_to=message)

    # -- work ------------------------------------------------------------------------------------------------------
    def _call(self, asked: Any, context: Context) -> Answer:
        client = asked["client"]
        problem, method, randomness, wire = self._task(asked, context)
        if "lr" in asked:
            method = dataclasses.replace(method, **{"lr": asked["lr"]})
        task: Any = context.state[TASK]
        if asked["number"] <= task["latest"]:
            raise Refusal(STALE, "A later message was answered already.")
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
        own.commit(cohort.written, slice(0, 1), None)
        answer: Answer = _packed(returned, wire)
        answer["gradients"], answer["samples"] = _number(cohort.gradients), _number(cohort.samples)
        after = dict(own.items())
        answer["number"] = asked["number"] if after else 0
        if after:
            _remember(context, asked, after)
            if asked.get("copy") and sum(value.nbytes for value in after.values()) <= LARGEST_COPY:
                answer["rows"] = pack_rows(after)
            layout = {name: [list(v.shape[1:]), str(v.dtype).removeprefix("torch.")] for name, v in after.items()}
            if cohort.written and layout.keys() != rows.keys():
                answer["layout"] = json.dumps(layout)
        metrics = problem.take_metrics(client) if hasattr(problem, "take_metrics") else None
        if metrics:
            answer["metrics"] = json.dumps(metrics)
        return answer

    def _evaluate(self, asked: Any, context: Context) -> Answer:
        client = asked["client"]
        problem, _, _, wire = self._task(asked, context)
        (x,) = read_down(json.loads(asked["tree"]), asked["data"], wire)
        found = problem.client_metrics(x, slice(client, client + 1))
        numbers = {name: float(value[0]) for name, value in found.items()}
        return {"metrics": json.dumps(numbers), "samples": int(problem.sizes[client])}

    # -- who and what ------------------------------------------------------------------------------------------------
    def _task(self, asked: Any, context: Context) -> Task:
        """What is needed for the run that a message names."""
        name, client = asked["task"], asked["client"]
        if "spec" in asked:
            context.state[TASK] = ConfigRecord({"spec": asked["spec"], "name": name, "latest": -1})
        held: Any = context.state.get(TASK)
        if held is None or held["name"] != name:
            raise Refusal(UNKNOWN, "This node was not told what it runs.")
        ready = self._tasks.get((name, client))
        if ready is not None:
            return ready
        spec = json.loads(str(held["spec"]))
        problem = self._own_problem(client, spec["clients"], context) or specified(spec["problem"])
        if hasattr(problem, "settle"):
            problem.settle(spec["sizes"])
        method = from_json(spec["method"]).resolve(problem) if self._method is None else told(self._method, spec)
        randomness = self._randomness or Randomness(spec["seed"])
        self._tasks[name, client] = ready = Task(problem, method, randomness, spec["wire"])
        return ready

    def _own_problem(self, client: int, clients: int, context: Context) -> Problem | None:
        if not callable(self._problem):
            return self._problem
        if client not in self._hooked:
            self._hooked[client] = hooked(self._problem, client, clients, context.node_config)
        return self._hooked[client]


def specified(spec: dict[str, Any]) -> Problem:
    """The problem of a spec; the newest is kept, because Ray unpacks the app anew for every message."""
    key = json.dumps(spec, sort_keys=True)
    if key not in _made:
        from octolab import problems

        _made.clear()
        _made[key] = problems.from_spec(spec)
    return _made[key]


_made: dict[str, Problem] = {}


def told(method: Method, spec: dict[str, Any]) -> Method:
    """A page of the app's own, with the hyperparameters that the server has: resolved, and as its run config says."""
    ours = fields_of(method)
    changes = {name: from_json(value) for name, value in spec["fields"].items() if ours.get(name) != value}
    return dataclasses.replace(method, **changes) if changes else method


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
        raise Refusal(LOST, f"This node no longer has what client {asked['client']} remembers.")
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
def _packed(returned: Payload | torch.Tensor | tuple | None, wire: str) -> Answer:
    parts = returned if isinstance(returned, tuple) else (returned,)
    data: list[bytes] = []
    metas: list[Any] = []
    for part in parts:
        if part is None:
            metas.append(None)
            continue
        blob, meta = pack(stacked(part, 1), wire)
        data.append(blob)
        metas.append(meta)
    answer: Answer = {"meta": json.dumps(metas), "tuple": isinstance(returned, tuple)}
    return answer | {"data": data} if data else answer


def _number(value: float | np.ndarray) -> float:
    return float(np.sum(value))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _quiet_torch() -> AbstractContextManager[object]:
    """One thread, no autograd: as the run does it where it computes itself."""
    if not torch.is_grad_enabled() and torch.get_num_threads() == 1:
        return nullcontext()
    from octolab.experiment.threads import one_thread

    return one_thread()


@expects(
    problem=PROBLEM | function("a function that gives a node's problem"),
    method=METHOD,
    randomness=like("ol.Randomness(seed)", "draws"),
)
def client_app(
    problem: Problem | DataHook | None = None, method: Method | None = None, randomness: Randomness | None = None
) -> ClientApp:
    """A Flower ClientApp that runs any octolab method's client functions.

    problem: None (the run's spec says it), or a function (client, clients) -> Problem: the data hook, see
    `octolab.flower.OwnData`. method: None (the run's spec says it), or a method that is not in octolab's catalogue.
    """
    node, app = Node(problem, method, randomness), ClientApp()
    app.query("hello")(node.hello)
    app.query("memory")(node.memory)
    app.train()(node.train)
    app.evaluate()(node.evaluate)
    return app
