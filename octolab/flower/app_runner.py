"""An app written for Flower, run inside octolab: its ServerApp and ClientApp as they are, without Ray.

What travels is weighed as it is sent (array elements by their own width, other numbers 64 bits), rounds become steps of an
octolab run, metrics become columns of its history. The app computes in a thread of its own, exactly as Flower calls it;
the run only opens a gate, once per training round, which is how pause and stop reach it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from octolab.arguments import expects, instance, number, path, switch, whole
from octolab.errors import OctolabError
from octolab.experiment.run import FOREVER, Run, Settings
from octolab.federation import Federation
from octolab.flower.app_loader import App, load_app
from octolab.flower.grid import FIRST_NODE, InProcessGrid
from octolab.methods.method import Method
from octolab.problems.problem import Problem, flat_layout

COUNT = ("num-examples", "num_examples")  # what Flower's strategies weigh by
LOSS = ("eval_loss", "loss", "train_loss")
LOOKS = 3  # looks at who is there, with nothing sent between them, that are a loop
WAITING = ("sample_nodes", "wait_for")  # Flower's functions in which an app waits for nodes
ACCURACY = ("eval_acc", "eval_accuracy", "accuracy", "acc")


@expects(
    app=path("a folder with a Flower app") | instance("a pair (server app, client app)", tuple),
    nodes=whole(1),
    config=instance("a dict of run_config", dict),
    patience=number("seconds", ge=0),
    live=switch(),
)
def run_app(
    app: str | os.PathLike | tuple[ServerApp, ClientApp],
    *,
    nodes: int = 10,
    config: dict[str, Any] | None = None,
    patience: float = 20.0,
    live: bool | None = None,
) -> Run:
    """Run a Flower app in this process and return the octolab run: history, ledger, dashboard.

    app: a folder, or (ServerApp, ClientApp). nodes: SuperNodes to play, each with partition-id and num-partitions.
    config: run config in place of the pyproject's, e.g. {"num-server-rounds": 20}. patience: seconds for which an app may
    wait for more nodes than there are. Columns of the history: bits_up and bits_down per node, the ledger's; train_...
    and eval_... metrics, averaged by `num-examples`; loss and accuracy, the evaluation's where there is one.
    """
    from octolab.experiment.progress import watch

    found = load_app(app) if isinstance(app, (str, os.PathLike)) else App(*app)
    if not isinstance(found.server, ServerApp) or not isinstance(found.client, ClientApp):
        raise ValueError(f"app={app!r}: give the folder of a Flower app, or its (ServerApp, ClientApp).")
    wrong = set(config or {}) - set(found.config)
    if wrong and found.config:
        raise ValueError(f"config names {sorted(wrong)}: this app's run config has {', '.join(sorted(found.config))}.")
    relay = Relay(found, nodes, {**found.config, **(config or {})}, patience)
    x = relay.begin()
    run = AppRun(FlowerApp(relay), _Carried(found.name, nodes, x, relay), Settings(rounds=FOREVER, evaluate_every=1))
    run.name, relay.owner = found.name, run
    return watch(run, live)


class AppRun(Run):
    """The run of a Flower app: what it does is the app's own business, so no file can hold how to go on."""

    @property
    def spec(self) -> dict[str, Any]:
        raise ValueError(self._refusal("has no spec"))

    def save(self, path: str | os.PathLike) -> str:
        raise ValueError(self._refusal(f"cannot be saved as {str(path)!r}"))

    def fork(self, **changes: Any) -> Run:
        raise ValueError(self._refusal("cannot be forked"))

    def export_flower_app(self, folder: str | os.PathLike, *, replace: bool = False) -> str:
        raise ValueError(self._refusal("is exported by copying the folder it came from"))

    def _refusal(self, what: str) -> str:
        return (
            f"This is the run of a Flower app ({self.name}), whose state is inside its own code: it {what}. Keep what it has "
            f"found, run.history.to_csv('history.csv') and numpy.save('model.npy', run.x), and to go further run the app "
            f"again with more rounds: ol.flower.run_app(..., config=...)."
        )


class Relay(InProcessGrid):
    """A grid that stops the app before every training round until the run lets it go on, and weighs what it sends."""

    def __init__(self, app: App, nodes: int, config: dict[str, Any], patience: float = 20.0):
        super().__init__(app.client, nodes, config)
        self.server, self.config, self.patience = app.server, config, patience
        self._thread = threading.Thread(target=self._work, daemon=True, name="octolab-flower-app")
        self._looks = 0  # how often the app has looked who is there since it last sent something
        self._given_up = False
        self.owner: Run | None = None
        self.sent: list[tuple[int, float, float]] = []  # (client, bits down, bits up) since the last step
        self.metrics: dict[str, list[tuple[float, float]]] = {}  # name -> (value, weight) since the last step
        self.found: dict[str, float] = {}  # the metrics of the last step
        self.x = torch.zeros(0)
        self.ended = False
        self.error: BaseException | None = None
        self._gate, self._one = threading.Condition(), threading.Lock()
        self._waiting, self._open = False, False
        self._group: str | None = None

    # -- the run's side --------------------------------------------------------------------------------------------
    def begin(self) -> torch.Tensor:
        """Start the ServerApp and wait until it wants to train; returns its first model (d,)."""
        self._thread.start()
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
        since: float | None = None
        with self._gate:
            while not self._gate.wait_for(lambda: self._waiting or self.ended, timeout=0.2):
                since = (since or time.monotonic()) if self._only_looks() else None
                if since is not None and time.monotonic() - since > self.patience:
                    self._given_up = True  # its next look ends it
                    raise OctolabError(self._in_vain())
        if self.error is not None:
            raise OctolabError(f"The Flower app failed: {type(self.error).__name__}: {self.error}") from self.error

    def _only_looks(self) -> bool:
        """Whether the app does nothing but look for more nodes, in a loop or in Flower's older client manager."""
        return self._looks >= LOOKS or "num_clients" in self._wanted()

    def _wanted(self) -> dict[str, int]:
        """How many nodes Flower's own functions wait for in the app's thread, by the name they have for it."""
        frame, found = sys._current_frames().get(self._thread.ident or 0), dict[str, int]()
        while frame is not None:
            if frame.f_code.co_name in WAITING:
                found |= {k: v for k, v in frame.f_locals.items() if k in ("num_clients", "min_available_nodes")}
            frame = frame.f_back
        return found

    def _in_vain(self) -> str:
        nodes, wanted = len(self.contexts), max(self._wanted().values(), default=None)
        more = f"{wanted} nodes" if wanted else f"more than {nodes} nodes"
        return (
            f"The Flower app has done nothing for {self.patience:g} s but look for nodes: it waits for {more}, and there are "
            f"{nodes} (Flower's strategies want min_available_nodes=2 unless told otherwise). Give "
            f"run_app(..., nodes={wanted or nodes + 1}), or let the app start with fewer."
        )

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

    def get_node_ids(self) -> Iterable[int]:
        if threading.current_thread() is self._thread:
            self._looks += 1
            if self._given_up:
                raise OctolabError("octolab waits no longer for an app that waits for more nodes than there are.")
        return super().get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self._looks = 0
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

    relay: Relay = dataclasses.field(repr=False, kw_only=False)

    def __repr__(self) -> str:
        return "FlowerApp()"

    def check(self, problem: Problem) -> None:
        """Whatever the app is, it runs on what it brings along."""

    def init(self, fed: Federation) -> State:
        return State(x=self.relay.x)

    def step(self, fed: Federation, s: State) -> State:
        relay = self.relay
        relay.one_round()
        sent, metrics = relay.take()
        for client, down, up in sent:
            for column, amount in (("down", down), ("up", up), ("paper_up", up)):
                fed.ledger.add_one(column, amount, client)
        for client in {client for client, _, _ in sent}:
            fed.ledger.add_one("replies", 1, client)
        fed.log(**{k: v for k, v in metrics.items() if k not in ("loss", "accuracy")})
        relay.found = metrics
        if relay.ended and relay.owner is not None:  # the app is done: so is the plan
            relay.owner.settings = dataclasses.replace(relay.owner.settings, rounds=relay.owner.round + 1)
        return State(x=relay.x)


class _Carried(Problem):
    """What an app minimises is its own business: nodes, a model, and the metrics that it reports."""

    def __init__(self, name: str, nodes: int, x: torch.Tensor, relay: Relay):
        self.name, self.n, self.d, self.dtype, self.x0 = name, nodes, len(x), x.dtype, x
        self.sizes = np.ones(nodes, dtype=np.int64)
        self.weights = torch.full((nodes,), 1 / nodes, dtype=torch.float64)
        self.layout = flat_layout(self.d)
        self._relay = relay

    def evaluate(self, x: torch.Tensor) -> dict[str, float]:
        out: dict[str, float] = {}
        found = self._relay.found
        for name, known in (("loss", LOSS), ("accuracy", ACCURACY)):
            out |= next(({name: found[k]} for k in known if k in found), {})
        return out
