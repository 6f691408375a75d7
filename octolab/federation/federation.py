"""A federation you can call: clients, their links and clocks, and an exact ledger.

Two pairs of verbs that mirror `concurrent.futures`:

    fed.call(fn, *down, to=cohort) -> Replies      every client of the cohort runs fn; a barrier
    fed.submit(client, fn, *down, tag=...) -> Job  one client starts;  fed.next() -> the next arrival;  fed.cancel(job)

A method never loops over clients and never touches the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from octolab.arguments import FLEET, PROBLEM, SEED, expects, like, number, whole
from octolab.errors import NonFinite
from octolab.federation.attack import Attack, AttackContext
from octolab.federation.cohort import Cohort
from octolab.federation.executor import Each, Evaluates, Executor, Result
from octolab.federation.jobs import Job, Jobs
from octolab.federation.ledger import Ledger
from octolab.federation.memory import Memory
from octolab.federation.replies import Replies
from octolab.federation.rule import RuleContext, suspicion
from octolab.federation.sampling import Nice, Sampler, as_sampler, draw_online
from octolab.federation.timeline import DONE, DROPPED, LATE, Timeline
from octolab.federation.transaction import Transaction
from octolab.fleets.availability import PATIENCE, Availability
from octolab.fleets.fleet import Fleet, Hang
from octolab.payloads import Dense, Payload
from octolab.randomness import SERVER, Randomness

if TYPE_CHECKING:
    from octolab.compressors import Compressor
    from octolab.problems import Problem


class Federation:
    """n clients with a problem, a fleet, randomness and a ledger.

    problem: what is minimised. fleet: speeds, links, drop-outs. randomness: a seed, a `Randomness` or `Scripted`.
    deadline: seconds after which a call stops waiting. attack: who lies, and how. executor: "auto", "stacked" (the
    whole cohort in one pass), "loop" (one client at a time), the number of clients per pass, or an object that runs
    client functions elsewhere (see `Executor`: `run` and `job`).
    """

    @expects(
        problem=PROBLEM,
        fleet=FLEET,
        randomness=SEED | like("ol.Randomness(seed) or ol.Scripted(...)", "draws"),
        deadline=number("seconds", gt=0, infinite=True),
        attack=like("an attack from ol.attacks", "check", "data"),
        threads=whole(1),
    )
    def __init__(
        self,
        problem: Problem,
        *,
        fleet: Fleet | None = None,
        randomness: Randomness | int = 0,
        x0: torch.Tensor | None = None,
        deadline: float | None = None,
        attack: Attack | None = None,
        executor: Evaluates | str | int = "auto",
        threads: int | None = None,
        fleet_seed: int | None = None,
    ):
        self.given, self.n, self.d = problem, problem.n, problem.d
        if attack is not None:
            attack.check(self.n)
        self.problem = problem if attack is None else attack.data(problem)
        """What the clients train on: the problem, unless an attack has changed the data of some."""
        self.fleet = fleet or Fleet()
        self.fleet.check(self.n)
        self.randomness = randomness if isinstance(randomness, Randomness) else Randomness(randomness)
        self.fleet_randomness = self.randomness if fleet_seed is None else Randomness(fleet_seed)
        """What delays and drop-outs are drawn from: the rest's, unless the fleet has a seed of its own."""
        if deadline is not None and not deadline > 0:
            raise ValueError(f"deadline={deadline!r}: give seconds > 0, or None to wait for everybody.")
        self.deadline, self.attack = deadline, attack
        self.x0 = problem.x0 if x0 is None else problem.check_x0(x0)
        self._step = Transaction(self)
        self.memory, self.ledger, self.now = Memory(self.n, self._step), Ledger(self.n), 0.0
        self.counters = {"calls": 0, "coins": 0, "cohorts": 0}
        self.kept: dict[str, dict[str, torch.Tensor]] = {}
        """What aggregation rules keep from call to call, by call and name."""
        self.round, self.state = 0, None
        """The step under way and the server's state before it, as whoever steps says: an omniscient attacker sees them."""
        self.out: set[int] = set()
        """Clients that take part no more, because what they remembered is lost: their replies never count."""
        self.spent = np.zeros(self.n) if self.fleet.limited else None
        """(n,) joules that each device has spent; None where no device has a battery."""
        self.started = False  # devices drop out only once the federation has started: after init
        self.executor: Evaluates = executor if isinstance(executor, Evaluates) else Executor(executor, threads)
        self.timeline = Timeline()
        self.everybody, self.all_rows = np.arange(self.n), slice(0, self.n)
        self.weights = problem.weights.to(problem.dtype)
        """(n,) weights of the objective, in the simulation's dtype."""
        self.same_weight = float(self.weights[0]) if bool((self.weights == self.weights[0]).all()) else None
        self._jobs: Jobs | None = None
        self._log: dict[str, Any] = {}
        self._answered = False  # whether anybody has answered a call since the last step
        self._last: tuple[Replies, ...] = ()
        self._instant = self.fleet.instant and not self.randomness.scripts("times")

    def __repr__(self) -> str:
        return f"Federation of {self.n} clients, d={self.d}, {self.fleet!r}, {self.ledger!r}"

    def transaction(self) -> Transaction:
        """`with fed.transaction():` an error or an interrupt in here leaves the federation as it was before.

        Memory, ledger, clock, counters, jobs, timeline and scripted randomness. `HalfWritten` where an earlier one
        could not be taken back: see `octolab.federation.transaction`.
        """
        return self._step

    # -- synchronous -------------------------------------------------------------------------------------------------
    def call(self, fn: Callable[..., Any], *down: Any, to: np.ndarray | None = None) -> Any:
        """Every client of `to` (client numbers; None: all) receives `down`, runs `fn(cohort, *down)`, and replies.

        fn sees the whole cohort at once and returns a payload or a tensor (m, d) or (m,), a tuple of such, or None.
        Returns `Replies`, or a tuple of `Replies`. What fn writes into `cohort.memory` counts for those who replied.
        Charged: `down` to each, the replies up, the work done; the clock waits for the slowest reply or the deadline.
        """
        ids = self.everybody if to is None else np.asarray(to, dtype=np.int64)
        event = self.counters["calls"]
        self.counters["calls"] = event + 1
        self._last = ()  # the last call's replies make room for these
        averaged = self.problem.statistics is not None
        if averaged:
            self.problem = self.problem.at(self.memory)
        result = self.executor.run(self, fn, ids, down, event)
        if self.out:
            staying_out = np.isin(ids, list(self.out))
            result.absent = staying_out if result.absent is None else result.absent | staying_out
        sent = self.size_of(down)
        if averaged:
            sent += self.beside
            if np.any(result.gradients):
                result.bits = (0 if result.bits is None else result.bits) + self.beside
                result.paper_bits = (0 if result.paper_bits is None else result.paper_bits) + self.beside
        replied = self._clock(ids, result, sent, event)
        self._charge(ids if to is not None else None, result, sent, replied)
        result.settle(self.memory, replied)
        return self._replies(ids, result, replied, fn, down, event)

    @property
    def last_shapes(self) -> list[tuple[int, ...]]:
        """The shape of one reply, for each part of the last call's."""
        return [replies.shape for replies in self._last]

    @property
    def objective(self) -> Problem:
        """The problem with what clients keep beside the model (running statistics, say) as it is now."""
        return self.given if self.given.statistics is None else self.given.at(self.memory)

    @property
    def beside(self) -> int:
        """Bits that travel each way beside what a method sends: running statistics that are averaged."""
        return 0 if self.problem.statistics is None else 32 * self.problem.statistics.traffic

    @property
    def reliable(self) -> bool:
        """Whether every reply is sure to arrive."""
        if self.out:
            return False
        if not self.started:
            return not isinstance(self.fleet.jitter, Hang)
        sure = self.fleet.jitter is None and self.fleet.lossless and not self.randomness.scripts("times")
        return sure and self.deadline is None

    def _clock(self, ids: np.ndarray, result: Result, sent: float, event: int) -> np.ndarray | None:
        """Advance the clock; returns who replied (m,), or None if everybody did."""
        work = result.gradients if self.fleet.unit == "gradient" else result.samples
        if self._instant and self.deadline is None and result.absent is None:
            most = work if isinstance(work, (int, float)) else float(np.max(work, initial=0.0))
            self.now += most * self.fleet.seconds
            self._answered = True
            return None
        if len(ids) == 0:
            return None
        fleet = self.fleet
        received = (sent / fleet.of("down", ids) + fleet.of("latency", ids)) if sent else 0.0
        busy = fleet.compute(work, ids, event, self.fleet_randomness)
        computed = received + (fleet.passed(ids, self.now + received, busy) if fleet.waits else busy)
        seconds = computed
        if result.bits is not None:
            result.seconds = np.broadcast_to(result.bits / fleet.of("up", ids) + fleet.of("latency", ids), ids.shape)
            seconds = seconds + result.seconds
        missing = np.isinf(seconds)
        lost = fleet.lost(ids, event, self.fleet_randomness) if self.started else None
        away = self._away(ids, busy, result.seconds) if self.started else None
        for absent in (lost, result.absent, away):
            missing = missing if absent is None else missing | absent
        late = seconds > (np.inf if self.deadline is None or not self.started else self.deadline)
        gone, start = missing | late, self.now
        if self._step.open:
            self._step.note(self.timeline.rewind, self.timeline.mark())
        if not gone.any():
            self.timeline.call(ids, start, start + received, start + computed, start + seconds, None)
            self.now += float(seconds.max())
            self._answered = True
            return None
        result.unsent = missing  # a late reply was sent, and is charged; a lost one was not
        states = np.where(missing, DROPPED, np.where(late, LATE, DONE))
        self.timeline.call(ids, start, start + received, start + computed, start + seconds, states)
        answered = seconds[~gone]
        wait = float(answered.max()) if len(answered) else self._nobody()
        self.now += float(self.deadline) if self.deadline is not None else wait
        self._log["dropped"] = int(gone.sum())
        self._answered |= not gone.all()
        return ~gone

    def _away(self, ids: np.ndarray, busy: np.ndarray, sending: np.ndarray | None) -> np.ndarray | None:
        """(m,) who is offline or has no battery left; the others' energy is spent. None where nobody can be away."""
        fleet, away = self.fleet, None
        if fleet.availability is not None:
            away = ~fleet.availability.online(ids, self.now)
        if self.spent is not None:
            empty = self.spent[ids] >= np.broadcast_to(fleet.budget, (self.n,))[ids]
            away = empty if away is None else away | empty
            computing = np.where(np.isfinite(busy), busy, 0.0)
            drawn = np.where(away, 0.0, fleet.energy(ids, computing, 0.0 if sending is None else sending))
            self._spend(ids, drawn)
        return away

    def _spend(self, ids: Any, joules: Any) -> None:
        """Charge batteries. Once per device and call."""
        assert self.spent is not None
        if self._step.open:
            self._step.note(self.spent.__setitem__, ids, self.spent[ids].copy())
        self.spent[ids] += joules

    def _nobody(self) -> float:
        """Seconds that pass where nobody answered: until devices may come online again."""
        online = self.fleet.availability
        change = np.inf if online is None else online.next_change(self.now)
        return float(change - self.now) if change < np.inf else 0.0

    def _charge(self, ids: np.ndarray | None, result: Result, sent: float, replied: np.ndarray | None) -> None:
        charges: dict[str, Any] = {
            "gradients": result.gradients,
            "samples": result.samples,
            "replies": 1 if replied is None else replied.astype(float),
        }
        if sent:
            charges["broadcast" if ids is None else "down"] = sent
        if result.bits is not None:
            bits, paper = result.bits, result.paper_bits
            if replied is not None and result.unsent is not None:
                bits, paper = np.where(result.unsent, 0, bits), np.where(result.unsent, 0, paper)
            charges["up"], charges["paper_up"] = bits, paper
        if self._step.open:
            self._step._undo.append((self.ledger.take_back, (ids, charges)))
        self.ledger.add(ids, **charges)

    def _replies(
        self, ids: np.ndarray, result: Result, replied: np.ndarray | None, fn: Any, down: Any, event: int
    ) -> Any:
        keep = None if replied is None else torch.from_numpy(np.flatnonzero(replied))
        clients = ids if replied is None else ids[replied]
        out: list[Replies] = []
        for payload in result.payloads:
            if payload is not None and keep is not None:
                payload = payload.select(keep)
            replies = Replies(payload, clients, self.weights, self.same_weight, self.d, f"Call {event} ({fn.__name__})")
            if result.seconds is not None:
                replies.seconds = result.seconds if replied is None else result.seconds[replied]
            replies.judge = partial(self._judge, f"{fn.__name__}/{len(out)}", event)
            if self.attack is not None and payload is not None and len(clients):
                replies.attacked = self.attack.apply(self, replies, fn, down, event, len(out))
            out.append(replies)
        self._last = tuple(out)
        return out[0] if not result.is_tuple else tuple(out)

    def _judge(self, name: str, event: int, replies: Replies, finite: torch.Tensor) -> RuleContext:
        """What the rule of this call may use; what it is given is looked at, and written down."""
        if not bool(finite.all()):
            self._log["rejected"] = self._log.get("rejected", 0) + int((~finite).sum())
        if self.attack is not None:
            for column, count in suspicion(replies, finite, self.attack.clients).items():
                self._log[column] = self._log.get(column, 0) + count
        kept = self.kept.setdefault(name, {})
        if self._step.open:
            self._step.note(self.kept.__setitem__, name, kept.copy())
        return RuleContext(self.randomness.draws([SERVER], event), kept)

    # -- asynchronous ------------------------------------------------------------------------------------------------
    @property
    def asynchronous(self) -> bool:
        """Whether a job has been submitted."""
        return self._jobs is not None

    @property
    def jobs(self) -> Jobs:
        if self._jobs is None:
            self._jobs = Jobs(self)
            self.submit, self.next = self._jobs.submit, self._jobs.next  # type: ignore[method-assign]  # at once: 0.4 us
        return self._jobs

    def submit(
        self,
        client: int,
        fn: Callable[..., Any],
        *down: Any,
        tag: Any = None,
        work: float = 1.0,
        sends: int | None = None,
        limit: float = np.inf,
    ) -> Job:
        """Client starts `fn(cohort, *down)` now. work: units of compute. sends: bits of the reply, if known.

        limit: seconds of compute after which the client gives up by itself and sends nothing: the job comes back `clipped`.
        """
        return self.jobs.submit(client, fn, *down, tag=tag, work=work, sends=sends, limit=limit)

    def work_of(self, client: int, gradients: int = 1, batch_size: int | None = None) -> float:
        """The units of compute of a job of that many gradients: gradients, or samples on a fleet that counts these."""
        if self.fleet.unit == "gradient":
            return float(gradients)
        held = int(self.problem.sizes[client])
        return float(gradients * (held if batch_size is None else min(batch_size, held)))

    def next(self) -> Job:
        """Wait for the next arrival in virtual time (ties: the lower client number)."""
        return self.jobs.next()

    def cancel(self, job: Job) -> None:
        """Cancel a job: nothing more is sent, its elapsed time stays spent."""
        self.jobs.cancel(job)

    def expect(self, client: int) -> None:
        """Say that nothing goes on without this client: raises `NothingUnderWay` if it will never answer."""
        self.jobs.expect(client)

    def running(self) -> list[Job]:
        """The jobs under way, by client: what may be cancelled (a job that hangs for ever is among them)."""
        return [job for job in self.jobs.current if job is not None]

    # -- what the server decides -------------------------------------------------------------------------------------
    def sample(self, cohort: Sampler | int | float | None = None) -> np.ndarray | None:
        """A cohort (ascending client numbers); None if it is everybody. May be empty (`Poisson`).

        On a fleet whose devices come and go, m clients out of those that are online now; other samplers draw from all.
        """
        if cohort is None:
            return None
        event = self.counters["cohorts"]
        self.counters["cohorts"] = event + 1
        given = self.randomness.scripted_cohort(event)
        if given is not None:
            if len(given) and not (given.min() >= 0 and given.max() < self.n):
                raise ValueError(f"Scripted cohort {given.tolist()}: clients are numbered 0 to {self.n - 1}.")
            return given
        sampler, online = as_sampler(cohort), self.fleet.availability
        if online is not None and type(sampler) is Nice and self.started:
            return self._online(sampler.size(self.n), online, event)
        return sampler.draw(self.n, self.randomness, event)

    def _online(self, m: int, availability: Availability, event: int) -> np.ndarray:
        """m of those online; if nobody is, the clock goes on to when somebody is, unless that never comes."""
        for _ in range(PATIENCE):
            found = draw_online(m, self.n, availability, self.now, self.randomness, event)
            change = availability.next_change(self.now)
            if len(found) or change == np.inf:
                break
            self.now = change
        return found

    def pick(self, clients: np.ndarray) -> int:
        """One of these clients, uniformly at random; addressed, counted and scripted like a cohort."""
        event = self.counters["cohorts"]
        self.counters["cohorts"] = event + 1
        given = self.randomness.scripted_cohort(event)
        if given is not None:
            return int(given[0])
        return int(clients[int(self.randomness.cohort(event, 1)[0] * len(clients))])

    def coin(self, p: float) -> bool:
        """One coin, True with probability p, that server and clients share (a common seed: no traffic)."""
        event = self.counters["coins"]
        self.counters["coins"] = event + 1
        return self.randomness.coin(p, event)

    def mean_of(self, name: str) -> torch.Tensor:
        """sum_i w_i of what the clients remember under a name: what the server would see if it could look."""
        return torch.tensordot(self.weights, self.memory[name].to(self.weights.dtype), 1)

    def host(self, values: torch.Tensor) -> np.ndarray:
        """The server's bookkeeping as an array in the host's memory, wherever the model lies."""
        return np.asarray(values.detach().cpu())

    def place(self, values: Any) -> torch.Tensor:
        """An array or numbers as a tensor where the model lies, of their own dtype."""
        return torch.as_tensor(values, device=self.x0.device)

    def compress(self, compressor: Compressor, x: torch.Tensor) -> Payload:
        """The server's own message C(x), x (d,), with draws that are not the clients'."""
        return compressor(x, self.randomness.draws([SERVER], event=self.counters["calls"]))

    def noise(self, like: torch.Tensor, purpose: str = "noise") -> torch.Tensor:
        """Standard normals of the server's own, shaped like a tensor: addressed, and scripted as "server/noise".

        One use of a purpose between two calls.
        """
        draws = self.randomness.draws([SERVER], event=self.counters["calls"])
        return draws.normal(like.numel(), purpose)[0].to(like).view_as(like)

    def log(self, **values: Any) -> None:
        """Diagnostics of this step, one column each in the history: `fed.log(delay=3, accepted=True)`."""
        self._log.update(values)

    @property
    def clients(self) -> Iterator[int]:
        return iter(range(self.n))

    def size_of(self, down: Any) -> float:
        """Bits that one client receives: 32 per real number, 1 per bool, a payload's own bits."""
        if isinstance(down, (tuple, list)):
            return sum(self.size_of(item) for item in down)
        if down is None:
            return 0.0
        if isinstance(down, torch.Tensor):
            return 32.0 * down.numel()
        if isinstance(down, Payload):
            return float(down.bits)
        if isinstance(down, (bool, np.bool_)):
            return 1.0
        if isinstance(down, (int, float, np.number)):
            return 32.0
        if isinstance(down, Each):
            return 32.0 * down.values[0].numel() if len(down.values) else 0.0
        raise TypeError(
            f"Cannot send a {type(down).__name__}: send tensors, payloads, numbers, bools, or tuples of them."
        )

    def attack_job(self, payload: Payload, client: int) -> Payload:
        """The asynchronous form of the attack hook: one liar's reply."""
        if self.attack is None or client not in self.attack.clients:
            return payload
        if self.attack.compares:
            raise ValueError(
                f"{type(self.attack).__name__} is made of the other clients' messages, and an asynchronous method gets one "
                f"at a time: use SignFlip, GaussianNoise or LabelFlip."
            )
        own = payload.dense()
        context = AttackContext(
            honest=own[:0], own=own, clients=np.array([client]), fed=self, down=(), event=-1, part=0
        )
        return Dense(self.attack(context))

    # -- health and checkpoints --------------------------------------------------------------------------------------
    def blame(self, step: int, lr: Any) -> NonFinite:
        """The error for a model that is no longer finite: the round, the client if it can be told, what to try."""
        who = ""
        for replies in self._last:
            rows = replies.stack()
            if len(rows) == 0:
                continue
            sizes = rows.reshape(len(rows), -1).abs().amax(1)
            bad = ~torch.isfinite(sizes)
            if bool(bad.any()):
                who = f"; the first client whose reply was not finite is {int(replies.clients[bad.numpy()][0])}"
                break
            who = f"; the largest reply came from client {int(replies.clients[int(sizes.argmax())])}"
        return NonFinite(
            f"Round {step}: the model is no longer finite{who}. {_advice(lr)}, or check the data for inf and nan. "
            f"The history up to here is kept."
        )

    def no_loss(self, step: int, lr: Any) -> NonFinite:
        """The error for a finite model whose loss is none."""
        return NonFinite(
            f"Round {step}: the model is finite, but its loss is nan. {_advice(lr)}, or check the loss on single samples. "
            f"The history up to here is kept."
        )

    def take_log(self) -> dict[str, Any]:
        """What was logged since the last time; `skipped` if calls were made and nobody answered any of them."""
        log, self._log = self._log, {}
        if "dropped" in log and not self._answered:
            log["skipped"] = True
        self._answered = False
        return log


def _advice(lr: Any) -> str:
    return f"Try lr={lr / 10:.3g} instead of {lr:.3g}" if isinstance(lr, (int, float)) else "Try a smaller step size"


__all__ = ["Cohort", "Each", "Federation", "Job"]
