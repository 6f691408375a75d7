"""Asynchronous work: one client starts, the next arrival in virtual time comes back, a job can be cancelled.

Rules that make trajectories reproducible: a job's gradient is taken at the point it was sent (a snapshot reference);
it is evaluated when its result is first read, so ignored and cancelled jobs cost nothing; its randomness is keyed by
(seed, client, the client's job number); ties are ordered by (time, client).

A device that drops out or hangs never answers. With `Fleet(timeout=)` the server gives such a job up after so many
virtual seconds and starts the device anew, with the same task; without, that device is lost to the run.
"""

from __future__ import annotations

import heapq
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from octolab.errors import AssumptionWarning, ClientAway, NothingUnderWay
from octolab.federation import timeline
from octolab.fleets.fleet import Hang
from octolab.fleets.recorded import Recorded
from octolab.payloads import Payload
from octolab.randomness import JOB

if TYPE_CHECKING:
    from octolab.federation.federation import Federation

RUNNING, UPLOADING, ARRIVED, LOST, CANCELLED = "running", "uploading", "arrived", "lost", "cancelled"
CLIPPED = "clipped"  # a job that a limit ends before it is done
NEVER = float("inf")

BLOCK = 16  # job times drawn at once
PATIENCE = 100  # jobs per client that may be given up in a row before the run ends with a sentence


class Job:
    """A client's job. `result` is the reply, evaluated at first read; `tag` is what the server noted at the start."""

    __slots__ = (
        "_jobs",
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
        self, jobs: Jobs, client: int, number: int, fn: Callable, down: tuple, tag: Any, work: float, sends: int | None
    ):
        self._jobs, self.client, self.number, self.fn, self.down = jobs, client, number, fn, down
        self.tag, self.work, self.sends = tag, work, sends
        self._payload: Payload | None = None
        self.entry: int | None = None  # its number in the timeline
        self.state = RUNNING
        self.computed = 0.0
        self.started: float
        self.time: float

    def __repr__(self) -> str:
        return f"Job(client={self.client}, number={self.number}, tag={self.tag!r}, {self.state}, time={self.time:g})"

    @property
    def clipped(self) -> bool:
        """Whether its time was up before it was done: there is no result."""
        return self.state is CLIPPED

    @property
    def evaluated(self) -> bool:
        """Whether the reply has been read, or computed on a device."""
        return self._payload is not None

    @property
    def payload(self) -> Payload:
        if self._payload is None:
            self._jobs.evaluate(self)
        return self._payload  # type: ignore[return-value]

    @payload.setter
    def payload(self, payload: Payload) -> None:
        self._payload = payload

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
        self.version = -1  # the newest version of the model that was handed out, where tags are versions
        self.lost = 0  # jobs that will never answer
        self.given_up = 0  # in a row, with no arrival between
        self.away: Job | None = None  # the job whose client could not be reached
        self.missed = 0  # jobs put off since the last that was evaluated
        self.times: dict[int, tuple[tuple[int, float], list[float]]] = {}  # drawn job times, by client
        self.typical: dict[str, int] = {}  # bits of one reply, by function, once seen
        self._step = fed._step
        self._undo_submit, self._undo_next = self._unsubmitted, self._not_arrived  # bound once: one event is 4 us
        fleet = fed.fleet
        self.record = fleet if isinstance(fleet, Recorded) else None  # a replay: ends are given
        self.lossless = bool(np.all(np.asarray(fleet.dropout) == 0))
        self.timeout = fleet.timeout
        self.links = bool(np.any(np.asarray(fleet.up) < np.inf) or np.any(np.asarray(fleet.latency) > 0))
        plain = fleet.jitter is None and self.lossless and np.all(np.asarray(fleet.down) == np.inf)
        self.seconds: list[float] | None = None  # constant compute times: no random number to draw
        if (
            plain
            and self.record is None
            and not self.links
            and not fleet.waits
            and fed.spent is None
            and self.timeout == NEVER
            and not fed.randomness.scripts("times")
        ):
            self.seconds = np.broadcast_to(np.asarray(fleet.seconds, dtype=float), (fed.n,)).tolist()
        if self.timeout == NEVER and not (self.lossless and not isinstance(fleet.jitter, Hang)):
            warnings.warn(
                "Devices of this fleet drop out, and nobody starts them anew: each lost job removes its device for good. "
                "Give Fleet(timeout=seconds), after which the server gives a job up.",
                AssumptionWarning,
                stacklevel=4,
            )

    def submit(
        self,
        client: int,
        fn: Callable[..., Any],
        *down: Any,
        tag: Any = None,
        work: float = 1.0,
        sends: int | None = None,
        limit: float = NEVER,
    ) -> Job:
        """See `Federation.submit`."""
        counts, fed = self.counts, self.fed
        number = counts[client]
        job = Job(self, client, number, fn, down, tag, work, sends)
        now = fed.now
        point = down[0] if down else None
        held, bits = self.holds[client], 0.0
        if held is not point:
            bits = fed.size_of(down) + fed.beside
        if self._step.open:
            self._step._undo.append(
                (self._undo_submit, (client, self.current[client], held, bits, self.version, self.lost))
            )
        if held is not point:
            self.holds[client] = point
            fed.ledger.add_one("down", bits, client)
        counts[client] = number + 1
        self.current[client] = job
        job.started = now
        if type(tag) is int and tag > self.version:
            self.version = tag
        if self.record is not None:
            finish, given_up = self.record.end(client, number)
            if given_up:
                self._never(job, finish)
                return job
        elif self.seconds is not None:
            finish = now + work * self.seconds[client]
        else:
            finish = now + self._duration(client, number, work, bits)
        job.time = finish
        if finish - now > limit:
            job.state, job.time = CLIPPED, now + limit
            heapq.heappush(self.heap, (job.time, client, number, job))
        elif finish - now > self.timeout or finish == NEVER:
            self._never(job)
        else:
            heapq.heappush(self.heap, (finish, client, number, job))
        return job

    def _never(self, job: Job, noticed: float | None = None) -> None:
        """It will not answer; the server notices after the timeout."""
        job.state = LOST
        self.lost += 1
        job.time = job.started + self.timeout if noticed is None else noticed
        if job.time < NEVER:
            heapq.heappush(self.heap, (job.time, job.client, job.number, job))

    def _duration(self, client: int, number: int, work: float, bits: float) -> float:
        fleet, source = self.fed.fleet, self.fed.fleet_randomness
        if not self.lossless:
            lost = fleet.lost(np.array([client]), number, source, JOB)
            if lost is not None and lost[0]:
                return NEVER
        receive = (bits / fleet.of("down", client) + fleet.of("latency", client)) if bits else 0.0
        busy = self._compute(client, number, work)
        if self.fed.spent is not None and not self._powered(client, busy):
            return NEVER
        if fleet.waits:
            busy = float(fleet.passed(np.array([client]), self.fed.now + receive, np.array([busy]))[0])
        return float(receive + busy)

    def _powered(self, client: int, busy: float) -> bool:
        """Whether the client's battery lets it start; what the job's computing takes is spent."""
        fed = self.fed
        if fed.spent[client] >= np.broadcast_to(fed.fleet.budget, (fed.n,))[client]:  # type: ignore[index]
            return False
        fed._spend(np.array([client]), fed.fleet.energy(client, busy if busy < NEVER else 0.0, 0.0))
        return True

    def _compute(self, client: int, number: int, work: float) -> float:
        """Seconds of compute of a client's job; random ones are drawn for `BLOCK` jobs of the client at once."""
        fleet, source = self.fed.fleet, self.fed.fleet_randomness
        if fleet.jitter is None or source.scripts("times"):
            return float(fleet.compute(work, np.array([client]), number, source, JOB)[0])
        block, place = divmod(number, BLOCK)
        held = self.times.get(client)
        if held is None or held[0] != (block, work):
            held = self.times[client] = ((block, work), fleet.job_times(client, block, BLOCK, work, source))
        return held[1][place]

    def next(self) -> Job:
        """See `Federation.next`."""
        heap, fed, links = self.heap, self.fed, self.links
        while heap:
            time, client, _, job = heapq.heappop(heap)
            state = job.state
            if state is CANCELLED:
                continue
            if state is LOST:
                self._give_up(job)
                continue
            if state is CLIPPED:
                return self._clip(job)
            if links and state is RUNNING:
                self._upload(job, time)
                continue
            bits = job.sends if job.sends is not None else self._bits(job)
            if self._step.open:
                self._step._undo.append((self._undo_next, (job, state, bits, self.given_up)))
            if time > fed.now:
                fed.now = time
            job.state = ARRIVED
            self.current[client] = None
            self.given_up = 0
            fed.ledger.answered(client, bits)
            tag = job.tag
            version, delay = (tag, self.version - tag) if type(tag) is int else (-1, -1)
            job.entry = fed.timeline.job(
                client,
                job.started,
                job.computed or time,
                time,
                timeline.IGNORED if job._payload is None else timeline.DONE,
                version,
                delay,
            )
            return job
        raise NothingUnderWay(
            "No job is under way, so nothing can arrive: all were cancelled, or their devices dropped out or hang. "
            "Submit a job first, or use a fleet that answers, or one with a timeout."
        )

    def _clip(self, job: Job) -> Job:
        """Its time is up: it comes back without a reply, and nothing was sent."""
        self._remember(job)
        self.fed.now = max(self.fed.now, job.time)
        self._record(job, job.time, timeline.CANCELLED)
        self.current[job.client] = None
        return job

    def _give_up(self, job: Job) -> None:
        """The server has waited long enough: the device is started anew, with the same task."""
        fed, client = self.fed, job.client
        self._remember(job)
        fed.now = max(fed.now, job.time)
        self._record(job, job.time, timeline.DROPPED)
        self.given_up += 1
        if self.given_up > PATIENCE * fed.n:
            raise NothingUnderWay(
                f"{self.given_up:,} jobs in a row were given up after {self.timeout:g} s: no device answers in time. "
                f"Give the fleet a longer timeout, or devices that answer."
            )
        job.state = CANCELLED
        self.holds[client] = None  # it begins anew: the point is sent again
        self.submit(client, job.fn, *job.down, tag=job.tag, work=job.work, sends=job.sends)

    def _record(self, job: Job, end: float, state: int) -> None:
        """In the timeline: a job that ended without an arrival."""
        age = (job.tag, self.version - job.tag) if type(job.tag) is int else (-1, -1)
        number = self.fed.timeline.job(job.client, job.started, job.computed or end, end, state, *age)
        if self._step.open:
            self._step.note(self.fed.timeline.rewind_jobs, number)

    def _upload(self, job: Job, time: float) -> None:
        """The second stage: computed, now on its way up."""
        fleet, client = self.fed.fleet, job.client
        self._remember(job)
        bits = self._bits(job)
        job.state, job.computed = UPLOADING, time
        job.time = time + fleet.of("latency", client) + bits / fleet.of("up", client)
        if self.fed.spent is not None:
            self.fed._spend(np.array([client]), fleet.energy(client, 0.0, job.time - time))
        if job.time - job.started > self.timeout:
            self._never(job)
        else:
            heapq.heappush(self.heap, (job.time, client, job.number, job))

    def _bits(self, job: Job) -> int:
        """Bits of the reply: measured if it was evaluated, else declared, else as measured before, else evaluate."""
        if job._payload is None and job.sends is None:
            known = self.typical.get(job.fn.__name__)
            if known is None:
                self.evaluate(job)
            else:
                self._remember(job)
                job.sends = known
        return int(job.sends)  # type: ignore[arg-type]

    def evaluate(self, job: Job) -> None:
        fed, client = self.fed, job.client
        try:
            if client in fed.out:
                raise ClientAway(f"Client {client} stays out: what it remembered is lost.")
            fed.problem = fed.objective
            payload, gradients, samples = fed.executor.job(fed, job)
        except ClientAway:
            self.away = job
            raise
        bits = int(payload.bits[0]) + (fed.beside if gradients else 0)
        more = bits - job.sends if job.sends is not None and job.state is ARRIVED else 0  # what was really sent
        self._remember(job)
        if self._step.open:
            self._step.note(self._not_evaluated, job, gradients, samples, more, job.fn.__name__ in self.typical)
        self.missed = 0
        job._payload, job.sends = payload, bits
        if job.entry is not None:
            fed.timeline.settle(job.entry, timeline.DONE)
        fed.ledger.add_one("gradients", gradients, client)
        fed.ledger.add_one("samples", samples, client)
        if more:
            fed.ledger.add_one("up", more, client)
        self.typical.setdefault(job.fn.__name__, bits)
        if fed.attack is not None:
            job._payload = fed.attack_job(payload, client)

    def put_off(self, error: ClientAway) -> None:
        """The client of `away` could not be reached: its job takes as long once more, and others come first."""
        job, fed, self.away = self.away, self.fed, None
        self.missed += 1
        if job is None or self.missed > sum(j is not None for j in self.current):
            raise NothingUnderWay(f"{error} Nobody else answers either: bring a node back and go on.") from error
        self._remember(job)
        if job.entry is not None:  # it had been counted as arrived
            if self._step.open:
                self._step.note(fed.ledger.answered, job.client, job.sends)
            fed.ledger.answered(job.client, job.sends, -1)  # type: ignore[arg-type]
            fed.timeline.settle(job.entry, timeline.DROPPED)
            job.entry = None
        duration, job.state, job.computed = job.time - job.started, RUNNING, 0.0
        job.started, job.time = fed.now, fed.now + duration
        self.current[job.client] = job
        heapq.heappush(self.heap, (job.time, job.client, job.number, job))

    def expect(self, client: int) -> None:
        """See `Federation.expect`."""
        job, fleet = self.current[client], self.fed.fleet
        if job is None or job.state is not LOST:
            return
        always = fleet.of("dropout", client) >= 1 or (fleet.jitter is None and fleet.of("dropout", client) == 0)
        if self.timeout == NEVER or always:
            raise NothingUnderWay(
                f"Client {client} never answers, and the method waits for everybody. Leave it out, give the fleet a timeout "
                f"that lets it answer, or use a method that goes on without it, such as Ringmaster."
            )

    def cancel(self, job: Job) -> None:
        """Nothing is sent; what was on its way up is charged for the part that left."""
        if job.state not in (RUNNING, UPLOADING, LOST, CLIPPED):
            return
        fed, client, now = self.fed, job.client, self.fed.now
        self._remember(job)
        if job.state is UPLOADING:
            whole = job.time - now
            duration = max(1e-300, self._bits(job) / fed.fleet.of("up", client))
            part = int(self._bits(job) * max(0.0, 1 - whole / duration))
            if self._step.open:
                self._step.note(fed.ledger.add_one, "up", -part, client)
            fed.ledger.add_one("up", part, client)
        self._record(job, now, timeline.CANCELLED)
        job.state = CANCELLED
        if self.current[client] is job:
            self.current[client] = None

    # -- a step that is taken back -----------------------------------------------------------------------------------
    def _unsubmitted(self, client: int, before: Job | None, held: Any, bits: float, version: int, lost: int) -> None:
        self.counts[client] -= 1
        self.current[client], self.holds[client], self.version, self.lost = before, held, version, lost
        if bits:
            self.fed.ledger.add_one("down", -bits, client)

    def _not_arrived(self, job: Job, state: str, bits: float, given_up: int) -> None:
        if job.state is ARRIVED:
            self.fed.ledger.answered(job.client, bits, -1)
        if job.entry is not None:
            self.fed.timeline.rewind_jobs(job.entry)
        job.state, job.entry, self.given_up = state, None, given_up
        self.current[job.client] = job

    def _not_evaluated(self, job: Job, gradients: float, samples: float, more: float, known: bool) -> None:
        for column, amount in (("gradients", gradients), ("samples", samples), ("up", more)):
            self.fed.ledger.add_one(column, -amount, job.client)
        if not known:
            self.typical.pop(job.fn.__name__, None)

    def _remember(self, job: Job) -> None:
        """Before a job changes: how it is now, and that it is what its client does."""
        if self._step.open:
            values = (job.state, job.started, job.time, job.computed, job.entry, job.sends, job._payload)
            own = (self.current[job.client], self.holds[job.client], self.lost, self.given_up, self.missed)
            settled = None if job.entry is None else self.fed.timeline.state_of(job.entry)
            self._step.note(self._as_before, job, values, own, settled)

    def _as_before(self, job: Job, values: tuple[Any, ...], own: tuple[Any, ...], settled: int | None) -> None:
        job.state, job.started, job.time, job.computed, job.entry, job.sends, job._payload = values
        self.current[job.client], self.holds[job.client], self.lost, self.given_up, self.missed = own
        if settled is not None:
            self.fed.timeline.settle(job.entry, settled)  # type: ignore[arg-type]

    def requeue(self) -> None:
        """The event queue, made anew from what the clients are doing."""
        self.away = None
        under_way = [job for job in self.current if job is not None and job.time < NEVER]
        self.heap = [(job.time, job.client, job.number, job) for job in under_way]
        heapq.heapify(self.heap)

    def put_back(self, job: Job, state: str) -> None:
        """Restore a job from a checkpoint."""
        job.state = next(s for s in (RUNNING, UPLOADING, LOST, CLIPPED) if s == state)
        self.current[job.client] = job
        if job.time < NEVER:
            heapq.heappush(self.heap, (job.time, job.client, job.number, job))
