"""An app written for Flower, run inside octolab: its ServerApp and ClientApp as they are, without Ray.

What travels is weighed as it is sent (array elements by their own width, other numbers 64 bits), rounds become steps of an
octolab run, metrics become columns of its history. The app computes in a thread of its own, exactly as Flower calls it;
the run only opens a gate, once per training round, which is how pause and stop reach it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from octolab.errors import OctolabError
from octolab.experiment.run import FOREVER, Run, Settings
from octolab.flower.app_loader import App, load_app
from octolab.flower.grid import FIRST_NODE, InProcessGrid
from octolab.methods.method import Method
from octolab.problems.problem import Problem, flat_layout

COUNT = ("num-examples", "num_examples")  # what Flower's strategies weigh by
LOSS = ("eval_loss", "loss", "train_loss")
ACCURACY = ("eval_acc", "eval_accuracy", "accuracy", "acc")


def run_app(app: Any, *, nodes: int = 10, config: dict[str, Any] | None = None, live: bool | None = None) -> Run:
    """Run a Flower app in this process and return the octolab run: history, ledger, dashboard.

    app: a folder, or (ServerApp, ClientApp). nodes: SuperNodes to play, each with partition-id and num-partitions.
    config: run config in place of the pyproject's, e.g. {"num-server-rounds": 20}. Columns of the history: bits_up and
    bits_down per node, the ledger's; train_... and eval_... metrics, averaged by `num-examples`; loss and accuracy, the
    evaluation's where there is one.
    """
    from octolab.experiment.progress import watch

    if not isinstance(app, App):
        app = load_app(app) if isinstance(app, (str, os.PathLike)) else App(app[0], app[1], {})
    found: App = app
    if not isinstance(found.server, ServerApp) or not isinstance(found.client, ClientApp):
        raise ValueError(f"app={app!r}: give the folder of a Flower app, or its (ServerApp, ClientApp).")
    wrong = set(config or {}) - set(found.config)
    if wrong and found.config:
        raise ValueError(f"config names {sorted(wrong)}: this app's run config has {', '.join(sorted(found.config))}.")
    relay = Relay(found, nodes, {**found.config, **(config or {})})
    x = relay.begin()
    run = Run(FlowerApp(relay), _Carried(found.name, nodes, x, relay), Settings(rounds=FOREVER, evaluate_every=1))
    run.name, relay.owner = found.name, run
    return watch(run, live)


class Relay(InProcessGrid):
    """A grid that stops the app before every training round until the run lets it go on, and weighs what it sends."""

    def __init__(self, app: App, nodes: int, config: dict[str, Any]):
        super().__init__(app.client, nodes, config)
        self.server, self.config = app.server, config
        self.owner: Run | None = None
        self.sent: list[tuple[int, float, float]] = []  # (client, bits down, bits up) since the last step
        self.metrics: dict[str, list[tuple[float, float]]] = {}  # name -> (value, weight) since the last step
        self.x = torch.zeros(0)
        self.ended = False
        self.error: BaseException | None = None
        self._gate, self._one = threading.Condition(), threading.Lock()
        self._waiting, self._open = False, False
        self._group: str | None = None

    # -- the run's side --------------------------------------------------------------------------------------------
    def begin(self) -> torch.Tensor:
        """Start the ServerApp and wait until it wants to train; returns its first model (d,)."""
        threading.Thread(target=self._work, daemon=True, name="octolab-flower-app").start()
        self._until_it_waits()
        if self.ended:
            raise OctolabError("The Flower app ended without asking any client to train: there is nothing to show.")
        return self.x

    def one_round(self) -> None:
        """Let the app do one training round, and what follows it up to the next."""
        with self._gate:
            self._waiting, self._open = False, True
            self._gate.notify_all()
        self._until_it_waits()

    def _until_it_waits(self) -> None:
        with self._gate:
            self._gate.wait_for(lambda: self._waiting or self.ended)
        if self.error is not None:
            raise OctolabError(f"The Flower app failed: {type(self.error).__name__}: {self.error}") from self.error

    # -- the app's side --------------------------------------------------------------------------------------------
    def _work(self) -> None:
        logger = logging.getLogger("flwr")
        level, quiet = logger.level, logging.WARNING
        logger.setLevel(max(level, quiet))
        try:
            self.server(self, Context(1, 0, {}, RecordDict(), dict(self.config)))
        except BaseException as error:
            self.error = error
        finally:
            logger.setLevel(level)
            with self._gate:
                self.ended = True
                self._gate.notify_all()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        held = list(messages)
        if held and held[0].metadata.message_type.startswith("train"):
            self._knock(held)
        for message in held:
            self._note_arrays(message)
        with self._one:  # older strategies send from many threads
            ids = list(super().push_messages(held))
            for message, name in zip(held, ids, strict=True):
                self._weigh(message, self._replies.get(name))
        return ids

    def _knock(self, held: list[Message]) -> None:
        """Wait before the first message of a new training round."""
        group = held[0].metadata.group_id or None
        with self._gate:
            if group is not None and group == self._group:
                return
            if not self._open:
                self._note_arrays(held[0])
                self._waiting = True
                self._gate.notify_all()
                self._gate.wait_for(lambda: self._open or (group is not None and self._group == group))
            self._open, self._group = False, group
            self._gate.notify_all()

    def _note_arrays(self, message: Message) -> None:
        x = flat(message.content)
        if x is not None and (len(self.x) in (0, len(x))):
            self.x = x

    def _weigh(self, message: Message, reply: Message | None) -> None:
        down, up = weight(message.content), 0.0
        if reply is not None and reply.has_content():
            up = weight(reply.content)
            self._note_metrics(message.metadata.message_type, reply.content)
        self.sent.append((message.metadata.dst_node_id - FIRST_NODE, down, up))

    def _note_metrics(self, kind: str, content: RecordDict) -> None:
        prefix = "eval" if kind.startswith("evaluate") else kind.partition(".")[0]
        records = [r for r in content.values() if isinstance(r, MetricRecord)]
        counts = [float(record[name]) for record in records for name in COUNT if name in record]  # type: ignore[arg-type]
        share = counts[0] if counts else 1.0
        for record in records:
            for name, value in record.items():
                if name not in COUNT and isinstance(value, (int, float)):
                    key = name if name.startswith(prefix) else f"{prefix}_{name}"
                    self.metrics.setdefault(key.replace("-", "_"), []).append((float(value), share))

    def take(self) -> tuple[list[tuple[int, float, float]], dict[str, float]]:
        """What was sent, and the metrics averaged by examples, since the last time."""
        sent, metrics = self.sent, self.metrics
        self.sent, self.metrics = [], {}
        means = {
            k: sum(v * w for v, w in pairs) / max(sum(w for _, w in pairs), 1e-300) for k, pairs in metrics.items()
        }
        return sent, means


def flat(content: RecordDict) -> torch.Tensor | None:
    """The first array record of a message as one vector (d,), float32."""
    for record in content.values():
        if isinstance(record, ArrayRecord) and len(record):
            parts = [np.asarray(a.numpy()).reshape(-1) for a in record.values()]
            return torch.from_numpy(np.concatenate(parts).astype(np.float32))
    return None


def weight(content: RecordDict) -> float:
    """Bits of a message's payload: array elements by their width, other numbers 64, texts and bytes 8 each."""
    bits = 0.0
    for record in content.values():
        if isinstance(record, ArrayRecord):
            bits += sum(8.0 * np.asarray(a.numpy()).nbytes for a in record.values())
            continue
        for value in record.values():
            for item in value if isinstance(value, list) else [value]:
                bits += 8.0 * len(item) if isinstance(item, (str, bytes)) else 1.0 if isinstance(item, bool) else 64.0
    return bits


class State(NamedTuple):
    x: torch.Tensor


@dataclass(frozen=True, repr=False)
class FlowerApp(Method):
    """A Flower app: whatever its ServerApp and ClientApp do."""

    relay: Any = dataclasses.field(repr=False, default=None)

    def __repr__(self) -> str:
        return "FlowerApp()"

    def check(self, problem: Any) -> None:
        pass

    def init(self, fed: Any) -> State:
        return State(x=self.relay.x)

    def step(self, fed: Any, s: State) -> State:
        relay = self.relay
        relay.one_round()
        sent, metrics = relay.take()
        for client, down, up in sent:
            for column, amount in (("down", down), ("up", up), ("paper_up", up)):
                fed.ledger.add_one(column, amount, client)
        for client in {client for client, _, _ in sent}:
            fed.ledger.add_one("replies", 1, client)
        fed.log(**{k: v for k, v in metrics.items() if k not in ("loss", "accuracy")})
        fed.problem.found = metrics
        if relay.ended:  # the app is done: so is the plan
            relay.owner.settings = dataclasses.replace(relay.owner.settings, rounds=relay.owner.round + 1)
        return State(x=relay.x)


class _Carried(Problem):
    """What an app minimises is its own business: nodes, a model, and the metrics that it reports."""

    def __init__(self, name: str, nodes: int, x: torch.Tensor, relay: Relay):
        self.name, self.n, self.d, self.dtype, self.x0 = name, nodes, len(x), x.dtype, x
        self.sizes = np.ones(nodes, dtype=np.int64)
        self.weights = torch.full((nodes,), 1 / nodes, dtype=torch.float64)
        self.layout = flat_layout(self.d)
        self.found: dict[str, float] = {}

    def evaluate(self, x: torch.Tensor) -> dict[str, float]:
        out: dict[str, float] = {}
        for name, known in (("loss", LOSS), ("accuracy", ACCURACY)):
            out |= next(({name: self.found[k]} for k in known if k in self.found), {})
        return out

    @property
    def spec(self) -> dict[str, Any]:
        raise ValueError(f"{self.name} is a Flower app: it cannot be written down as an octolab experiment, nor saved.")
