"""A run: a method on a problem, step by step, recorded, interruptible at any moment and resumable bit for bit."""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from octolab.arguments import NAMED, PROBLEM, expects, function, like, number, path, sequence, switch, text, whole
from octolab.errors import AssumptionWarning, ClientAway, NonFinite, NoReplies, NothingUnderWay, OutsideAssumptions
from octolab.experiment.arrivals import Arrivals
from octolab.experiment.background import Background, Progress
from octolab.experiment.callbacks.callback import Callback, Callbacks, log
from octolab.experiment.measure import Measure
from octolab.experiment.observer import Observer
from octolab.experiment.personal import personal_columns, personal_names
from octolab.experiment.record import COUNTED, Recorder, Snapshot
from octolab.experiment.settings import FOREVER, Settings, Until, writable
from octolab.experiment.threads import interruptible, one_thread
from octolab.experiment.trained import Best, module_of, predicted, save_module
from octolab.experiment.world import Connection, world_of
from octolab.experiment.writing import claimed
from octolab.faces import face
from octolab.federation import Federation, Randomness
from octolab.methods import Method, get
from octolab.methods.mistakes import look, sizes
from octolab.metrics import greater_is_better
from octolab.rooms import nearest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from octolab.experiment.alerts import Alert
    from octolab.problems import Problem
    from octolab.trust.accounting import Guarantee


class Run(Background, Arrivals):
    """One run. `history` is a table, `state` the server's state, `federation` the world with ledger and memory.

    Steps happen in the caller's thread (`finish`, `advance`) or in a worker (`launch`); both stop at a round's end. `save` and
    `fork` take the state between two steps, and wait for the one under way.
    """

    @expects(method=NAMED, problem=PROBLEM, settings=like("ol.experiment.Settings(rounds=...)", "rounds", "every"))
    def __init__(
        self,
        method: Method | str,
        problem: Problem,
        settings: Settings,
        randomness: Randomness | None = None,
        callbacks: Sequence[Callback] = (),
    ):
        super().__init__()
        given = method if isinstance(method, Method) else get(method)()
        dtype = None if settings.dtype is None else getattr(torch, settings.dtype)
        self.problem = (problem if dtype in (None, problem.dtype) else problem.with_dtype(dtype)).begun(settings.x0)
        self.given, self.settings, self._every = given, settings, settings.every
        self._plan = given.resolve(self.problem)
        self._check_schedule()
        self.method = self._plan.at(0)
        if settings.checkpoint is not None:
            writable(settings.checkpoint)
        self._exact = settings.deterministic is not None
        if self._exact and (not self.problem.portable or settings.on is not None):
            where = f"on={settings.on!r}" if self.problem.portable else f"{self.problem.name}"
            raise OutsideAssumptions(
                f"deterministic={settings.deterministic!r} is for quadratics and linear models that run here, and this is "
                f"{where}, whose kernels differ between instruction sets: leave deterministic out."
            )
        self.federation = Federation(
            self.problem,
            fleet=settings.fleet,
            randomness=Randomness(settings.seed) if randomness is None else randomness,
            x0=self.problem.check_x0(settings.x0),
            deadline=settings.deadline,
            attack=settings.attack,
            executor=settings.executor,
            threads=settings.threads,
            fleet_seed=settings.fleet_seed,
        )
        if "full participation" in self.method.needs and not self.federation.fleet.lossless:
            warnings.warn(
                f"{type(self.method).__name__} counts on everybody taking part, and this fleet's devices drop out: its "
                f"theorem does not cover that.",
                AssumptionWarning,
                stacklevel=3,
            )
        self.state: Any = None
        self.round = -1  # nothing done yet; 0 after init
        self.error: Exception | None = None
        self.status = "new"  # new, running, paused, stopped, finished, diverged, stalled
        self.recorder = Recorder(keep="x" in settings.kept)
        self.observer = Observer(self.problem)
        self.listen(callbacks)
        self._shown: tuple[int, dict[str, float]] = (-1, {})  # the objective at a round that recorded none
        self.name = given.card.name or type(given).__name__
        self._best = Best.of(self) if "best" in settings.kept else None
        self.measure = (
            None
            if settings.metrics is None
            else Measure(self.problem, settings.metrics, lambda: self.federation.objective)
        )
        self._check_until()
        self.world: Connection | None = None  # where client functions run, if not here
        if settings.on is not None:
            if self.federation.problem is not self.federation.given:
                raise ValueError(
                    f"attack={settings.attack!r} changes the clients' data, and on={settings.on!r} the data are the nodes' "
                    f"own: run it here, or give those nodes such data."
                )
            self.world = world_of(settings.on).join(self)

    def _check_schedule(self) -> None:
        """Every planned round has a step size, as far as ten thousand rounds show."""
        self._scheduled = self._plan.schedule is not None
        if self._plan.schedule is not None:
            for t in {*range(min(self.settings.rounds, 10_000)), max(self.settings.rounds - 1, 0)}:
                self._plan.schedule.at(t)

    # -- what there is to see ----------------------------------------------------------------------------------------
    @property
    def history(self) -> pd.DataFrame:
        """pandas table, one row per step: round, time, bits_up, bits_down, ..., loss, grad_norm_sq (see `Recorder`)."""
        return self.recorder.table()

    def snapshot(self) -> Snapshot:
        """What is recorded now, in no time: for whoever looks on while the run goes on."""
        return self.recorder.snapshot()

    @property
    def last(self) -> dict[str, Any]:
        """The newest value of every column, and `evaluated`, the round that loss and the like belong to.

        A run that stands between two evaluations is evaluated now, which costs its clients nothing and is not recorded;
        one at work may show an earlier round's.
        """
        row = self.recorder.last
        if not row or self.state is None:
            return row
        row["evaluated"] = max(self.recorder.evaluated, 0)
        if row["evaluated"] < self.round and not self.moving and self.world is None:
            with self.turns.between(), one_thread(self._exact):
                if self._shown[0] != self.round:
                    self._shown = (self.round, self._evaluate(self.x))
                row.update(self._shown[1], evaluated=self.round)
        return row

    @property
    def iterates(self) -> torch.Tensor:
        """(T+1, d): the server model after init and after every step. Needs keep='x'."""
        if "x" not in self.settings.kept:
            raise ValueError("This run kept no iterates: run again with keep='x'.")
        return torch.stack(self.recorder.iterates)

    @property
    def x(self) -> torch.Tensor:
        """(d,) the server model now."""
        return self.method.model(self.state)

    @property
    def spec(self) -> dict[str, Any]:
        """A small JSON description that reproduces this run: `octolab.run(**)` of it, see `octolab.from_spec`."""
        from octolab.experiment.spec import describe

        return describe(self)

    @property
    def provenance(self) -> dict[str, Any]:
        """Where its numbers come from: versions, git commit, CPU, threads, the data's checksum. No part of the spec."""
        from octolab.experiment.provenance import provenance

        return provenance(self)

    @property
    def alerts(self) -> list[Alert]:
        """What a careful eye would notice now, each with a recommendation: see `octolab.experiment.alerts`."""
        from octolab.experiment.alerts import alerts

        return alerts(self)

    def metrics(self) -> dict[str, float]:
        """The objective at the current model: loss, grad_norm_sq, where there are test data accuracy, and `metrics=`."""
        found = self.federation.objective.evaluate(self.x)
        return found if self.measure is None else found | self.measure(self.x)

    @expects(delta=number(gt=0, lt=1))
    def guarantee(self, delta: float | None = None) -> Guarantee:
        """What differential privacy may be claimed now, from the noise that was added in the rounds that happened.

        delta None: a tenth of one over the number of clients. ValueError from a method that has no such claim. Runs on the
        same data add up, tuning included; this is of one.
        """
        n = self.federation.n
        delta = 0.1 / n if delta is None else float(delta)
        found = None if self.state is None else self.method.guarantee(self.problem, self.state, delta)
        if found is None:
            raise ValueError(
                f"{self.name} makes no claim on privacy{' before it has begun' if self.state is None else ''}: private methods "
                f"are DPFedAvg, DPSGD, DPClip21, Clip21SGD2M, NormEC, FedNormEC, PMTL."
            )
        if delta >= 1 / n:
            warnings.warn(
                f"delta={delta:g} is not below 1/n = {1 / n:g}: releasing one client's data whole would pass as private.",
                AssumptionWarning,
                stacklevel=2,
            )
        return found

    def module(self, personal: int | None = None) -> nn.Module:
        """The trained model as a torch module, in evaluation mode; personal: the model of that client.

        Of a linear problem a torch.nn.Linear over flat features.
        """
        return module_of(self, personal)

    def state_dict(self, personal: int | None = None) -> dict[str, torch.Tensor]:
        """The trained module's tensors by name: `x0=` takes them, and so does your own module."""
        return dict(self.module(personal).state_dict())

    @expects(scores=switch())
    def predict(self, X: ArrayLike, *, scores: bool = False, personal: int | None = None) -> np.ndarray:
        """Class numbers (N,) for inputs X (N, ...), values of a regression, or with scores=True the outputs themselves."""
        return predicted(self, X, scores, personal)

    @expects(folder=path("a folder"))
    def save_model(self, folder: str | os.PathLike, personal: int | None = None) -> str:
        """Write the trained module into a folder: safetensors and a JSON card. `octolab.load_model(folder)` reads it."""
        return save_module(self, folder, personal)

    @property
    def best(self) -> Best:
        """The model of the best validation value so far: round, column, value, x, module(). Needs keep="best"."""
        if self._best is None:
            raise ValueError(
                "This run kept no best model: run again with keep='best' and a problem with validation_share=."
            )
        return self._best

    @expects(personal=switch())
    def client_metrics(self, personal: bool = False) -> dict[str, np.ndarray]:
        """Per-client metrics, arrays (n,): training loss, and accuracy on each client's own test part.

        Of the server model, or, with personal=True, of each client's own model.
        """
        if not personal:
            found = self.federation.objective.client_metrics(self.x)
            return found if self.measure is None else found | self.measure.by_client(self.x)
        own = self.method.personal(self.federation, self.state)
        if own is None:
            raise ValueError(
                f"{type(self.method).__name__} makes no personal models: leave out personal=True, or use a method that "
                f"does, such as Ditto or Scafflix."
            )
        return self.federation.objective.client_metrics(own)

    def __repr__(self) -> str:
        from octolab.experiment.summary import text

        return text(self)

    def _repr_html_(self) -> str:
        return str(face("run.html")(self))

    # -- stepping ----------------------------------------------------------------------------------------------------
    @expects(rounds=whole(0))
    def advance(self, rounds: int = 1) -> Self:
        """Take some steps now, in this thread (more than `rounds` if the run is already past its plan)."""
        with self.stepping(), one_thread(self._exact), self._claimed():
            for _ in range(rounds):
                if not self._advance() or self.stopping:
                    break
        return self

    @expects(progress=function("a function of the run"))
    def finish(self, progress: Progress | None = None) -> Self:
        """Step until the plan is done, an error or an interrupt; an interrupt stops at the round's end."""
        with self.stepping():
            self._go_on(progress)
        return self

    def _go_on(self, progress: Progress | None) -> None:
        self.status, self.error = "running", None
        with one_thread(self._exact), interruptible(self), self._claimed(), self._connected(), self._heard():
            while self._more():
                if not self._advance():
                    break
                if progress is not None:
                    progress(self)
            if self.status == "running":
                self.status = "stopped" if self.stopping and not self.complete else "finished"
            self._checkpoint()
        log.info("%s: %s at round %d", self.name, self.status, self.round)

    def _connected(self) -> AbstractContextManager[object]:
        return nullcontext() if self.world is None else closing(self.world)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Callbacks hear of the start and of the end, whatever it is."""
        log.info("%s: starts at round %d", self.name, self.round)
        if self._callbacks is not None and self._callbacks.start():
            self.stop()
        try:
            yield
        except Exception:
            self.status = "failed"
            raise
        finally:
            if self._callbacks is not None:
                self._callbacks.end()

    @expects(callbacks=sequence("a list of callbacks"))
    def listen(self, callbacks: Sequence[Callback]) -> Self:
        """Have these callbacks hear of what follows, in place of any before; they are no part of the spec."""
        self.callbacks = tuple(callbacks)
        self._callbacks = Callbacks(self, self.callbacks) if self.callbacks else None
        return self

    @property
    def stop_reason(self) -> str | None:
        """Which callbacks ended the run before its plan was done; None if none did."""
        return None if self._callbacks is None else ", ".join(self._callbacks.stopped) or None

    def _claimed(self) -> AbstractContextManager[object]:
        """Its checkpoint for itself alone, where this process writes it."""
        path = self.settings.checkpoint
        return nullcontext() if path is None or self._remote else claimed(path)

    @property
    def complete(self) -> bool:
        """Whether the plan is done: its rounds, or what `until` asks for."""
        if self.round < 0:
            return False
        until = self.settings.until
        if self.round >= self.settings.rounds:
            return True
        return until is not None and until.reached(self.recorder.last, self.greater_is_better)

    def greater_is_better(self, column: str) -> bool:
        """Whether more of a recorded column is better (accuracy), or less (loss)."""
        own = None if self.measure is None else self.measure.greater_is_better(column)
        return (column in COUNTED or greater_is_better(column)) if own is None else own

    def _check_until(self) -> None:
        """ValueError, before any work, for a column that this run does not evaluate."""
        targets = [] if self.settings.until is None else [name for name, _ in self.settings.until.targets]
        if not targets:
            return
        x0 = self.federation.x0
        known = {*COUNTED, "loss", "grad_norm_sq", *self.problem.test_metrics(x0), *self.problem.validation_metrics(x0)}
        known |= set() if self.measure is None else set(self.measure.columns)
        if type(self.method).personal is not Method.personal:
            known |= set(personal_names(self.problem))
        for name in targets:
            if name not in known:
                raise ValueError(
                    f"until: {name}=...: this run evaluates no such column.{nearest(name, known)} It has bits, seconds, "
                    f"{', '.join(sorted(known))}; other metrics are asked for with metrics=[...]."
                )

    def _more(self) -> bool:
        self._go.wait()
        return self.status == "running" and not self._halt.is_set() and not self.complete

    def _advance(self) -> bool:
        """One step (the first is init), its row, and a run file if one is due. False: the run cannot go on."""
        if self.world is not None and self.world.remote:
            self.world.launch()  # before the step, because what the run goes on from is saved for it
        self.turns.begin()
        try:
            good = self._turn()
        finally:
            self.turns.end()
        if good and self._callbacks is not None:
            evaluated = self.recorder.evaluated == len(self.recorder.rows) - 1
            if self._callbacks.round(self.round, evaluated):
                self.stop()
        every = self.settings.checkpoint_every
        if good and every is not None and self.round % every == 0 and not self._remote:
            self._checkpoint()
        return good

    @property
    def _remote(self) -> bool:
        return self.world is not None and self.world.remote

    def _turn(self) -> bool:
        """One step, all of it or nothing."""
        if self.world is not None and self.world.remote:
            return self.world.advance()
        before = self.state, self.round, self.recorder.mark()
        try:
            with self.federation.transaction():
                going = self._one_step(self.federation)
        except BaseException as error:
            self.state, self.round, recorded = before
            self.recorder.rewind(recorded)
            if isinstance(error, NoReplies):
                return self._end("stalled", error)
            raise
        return going

    def _one_step(self, fed: Federation) -> bool:
        """The method's init or step, checked and recorded."""
        marker = fed.memory.version
        old = self.x if self.round == 0 else self.federation.x0 if self.round < 0 else None
        written = 0 if old is None else old._version
        fed.round, fed.state = self.round + 1, self.state
        if self._scheduled:
            self.method = self._plan.at(max(self.round, 0))
        try:
            if self.round < 0:
                self.state = self.method.init(fed)
                fed.started = True
            else:
                self.state = self._step(fed)
        except NoReplies as error:
            if isinstance(error, NothingUnderWay) or fed.memory.version != marker:
                raise
            fed.log(skipped=True)  # nobody answered: the round is void, time has passed
        x = self.x
        if self.round < 1:
            look(self.method, x, self.state, fed.x0, old, written)
        if not math.isfinite(float(x.sum())) and not bool(torch.isfinite(x).all()):
            return self._end("diverged", fed.blame(self.round + 1, getattr(self.method, "lr", None)))
        self.round += 1
        row = self._record(x)
        if row and math.isnan(row.get("loss", 0.0)):
            return self._end("diverged", fed.no_loss(self.round, getattr(self.method, "lr", None)))
        return True

    def _checkpoint(self) -> None:
        if self.settings.checkpoint is not None and (self.world is None or self.world.savable):
            self.save(self.settings.checkpoint)

    def _step(self, fed: Federation) -> Any:
        """The method's step; taken again, without the job, while a job's client is away (a dead node, say)."""
        while True:
            try:
                return self.method.step(fed, self.state)
            except ClientAway as error:
                fed.jobs.put_off(error)
            except RuntimeError as error:
                if self.round == 0 and "must match the size" in str(error):
                    raise sizes(self.method, fed.last_shapes, fed.x0, error) from error
                raise

    def _record(self, x: torch.Tensor) -> dict[str, float]:
        row: dict[str, float] = {}
        if self.round % self._every == 0 or self.round >= self.settings.rounds:
            row = self._evaluate(x)
        self.recorder.add(self.round, self.federation, row, x)
        if row:
            self.observer.see(self, x)
            if self._best is not None:
                self._best.see(self.round, row, x, self.federation.objective)
        return row

    def _evaluate(self, x: torch.Tensor) -> dict[str, float]:
        row = self.federation.objective.evaluate(x) | personal_columns(self, x)
        return row if self.measure is None else row | self.measure(x)

    def _end(self, status: str, error: Exception) -> bool:
        self.status, self.error = status, error
        if threading.current_thread() is threading.main_thread():  # a worker's error is kept, and read by whoever asks
            warnings.warn(str(error), RuntimeWarning, stacklevel=6)
        return False

    # -- files -------------------------------------------------------------------------------------------------------
    @expects(path=path("the path of a run file"))
    def save(self, path: str | os.PathLike) -> str:
        """Write everything needed to go on bit for bit (safetensors with a JSON header, atomically)."""
        from octolab.experiment.checkpoint import save

        return save(self, path)

    @expects(folder=path("a folder"), replace=switch())
    def export_flower_app(self, folder: str | os.PathLike, *, replace: bool = False) -> str:
        """Write this run as a Flower app that `flwr run` starts as it is: see `octolab.flower.export`."""
        return str(face("run.flower_app")(self, folder, replace=replace))

    def __deepcopy__(self, memo: dict[int, object]) -> Run:
        return self.fork()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A Run holds a thread's locks and events, and octolab uses no pickle: write it with run.save(path) and open it "
            "with ol.load_run(path), in whichever process, or copy it here with run.fork()."
        )

    def fork(self, **changes: Any) -> Run:
        """A copy at this point that goes its own way; `changes` are settings or hyperparameters, e.g. lr=0.1."""
        from octolab.experiment.checkpoint import fork

        return fork(self, changes)

    @expects(path=path("the path of a file"))
    def export(self, path: str | os.PathLike, **options: Any) -> str:
        """Write this run as .csv, .parquet, .html (one page, offline), .svg, .png, .pdf or .tex; see `octolab.lab.export`.

        "events.csv": what its devices did, for `octolab.replay`.
        """
        if os.path.basename(path) == "events.csv":
            self.events.to_csv(path, index=False)
            face("run.described")(self, path)
            return os.path.abspath(path)
        return str(face("run.export")(self, path, **options))

    def figure(self) -> Any:
        """A plotly figure: loss and squared gradient norm, with buttons for the x axis."""
        return face("run.figure")([self])

    @expects(ax=like("matplotlib axes", "plot"), x=text(), y=text("a column of the history"))
    def plot(self, ax: Axes | None = None, x: str = "bits_up", y: str = "loss") -> Axes:
        """Draw this run's curve with matplotlib, into `ax` or a new figure; returns the axes."""
        axes: Axes = face("run.plot")(self, ax, x, y)
        return axes

    def dashboard(self, **options: Any) -> Any:
        """`octolab.dashboard(run)`: everything this run records, live and after; static outside a notebook."""
        return face("run.dashboard")(self, **options)


__all__ = ["FOREVER", "NonFinite", "Run", "Settings", "Until"]
