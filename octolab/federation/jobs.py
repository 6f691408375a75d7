"""Asynchronous work: one client starts, the next arrival in virtual time comes back, a job can be cancelled.

Rules that make trajectories reproducible: a job's gradient is taken at the point it was sent (a snapshot reference);
it is evaluated when its result is first read, so ignored and cancelled jobs cost nothing; its randomness is keyed by
(seed, client, the client's job number); ties are ordered by (time, client).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from octolab.errors import ClientAway, NothingUnderWay
from octolab.federation import timeline
from octolab.payloads import Payload
from octolab.randomness import JOB

if TYPE_CHECKING:
    from octolab.federation.federation import Federation

RUNNING, UPLOADING, ARRIVED, LOST, CANCELLED = "running", "uploading", "arrived", "lost", "cancelled"


BLOCK = 16  # job times drawn at once


class Job:
    """A client's job. `result` is the reply, evaluated at first read; `tag` is what the server noted at the start."""

    __slots__ = (
        "_board",
        "_payload",
        "client",
        "computed",
        "down",
        "entry",
        "fn",
        "number",
        "sends",
        "started",
        "state",
        "tag",
        "time",
        "work",
    )

    def __init__(
        self, board: Jobs, client: int, number: int, fn: Callable, down: tuple, tag: Any, work: float, sends: int | None
    ):
        self._board, self.client, self.number, self.fn, self.down = board, client, number, fn, down
        self.tag, self.work, self.sends = tag, work, sends
        self._payload: Any = None
        self.entry: int | None = None  # its number in the timeline
        self.state = RUNNING
        self.started = self.time = self.computed = 0.0

    def __repr__(self) -> str:
        return f"Job(client={self.client}, number={self.number}, tag={self.tag!r}, {self.state}, time={self.time:g})"

    @property
    def payload(self) -> Payload:
        if self._payload is None:
            self._board.evaluate(self)
        return self._payload

    @property
    def result(self) -> torch.Tensor:
        """(d,) what the client sent, densely."""
        return self.payload.dense()[0]


class Jobs:
    """The event queue of a federation and the jobs under way."""

    def __init__(self, fed: Federation):
        self.fed = fed
        self.heap: list[tuple[float, int, int, Job]] = []
        self.counts = [0] * fed.n  # jobs started per client
        self.current: list[Job | None] = [None] * fed.n  # what each client is doing
        self.holds: list[Any] = [None] * fed.n  # the point each client holds: sent again only if it changed
        self.away: Job | None = None  # the job whose client could not be reached
        self.missed = 0  # jobs put off since the last that was evaluated
        self.times: dict[int, tuple[tuple[int, float], list[float]]] = {}  # drawn job times, by client
        self.lossless = bool(np.all(np.asarray(fed.fleet.dropout) == 0))
        self.typical: dict[str, int] = {}  # bits of one reply, by function, once seen
        fleet = fed.fleet
        self.links = bool(np.any(np.asarray(fleet.up) < np.inf) or np.any(np.asarray(fleet.latency) > 0))
        plain = (
            fleet.jitter is None and np.all(np.asarray(fleet.dropout) == 0) and np.all(np.asarray(fleet.down) == np.inf)
        )
        self.seconds: list[float] | None = None  # constant compute times: no random number to draw
        if plain and not self.links and not fed.randomness.scripts("times"):
            self.seconds = np.broadcast_to(np.asarray(fleet.seconds, dtype=float), (fed.n,)).tolist()

    def submit(self, client: int, fn: Callable, down: tuple, tag: Any, work: float, sends: int | None) -> Job:
        counts = self.counts
        number = counts[client]
        counts[client] = number + 1
        job = Job(self, client, number, fn, down, tag, work, sends)
        now = self.fed.now
        job.started = now
        self.current[client] = job
        point = down[0] if down else None
        bits = 0.0
        if self.holds[client] is not point:
            self.holds[client] = point
            bits = self.fed.size_of(down)
            self.fed.ledger.add_one("down", bits, client)
        if self.seconds is not None:
            finish = now + work * self.seconds[client]
        else:
            finish = now + self._duration(client, number, work, bits)
        job.time = finish
        if finish == np.inf:
            job.state = LOST
        else:
            heapq.heappush(self.heap, (finish, client, number, job))
        return job

    def _duration(self, client: int, number: int, work: float, bits: float) -> float:
        fleet, source = self.fed.fleet, self.fed.randomness
        if not self.lossless:
            lost = fleet.lost(np.array([client]), number, source, JOB)
            if lost is not None and lost[0]:
                return float("inf")
        receive = (bits / fleet.of("down", client) + fleet.of("latency", client)) if bits else 0.0
        return float(receive + self._compute(client, number, work))

    def _compute(self, client: int, number: int, work: float) -> float:
        """Seconds of compute of a client's job; random ones are drawn for `BLOCK` jobs of the client at once."""
        fleet, source = self.fed.fleet, self.fed.randomness
        if fleet.jitter is None or source.scripts("times"):
            return float(fleet.compute(work, np.array([client]), number, source, JOB)[0])
        block, place = divmod(number, BLOCK)
        held = self.times.get(client)
        if held is None or held[0] != (block, work):
            held = self.times[client] = ((block, work), fleet.job_times(client, block, BLOCK, work, source))
        return held[1][place]

    def next(self) -> Job:
        heap, fed = self.heap, self.fed
        while heap:
            time, client, _, job = heapq.heappop(heap)
            if job.state is CANCELLED:
                continue
            if job.state is RUNNING and self.links:
                self._upload(job, time)
                continue
            if time > fed.now:
                fed.now = time
            job.state = ARRIVED
            self.current[client] = None
            bits = self._bits(job)
            fed.ledger.answered(client, bits)
            state = timeline.IGNORED if job._payload is None else timeline.DONE
            job.entry = fed.timeline.job(client, job.started, job.computed or time, time, state)
            return job
        raise NothingUnderWay(
            "No job is under way, so nothing can arrive: all were cancelled, or their devices dropped out or hang. "
            "Submit a job first, or use a fleet that answers."
        )

    def _upload(self, job: Job, time: float) -> None:
        """The second stage: computed, now on its way up."""
        fleet, client = self.fed.fleet, job.client
        job.state, job.computed = UPLOADING, time
        job.time = time + fleet.of("latency", client) + self._bits(job) / fleet.of("up", client)
        heapq.heappush(self.heap, (job.time, client, job.number, job))

    def _bits(self, job: Job) -> int:
        """Bits of the reply: measured if it was evaluated, else declared, else as measured before, else evaluate."""
        if job._payload is None and job.sends is None:
            known = self.typical.get(job.fn.__name__)
            if known is None:
                self.evaluate(job)
            else:
                job.sends = known
        return int(job.sends)  # type: ignore[arg-type]

    def evaluate(self, job: Job) -> None:
        fed, client = self.fed, job.client
        try:
            if client in fed.out:
                raise ClientAway(f"Client {client} stays out: what it remembered is lost.")
            payload, gradients, samples = fed.executor.job(fed, job)
        except ClientAway:
            self.away = job
            raise
        self.missed = 0
        job._payload = payload
        if job.entry is not None:
            fed.timeline.settle(job.entry, timeline.DONE)
        fed.ledger.add_one("gradients", gradients, client)
        fed.ledger.add_one("samples", samples, client)
        bits = int(payload.bits[0])
        if job.sends is not None and job.sends != bits and job.state is ARRIVED:
            fed.ledger.add_one("up", bits - job.sends, client)  # a data-dependent code: charge what was really sent
        job.sends = bits
        self.typical.setdefault(job.fn.__name__, bits)
        if fed.attack is not None:
            job._payload = fed.attack_job(payload, client)

    def put_off(self, error: ClientAway) -> None:
        """The client of `away` could not be reached: its job takes as long once more, and others come first."""
        job, fed, self.away = self.away, self.fed, None
        self.missed += 1
        if job is None or self.missed > sum(j is not None for j in self.current):
            raise NothingUnderWay(f"{error} Nobody else answers either: bring a node back and go on.") from error
        if job.entry is not None:  # it had been counted as arrived
            fed.ledger.answered(job.client, job.sends, -1)  # type: ignore[arg-type]
            fed.timeline.settle(job.entry, timeline.DROPPED)
            job.entry = None
        duration, job.state, job.computed = job.time - job.started, RUNNING, 0.0
        job.started, job.time = fed.now, fed.now + duration
        self.current[job.client] = job
        heapq.heappush(self.heap, (job.time, job.client, job.number, job))

    def cancel(self, job: Job) -> None:
        """Nothing is sent; what was on its way up is charged for the part that left."""
        if job.state is UPLOADING:
            whole = job.time - self.fed.now
            duration = max(1e-300, self._bits(job) / self.fed.fleet.of("up", job.client))
            self.fed.ledger.add_one("up", int(self._bits(job) * max(0.0, 1 - whole / duration)), job.client)
        if job.state in (RUNNING, UPLOADING, LOST):
            now = self.fed.now
            self.fed.timeline.job(job.client, job.started, job.computed or now, now, timeline.CANCELLED)
            job.state = CANCELLED
            if self.current[job.client] is job:
                self.current[job.client] = None

    def put_back(self, job: Job, state: str) -> None:
        """Restore a job from a checkpoint."""
        job.state = next(s for s in (RUNNING, UPLOADING, LOST) if s == state)
        self.current[job.client] = job
        if job.state is not LOST:
            heapq.heappush(self.heap, (job.time, job.client, job.number, job))
