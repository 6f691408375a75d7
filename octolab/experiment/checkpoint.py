"""Run files: one safetensors file with a JSON header, written atomically, checked on reading, never a pickle.

A checkpoint holds the server's state, the clients' memory, the ledger, the clock, the jobs under way and the history:
a resumed run is bitwise the uninterrupted one. Types in a file are names that are looked up in the method's own page.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from typing import Any

import numpy as np
import torch

from octolab.errors import RunFileError
from octolab.experiment.run import Run, Settings
from octolab.experiment.spec import describe, from_spec
from octolab.federation import Job
from octolab.federation.jobs import Jobs
from octolab.payloads import Dense

FORMAT = "octolab-run"
VERSION = 1


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
    def __init__(self, tensors: dict[str, torch.Tensor], page: Any):
        self.tensors, self.page = tensors, page

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
        kind = getattr(self.page, data["named"], None)
        if not isinstance(kind, type) or not (hasattr(kind, "_fields") or dataclasses.is_dataclass(kind)):
            raise RunFileError(
                f"The run file holds a state {data['named']!r} that {self.page.__name__} does not define."
            )
        if "values" in data:
            return kind(*(self.get(v) for v in data["values"]))
        return kind(**{k: self.get(v) for k, v in data["fields"].items()})


def snapshot(run: Run) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Everything that moves in a run, as JSON and copied tensors: taken between two steps, whoever steps it."""
    with run.turns.between():
        body, tensors = _snapshot(run)
        return body, {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def _snapshot(run: Run) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    fed, writer = run.federation, Writer()
    body = {
        "round": run.round,
        "status": run.status,
        "state": writer.put(run.state),
        "memory": writer.put(dict(fed.memory.items())),
        "ledger": writer.put(fed.ledger.state()),
        "now": fed.now,
        "counters": dict(fed.counters),
        "started": fed.started,
        "randomness": fed.randomness.state(),
        "record": writer.put(run.recorder.state()),
        "jobs": None if fed._jobs is None else _put_jobs(fed._jobs, writer),
    }
    return body, writer.tensors


def _put_jobs(jobs: Jobs, writer: Writer) -> dict[str, Any]:
    alive = [job for client in jobs.current for job in ([client] if client is not None else [])]
    return {
        "counts": list(jobs.counts),
        "holds": writer.put(list(jobs.holds)),
        "typical": dict(jobs.typical),
        "jobs": [_put_job(job, writer) for job in alive],
    }


def _put_job(job: Job, writer: Writer) -> dict[str, Any]:
    payload = None if job._payload is None else writer.put(job._payload.dense())
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
    }


def restore(run: Run, body: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Run:
    """Put a snapshot into a fresh run of the same method and problem."""
    fed, reader = run.federation, Reader(tensors, sys.modules[type(run.method).__module__])
    run.round, run.status = body["round"], body["status"]
    run.state = reader.get(body["state"])
    for name, value in reader.get(body["memory"]).items():
        fed.memory[name] = value
    fed.ledger.restore(reader.get(body["ledger"]))
    fed.now, fed.counters, fed.started = body["now"], dict(body["counters"]), body["started"]
    fed.randomness.restore(body["randomness"])
    run.recorder.restore(reader.get(body["record"]))
    if body["jobs"] is not None:
        _get_jobs(fed.jobs, body["jobs"], reader, run.method)
    return run


def _get_jobs(jobs: Jobs, data: dict[str, Any], reader: Reader, method: Any) -> None:
    jobs.counts, jobs.typical = list(data["counts"]), dict(data["typical"])
    jobs.holds = reader.get(data["holds"])
    for entry in data["jobs"]:
        fn = getattr(method, entry["fn"], None)
        if fn is None:
            raise RunFileError(
                f"The run file names the client function {entry['fn']!r}; {type(method).__name__} has none."
            )
        job = Job(jobs, entry["client"], entry["number"], fn, reader.get(entry["down"]), reader.get(entry["tag"]),
                  entry["work"], entry["sends"])  # fmt: skip
        job.started, job.time, job.computed = entry["started"], entry["time"], entry["computed"]
        if entry["payload"] is not None:
            job._payload = Dense(reader.get(entry["payload"]))
        jobs.put_back(job, entry["state"])


def _digest(text: str, tensors: dict[str, torch.Tensor]) -> str:
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(
            tensors[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensors[name].numel() else b""
        )
    return sha.hexdigest()


def save(run: Run, path: str | os.PathLike) -> str:
    """Write the run; the old file stays whole until the new one is complete."""
    from safetensors.torch import save as pack

    body, tensors = snapshot(run)
    text = json.dumps({"spec": describe(run), "body": body})
    header = {"format": FORMAT, "version": str(VERSION), "json": text, "sha256": _digest(text, tensors)}
    data = pack(tensors or {"empty": torch.zeros(1)}, header)
    folder = os.path.dirname(os.path.abspath(path))
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".octolab-")
    except OSError as error:
        raise ValueError(
            f"{str(path)!r} cannot be written: {error.strerror}. Choose a folder you can write to."
        ) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    return str(path)


def read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The JSON and the tensors of a run file, after its checks."""
    from safetensors import SafetensorError, safe_open

    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no run file {str(path)!r}.")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            # copied, because the file's buffer is not aligned like torch's own memory, and BLAS may round differently there
            tensors = {k: file.get_tensor(k).clone() for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise RunFileError(
            f"{str(path)!r} is not a readable run file ({error}): it is damaged or something else."
        ) from None
    if header.get("format") != FORMAT:
        raise RunFileError(f"{str(path)!r} is a safetensors file, but not one that octolab wrote.")
    if header.get("version") != str(VERSION):
        raise RunFileError(
            f"{str(path)!r} has run-file version {header.get('version')}; this octolab reads version {VERSION}."
        )
    tensors.pop("empty", None)
    if _digest(header["json"], tensors) != header["sha256"]:
        raise RunFileError(f"{str(path)!r} is damaged: its checksum does not match. Use an older checkpoint.")
    return json.loads(header["json"]), tensors


def load_run(path: str | os.PathLike, *, problem: Any = None, method: Any = None) -> Run:
    """Open a saved run. problem: needed if it was made from given arrays. method: needed if it is not in the catalogue.

    Going on (`run.finish()`, or `octolab.resume(path)`) is bitwise the same as never having stopped.
    """
    data, tensors = read(path)
    run = from_spec(data["spec"], problem=problem, method=method)
    theirs = data["spec"]["problem"]
    if problem is not None and run.problem.spec != theirs:
        raise RunFileError(f"{str(path)!r} was made on another problem: {theirs}; given was {run.problem.spec}.")
    return restore(run, data["body"], tensors)


def resume(path: str | os.PathLike, *, rounds: int | None = None, problem: Any = None, method: Any = None) -> Run:
    """Open a saved run and finish it; `rounds` may extend the plan."""
    run = load_run(path, problem=problem, method=method)
    if rounds is not None:
        run.settings = dataclasses.replace(run.settings, rounds=rounds)
    return run.finish()


def fork(run: Run, changes: dict[str, Any]) -> Run:
    """A deep copy at this point, with changed settings or hyperparameters."""
    names = {f.name for f in dataclasses.fields(Settings)}
    settings = dataclasses.replace(run.settings, **{k: v for k, v in changes.items() if k in names})
    rest = {k: v for k, v in changes.items() if k not in names}
    try:
        method = dataclasses.replace(run.given, **rest)
    except TypeError:
        known = sorted(names | {f.name for f in dataclasses.fields(run.given)})
        raise ValueError(f"fork cannot change {sorted(rest)}: it can change {', '.join(known)}.") from None
    twin = Run(method, run.problem, settings, randomness=_twin(run, settings))
    body, tensors = snapshot(run)
    return restore(twin, body, tensors)


def _twin(run: Run, settings: Settings) -> Any:
    source = run.federation.randomness
    if source.scripts():
        return type(source)(seed=source.seed, **source._given)  # type: ignore[attr-defined]
    return None
