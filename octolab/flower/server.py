"""octolab's ServerApp: a run on the Grid that Flower hands over, with checkpoints, a history, and reports while it goes.

In a deployment this is where the federation lives. Whoever started the run follows it through the ServerApp's log: with
`report` each row of the history is a line there, and so, at the end, is the run file. No other connection is needed.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import sys
import tempfile
import warnings
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from octolab.arguments import METHOD, PROBLEM, Fact, expects, function
from octolab.errors import OctolabError
from octolab.flower.app_config import checked, configured, problem_of
from octolab.flower.connected_nodes import NodeError
from octolab.flower.connection import Connection
from octolab.flower.messages import DataHook, hooked
from octolab.flower.world import FlowerWorld
from octolab.notation import from_json

if TYPE_CHECKING:
    from octolab.experiment.run import Run
    from octolab.methods.method import Method

MARK = "octolab:"  # what a report's line starts with
PIECE = 48_000  # characters of a run file per line


@dataclass(frozen=True)
class OnGrid(FlowerWorld):
    """A Grid that Flower has handed over."""

    grid: Any = None

    def join(self, run: Run) -> GridConnection:
        self.check(run)
        return GridConnection(self, run)


class GridConnection(Connection):
    pause = 0.1

    def start(self) -> Any:
        return self.at.grid  # type: ignore[attr-defined]

    def close(self) -> None:
        """The nodes end with Flower's run."""


SPEC = Fact(
    lambda v: isinstance(v, dict) and {"method", "problem", "settings"} <= set(v),
    "run.spec, a dict with method, problem and settings",
)


@expects(
    spec=SPEC,
    problem=PROBLEM | function("a function that gives a node's problem"),
    method=METHOD,
)
def server_app(spec: dict[str, Any], problem: DataHook | None = None, method: Method | None = None) -> ServerApp:
    """A Flower ServerApp that does one octolab run; see `serve`."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        serve(grid, context, spec, problem=problem, method=method)

    return app


@expects(
    spec=SPEC,
    problem=PROBLEM | function("a function that gives a node's problem"),
    method=METHOD,
)
def serve(
    grid: Grid,
    context: Context,
    spec: dict[str, Any],
    *,
    problem: DataHook | None = None,
    method: Method | None = None,
) -> Run:
    """Do one run on Flower's nodes.

    spec: a run's spec (method, problem, settings). problem: None (from the spec) or the data hook (see `DataHook`), which
    is called with client=None on the server. method: None (from the spec), or one that is not in octolab's catalogue.
    The run config may change settings and hyperparameters (`octolab.flower.app_config`); its `checkpoint` names a file
    that is written every `checkpoint-every` rounds and from which the run goes on if it is there already.
    """
    report = _Report() if context.run_config.get("report") is True else None
    try:
        config = checked(context.run_config)
        chosen = configured(method or from_json(spec["method"]), context.run_config)
        run = prepare(grid, config, spec, problem, chosen)
        run.finish(report or _told)
    except Exception as error:
        if report:
            report.failed(error)
        raise
    _keep(run, config["out"])
    if report:
        report.end(run)
    elif run.error is not None:
        print(f"{run.status}: {run.error}", flush=True)
        if run.status == "stalled":  # so that Flower's own record does not call it a success
            raise run.error
    return run


OWN = ("network", "files")
"""An app is its user's own: it may load the data that its spec names."""


def prepare(grid: Grid, config: dict[str, Any], spec: dict[str, Any], problem: DataHook | None, method: Method) -> Run:
    """The run that a spec and a run config ask for, gone on from its checkpoint if there is one."""
    from octolab.experiment.checkpoint import read, restore
    from octolab.experiment.spec import from_spec

    place = OnGrid(
        wire=config["wire"],
        timeout=float(config["timeout"]),
        patience=float(config["patience"]),
        least=config["least"] or None,
        grid=grid,
    )
    settings = dict(spec["settings"])
    settings |= {"rounds": config["rounds"]} if config["rounds"] else {}
    settings |= {"seed": config["seed"]} if config["seed"] >= 0 else {}
    clients = config["clients"] or spec["clients"]
    given = problem_of(spec["problem"], clients) if problem is None else hooked(problem, None, clients)
    path = config["checkpoint"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = from_spec({**spec, "settings": settings}, problem=given, method=method, allow=OWN)
        every = config["checkpoint-every"] or None
        changed = dataclasses.replace(start.settings, on=place, checkpoint=path or None, checkpoint_every=every)
        run = type(start)(start.given, start.problem, changed)
    if path and os.path.exists(path):
        data, tensors = read(path)
        _same_experiment(path, data["spec"], run.spec)
        restore(run, data["body"], tensors)
    elif "start" in spec:
        data, tensors = _unpacked(spec["start"])
        restore(run, data["body"], tensors)
    run.status = "new"
    return run


def _same_experiment(path: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    for part in ("method", "problem"):
        if theirs[part] != ours[part]:
            raise ValueError(
                f"checkpoint={path!r} belongs to another experiment: its {part} is {theirs[part]}, this app's is "
                f"{ours[part]}. Name another file, or remove this one."
            )


def _unpacked(text: str) -> Any:
    """A run file out of its base64."""
    from octolab.experiment.checkpoint import read

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "start.octo")
        with open(path, "wb") as file:
            file.write(base64.b64decode(text))
        return read(path)


def packed(run: Run) -> str:
    """A run file as base64."""
    with tempfile.TemporaryDirectory() as folder:
        path = run.save(os.path.join(folder, "run.octo"))
        with open(path, "rb") as file:
            return base64.b64encode(file.read()).decode()


def _keep(run: Run, folder: str) -> None:
    """history.csv, traffic.csv and the run file in a folder of the server's."""
    if not folder:
        return
    os.makedirs(folder, exist_ok=True)
    run.history.to_csv(os.path.join(folder, "history.csv"), index=False)
    assert isinstance(run.world, Connection)
    run.world.traffic.table().to_csv(os.path.join(folder, "traffic.csv"), index=False)
    try:
        run.save(os.path.join(folder, "run.octo"))
    except NodeError as error:
        print(f"No run file was written: {error}", flush=True)


def _told(run: Run) -> None:
    """One line per round, for people."""
    last = run.recorder.last
    numbers = [f"{name} {last[name]:.6g}" for name in ("loss", "grad_norm_sq", "accuracy") if name in last]
    where, what = run.recorder.sparse.get("nodes", ([], []))
    if where and where[-1] == len(run.recorder.rows) - 1:
        numbers.append(str(what[-1]))
    print(f"round {run.round} of {run.settings.rounds}: {', '.join(numbers)}", flush=True)


class _Report:
    """Lines for the one who follows: each row once, then the end with the run file."""

    def __init__(self) -> None:
        self._done = 0

    def __call__(self, run: Run) -> None:
        rows, sparse = run.recorder.rows, run.recorder.sparse
        for k in range(self._done, len(rows)):
            extra = {}
            for name, (where, what) in sparse.items():
                at = bisect_left(where, k)
                if at < len(where) and where[at] == k:
                    extra[name] = what[at]
            self.line({"at": k, "row": list(rows[k]), "also": extra})
        self._done = len(rows)

    def end(self, run: Run) -> None:
        self(run)
        assert isinstance(run.world, Connection)
        error = None if run.error is None else str(run.error)
        told = {"end": run.status, "error": error, "traffic": run.world.traffic.rows}
        try:
            file = packed(run)
        except OctolabError as problem:
            self.line({**told, "note": str(problem), "pieces": 0})
            return
        pieces = [file[a : a + PIECE] for a in range(0, len(file), PIECE)]
        for piece in pieces:
            self.line({"piece": piece})
        self.line({**told, "pieces": len(pieces)})

    def failed(self, error: Exception) -> None:
        self.line({"end": "failed", "error": str(error), "kind": type(error).__name__, "pieces": 0})

    def line(self, what: dict[str, Any]) -> None:
        sys.stdout.write(f"{MARK}{json.dumps(what, default=_plain)}\n")
        sys.stdout.flush()


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
