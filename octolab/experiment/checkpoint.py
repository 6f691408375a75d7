"""Checkpoints: everything that moves in a run, as JSON and tensors, and the run that goes on from them.

A checkpoint holds the server's state, the clients' memory, the ledger, the clock, the jobs under way and the history:
a resumed run is bitwise the uninterrupted one. Types in a file are names that are looked up in the method's own page.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import warnings
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from octolab.arguments import ALLOW, METHOD, PROBLEM, expects, sequence, whole
from octolab.errors import RunFileError
from octolab.experiment import runfile
from octolab.experiment.callbacks.callback import Callback
from octolab.experiment.permission import in_words
from octolab.experiment.record import COUNTED
from octolab.experiment.run import Run, Settings
from octolab.experiment.runfile import read
from octolab.experiment.spec import describe, encode, from_spec
from octolab.experiment.trained import Best
from octolab.federation import Job
from octolab.federation.jobs import Jobs
from octolab.methods import Method
from octolab.payloads import Dense
from octolab.randomness import Scripted

if TYPE_CHECKING:
    from octolab.problems import Problem


class Writer:
    """Turns nested states into JSON plus named tensors; one tensor object is stored once."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._known: dict[int, str] = {}
        self._alive: list[torch.Tensor] = []  # while it is held, nothing else gets its id

    def put(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, torch.Tensor):
            if id(value) not in self._known:
                self._known[id(value)] = key = f"t{len(self.tensors)}"
                self.tensors[key] = value.detach()
                self._alive.append(value)
            return {"tensor": self._known[id(value)]}
        if isinstance(value, np.ndarray):
            key = f"t{len(self.tensors)}"
            self.tensors[key] = torch.from_numpy(np.ascontiguousarray(value))
            return {"array": key}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return {"named": type(value).__name__, "values": [self.put(v) for v in value]}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: self.put(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return {"named": type(value).__name__, "fields": fields}
        if isinstance(value, tuple):
            return {"tuple": [self.put(v) for v in value]}
        if isinstance(value, list):
            return [self.put(v) for v in value]
        if isinstance(value, dict):
            return {"dict": [[self.put(k), self.put(v)] for k, v in value.items()]}
        raise TypeError(
            f"A state holds tensors, numbers, texts, lists, tuples and dicts of them; got {type(value).__name__}."
        )


class Reader:
    """The way back from `Writer`: names of types are looked up in the method's page, and in those it builds on."""

    def __init__(self, tensors: dict[str, torch.Tensor], method: Method):
        self.tensors, self._method = tensors, method

    def get(self, data: Any) -> Any:
        if isinstance(data, list):
            return [self.get(v) for v in data]
        if not isinstance(data, dict):
            return data
        if "tensor" in data:
            return self.tensors[data["tensor"]]
        if "array" in data:
            return self.tensors[data["array"]].numpy()
        if "tuple" in data:
            return tuple(self.get(v) for v in data["tuple"])
        if "dict" in data:
            return {self.get(k): self.get(v) for k, v in data["dict"]}
        kind = self._type(data["named"])
        if not isinstance(kind, type) or not (hasattr(kind, "_fields") or dataclasses.is_dataclass(kind)):
            raise RunFileError(
                f"The run file holds a state {data['named']!r} that the page of {type(self._method).__name__} does not define."
            )
        if "values" in data:
            return kind(*(self.get(v) for v in data["values"]))
        return kind(**{k: self.get(v) for k, v in data["fields"].items()})

    def _type(self, name: str) -> Any:
        pages = [sys.modules[c.__module__] for c in type(self._method).__mro__ if issubclass(c, Method)]
        return next((getattr(page, name) for page in pages if hasattr(page, name)), None)


def snapshot(run: Run) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Everything that moves in a run, as JSON and copied tensors: taken between two steps, whoever steps it."""
    with run.turns.between():
        body, tensors = _snapshot(run)
        return body, {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def _snapshot(run: Run) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    fed, writer = run.federation, Writer()
    fed.transaction().check()  # what is half written is never saved over a good file
    body = {
        "round": run.round,
        "status": run.status,
        "state": writer.put(run.state),
        "memory": writer.put(dict(fed.memory.items())),
        "ledger": writer.put(fed.ledger.state()),
        "now": fed.now,
        "counters": dict(fed.counters),
        "spent": writer.put(fed.spent),
        "timeline": writer.put(fed.timeline.state()),
        "started": fed.started,
        "randomness": fed.randomness.state(),
        "script": writer.put(fed.randomness.given) if isinstance(fed.randomness, Scripted) else None,
        "record": writer.put(run.recorder.state()),
        "jobs": _put_jobs(fed.jobs, writer, run.method) if fed.asynchronous else None,
    }
    if any(fed.kept.values()):
        body["kept"] = writer.put(fed.kept)
    if run._best is not None:
        body["best"] = writer.put(run._best.state())
    if out := fed.out | fed.memory.missing:
        body["out"] = sorted(out)
    return body, writer.tensors


def _put_jobs(jobs: Jobs, writer: Writer, method: Method) -> dict[str, Any]:
    alive = [job for client in jobs.current for job in ([client] if client is not None else [])]
    return {
        "counts": list(jobs.counts),
        "holds": writer.put(list(jobs.holds)),
        "typical": dict(jobs.typical),
        "version": jobs.version,
        "lost": jobs.lost,
        "jobs": [_put_job(job, writer, method) for job in alive],
    }


def _put_job(job: Job, writer: Writer, method: Method) -> dict[str, Any]:
    payload = writer.put(job.payload.dense()) if job.evaluated else None
    return {
        "client": job.client,
        "number": job.number,
        "fn": job.fn.__name__,
        "down": writer.put(job.down),
        "tag": writer.put(job.tag),
        "work": job.work,
        "sends": job.sends,
        "state": job.state,
        "started": job.started,
        "time": job.time,
        "computed": job.computed,
        "payload": payload,
        **_own_step(job, method),
    }


def restore(run: Run, body: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Run:
    """Put a snapshot into a fresh run of the same method and problem."""
    with in_words("The run's snapshot"):
        fed, reader = run.federation, Reader(tensors, run.method)
        run.round, run.status = int(body["round"]), str(body["status"])
        run.state = reader.get(body["state"])
        for name, value in reader.get(body["memory"]).items():
            fed.memory[name] = value
        fed.out.update(int(client) for client in body.get("out", ()))
        fed.ledger.restore(reader.get(body["ledger"]))
        fed.now, fed.counters, fed.started = body["now"], dict(body["counters"]), bool(body["started"])
        fed.randomness.restore(body["randomness"])
        if body.get("kept") is not None:
            fed.kept = reader.get(body["kept"])
        if body.get("spent") is not None:
            fed.spent = reader.get(body["spent"])
        if body.get("timeline") is not None:
            fed.timeline.restore(reader.get(body["timeline"]))
        run.recorder.restore(reader.get(body["record"]))
        if body.get("best") is not None:
            run._best = run._best or Best.of(run)
            run._best.restore(reader.get(body["best"]))
        if body["jobs"] is not None:
            _get_jobs(fed.jobs, body["jobs"], reader, run.method)
        _check_restored(run)
    if fed.out:
        warnings.warn(
            f"Clients {sorted(fed.out)} stay out of this run: what they remembered was lost with their nodes.",
            RuntimeWarning,
            stacklevel=2,
        )
    return run


def _own_step(job: Job, method: Method) -> dict[str, float]:
    """The step size that a job began with, where a schedule has given the method another one since."""
    lr = getattr(getattr(job.fn, "__self__", None), "lr", None)
    return {"lr": lr} if isinstance(lr, float) and lr != getattr(method, "lr", None) else {}


def _check_restored(run: Run) -> None:
    """What a file says of a run must fit together, or a later step would fail in a stranger's words."""
    fed, rows = run.federation, run.recorder.rows
    columns = [at for at, _ in run.recorder.sparse.values()]
    fits = {
        "rows and round": len(rows) == run.round + 1 and all(len(row) == len(COUNTED) for row in rows),
        "columns": all(
            len(at) == len(what) and all(0 <= a < len(rows) for a in at) for at, what in run.recorder.sparse.values()
        )
        and all(a < b for at in columns for a, b in pairwise(at)),
        "clock": isinstance(fed.now, (int, float)) and math.isfinite(fed.now),
        "ledger": all(fed.ledger.per_client(c).shape == (fed.n,) for c in ("up", "down", "gradients")),
        "clients that stay out": all(0 <= client < fed.n for client in fed.out),
        "model": run.round < 0 or (run.x.shape == (fed.d,) and run.x.dtype == run.problem.dtype),
    }
    wrong = [name for name, good in fits.items() if not good]
    if wrong:
        raise RunFileError(f"The run file's {' and '.join(wrong)} do not fit the run that it describes: it is damaged.")


def _get_jobs(jobs: Jobs, data: dict[str, Any], reader: Reader, method: Method) -> None:
    jobs.counts, jobs.typical = list(data["counts"]), dict(data["typical"])
    jobs.holds = reader.get(data["holds"])
    jobs.version, jobs.lost = data.get("version", -1), data.get("lost", 0)
    for entry in data["jobs"]:
        own = method if entry.get("lr") is None else dataclasses.replace(method, **{"lr": entry["lr"]})
        fn = getattr(own, entry["fn"], None)
        if fn is None:
            raise RunFileError(
                f"The run file names the client function {entry['fn']!r}; {type(method).__name__} has none."
            )
        job = Job(jobs, entry["client"], entry["number"], fn, reader.get(entry["down"]), reader.get(entry["tag"]),
                  entry["work"], entry["sends"])  # fmt: skip
        job.started, job.time, job.computed = entry["started"], entry["time"], entry["computed"]
        if entry["payload"] is not None:
            job.payload = Dense(reader.get(entry["payload"]))
        jobs.put_back(job, entry["state"])


def save(run: Run, path: str | os.PathLike[str]) -> str:
    """Write the run as it stands between two steps; the old file stays whole until the new one is complete."""
    body, tensors = snapshot(run)
    content = {
        "spec": describe(run),
        "body": body,
        "checkpoint_every": run.settings.checkpoint_every,
        "provenance": run.provenance,
    }
    runfile.write(path, content, tensors)
    return str(path)


@expects(problem=PROBLEM, method=METHOD, allow=ALLOW)
def load_run(
    path: str | os.PathLike[str],
    *,
    problem: Problem | None = None,
    method: Method | None = None,
    metrics: Iterable[Any] | None = None,
    allow: Collection[str] = (),
) -> Run:
    """Open a saved run. problem: needed if it was made from given arrays. method: needed if it is not in the catalogue.
    metrics: needed if some are functions of your own.

    Going on (`run.finish()`, or `octolab.resume(path)`) is bitwise the same as never having stopped. A file describes: what
    it may do beyond that is said in allow, out of "write" (its checkpoint), "network" (hub: data), "files" (file: data) and
    "place" (its `on`). RunFileError, in words, for whatever is wrong with it.
    """
    content, tensors = read(path)
    return opened(content, tensors, str(path), problem=problem, method=method, metrics=metrics, allow=allow)


def opened(
    content: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    name: str,
    *,
    problem: Problem | None = None,
    method: Method | None = None,
    metrics: Iterable[Any] | None = None,
    allow: Collection[str] = (),
) -> Run:
    """The run that a file of this name held."""
    spec = content["spec"]
    with in_words(repr(name)):
        run = from_spec(spec, problem=problem, method=method, metrics=metrics, allow=allow)
        if problem is not None and run.problem.spec != spec["problem"]:
            raise RunFileError(
                f"{name!r} was made on another problem: {spec['problem']}; given was {run.problem.spec}."
            )
        if method is not None and (ours := encode(run.given)) != spec["method"]:
            raise RunFileError(f"{name!r} was made by another method: {spec['method']}; given was {ours}.")
        script = content["body"].get("script")
        if script is not None:
            given = Reader(tensors, run.method).get(script)
            run = Run(run.given, run.problem, run.settings, Scripted(seed=run.settings.seed, **given))
        return restore(run, content["body"], tensors)


@expects(
    problem=PROBLEM,
    method=METHOD,
    allow=ALLOW,
    rounds=whole(0),
    checkpoint_every=whole(1),
    callbacks=sequence("a list of callbacks"),
)
def resume(
    path: str | os.PathLike[str],
    *,
    rounds: int | None = None,
    problem: Problem | None = None,
    method: Method | None = None,
    metrics: Iterable[Any] | None = None,
    allow: Collection[str] = (),
    checkpoint_every: int | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Open a saved run and finish it; `rounds` may extend the plan. It goes on writing `path`, as often as before.

    callbacks: see `octolab.run`; they may be others than before. checkpoint_every: another number of rounds between two
    run files. allow, problem, method, metrics: see `load_run`.
    """
    content, tensors = read(path)
    run = opened(content, tensors, str(path), problem=problem, method=method, metrics=metrics, allow=allow)
    every = content.get("checkpoint_every") if checkpoint_every is None else checkpoint_every
    total = run.settings.rounds if rounds is None else rounds
    with in_words(repr(str(path))):
        run.settings = dataclasses.replace(run.settings, rounds=total, checkpoint=str(path), checkpoint_every=every)
    return run.listen(callbacks).finish()


def fork(run: Run, changes: dict[str, Any]) -> Run:
    """A deep copy at this point, with changed settings or hyperparameters. It writes no run file unless `checkpoint` is given."""
    names = {f.name for f in dataclasses.fields(Settings)}
    kept: dict[str, Any] = {"checkpoint": None, "checkpoint_every": None}
    settings = dataclasses.replace(run.settings, **kept | {k: v for k, v in changes.items() if k in names})
    rest = {k: v for k, v in changes.items() if k not in names}
    try:
        method = dataclasses.replace(run.given, **rest)
    except TypeError:
        known = sorted(names | {f.name for f in dataclasses.fields(run.given)})
        raise ValueError(
            f"fork cannot change {', '.join(f'{k}={v!r}' for k, v in rest.items())}: it can change {', '.join(known)}."
        ) from None
    twin = Run(method, run.problem, settings, randomness=_twin(run))
    body, tensors = snapshot(run)
    return restore(twin, body, tensors)


def _twin(run: Run) -> Scripted | None:
    source = run.federation.randomness
    return Scripted(seed=source.seed, **source.given) if isinstance(source, Scripted) else None
