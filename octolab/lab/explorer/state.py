"""The state behind an explorer, without any widget: a method, a problem, a plan and devices, and every knob on them.

    state = ExplorerState("ef21", alpha=0.1, rounds=200)
    state.enter("compressor.k", "0.2")      # None, or the sentence that says what is wrong; the old value then stays
    state.python                            # the call that does the same
    state.prepare()                         # an octolab Run, not started

Widgets are views of it. Everything works for any method of the catalogue, from what its page declares.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from octolab.errors import AssumptionWarning, OctolabError, UnknownConstant
from octolab.experiment import from_spec
from octolab.experiment.launch import prepare
from octolab.experiment.run import Run
from octolab.experiment.tuning import quiet
from octolab.federation import Fleet
from octolab.lab import presets
from octolab.lab.explorer import baseline, knobs
from octolab.lab.explorer.knobs import Knob
from octolab.lab.explorer.plan import Devices, Plan
from octolab.lab.explorer.python_call import written
from octolab.methods import Method, Theory, get
from octolab.params import params
from octolab.problems import Problem

SECTIONS = ("method", "problem", "run", "fleet")
KNOWN_NEEDS = {"unbiased", "contractive", "homogeneous", "strongly convex", "hessian", "full participation"}
EXTRA = ("x0", "keep", "executor")
"""Settings of a run that have no knob; a run that is opened keeps them."""


class ExplorerState:
    """One method on one problem, ready to run.

    method: a slug, a `Method`, a `Run`, or a spec. problem: the name of a preset, or a problem; None: one that suits
    the method. show: the only knobs to show (and those locked). hide: knobs not to show. lock: knobs shown but not
    to be turned, names, or name -> reason. tuned: begin with the steps that are best for both on the method's stage
    (None: where nothing else is given). Further arguments are knobs' values: lr=0.1, alpha=0.1, rounds=500.
    """

    def __init__(
        self,
        method: Any = "ef21",
        problem: Problem | presets.Preset | str | None = None,
        *,
        show: Iterable[str] | None = None,
        hide: Iterable[str] = (),
        lock: Iterable[str] | Mapping[str, str] = (),
        values: Mapping[str, Any] | None = None,
        tuned: bool | None = None,
        **more: Any,
    ):
        self._watchers: list[Callable[[set[str]], Any]] = []
        self._built: tuple[Any, Any] | None = None
        self._building = threading.RLock()
        self._review: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._held: dict[str, Theory] = {}  # theory values that this problem cannot give, by path
        self._tuned_at: tuple[Any, ...] | None = None  # where both sides were tuned alike
        self.errors: dict[str, tuple[Any, str]] = {}  # path -> (what was entered, what is wrong with it)
        self.extra: dict[str, Any] = {}
        self.locked: dict[str, str] = {}
        run = self._as_run(method, problem)
        if run is not None:
            self._adopt(run)
        else:
            self._method = method if isinstance(method, Method) else get(method)()
            self._plan, self._devices = self._usual()
            self._problem = self._suited() if problem is None else self._as_preset(problem)
            self._stand_in()
        given = {**(values or {}), **more}
        stage = self._method.own_stage() if run is None and problem is None and isinstance(method, str) else None
        if stage is not None:
            given = {**stage.values, **given}
        named = isinstance(method, str) and run is None and problem is None
        if tuned or (tuned is None and named and not more and not values and show is None and not lock):
            self._take_tuned_steps()
        for name, value in sorted(given.items(), key=lambda item: item[0].count(".")):
            self.turn(self.find(name), value)
        self.shown = None if show is None else [self.find(name) for name in show]
        self.hidden = [self.find(name) for name in hide]
        reasons = lock if isinstance(lock, Mapping) else dict.fromkeys(lock, "locked for this lesson")
        self.locked = {self.find(name): reason for name, reason in reasons.items()}

    def _take_tuned_steps(self) -> None:
        """Begin with the steps that were best for both on the method's stage, over one grid."""
        from octolab.lab import stages

        for path, value in stages.steps(self._method.slug).items():
            if any(k.path == path for k in self.knobs(path.partition(".")[0])):
                self.turn(path, value)
        self._tuned_at = (self._method, self._problem, self._plan, self._devices)

    @property
    def tuned(self) -> bool:
        """Whether what is set is the method's stage, with both sides at their best steps of one grid."""
        return self._tuned_at == (self._method, self._problem, self._plan, self._devices)

    def is_locked(self, path: str) -> bool:
        """Whether a teacher has locked this knob, or the object that it belongs to."""
        return any(path == p or path.startswith(f"{p}.") for p in self.locked)

    # -- how it starts -----------------------------------------------------------------------------------------------
    @staticmethod
    def _as_run(
        method: Method | Run | dict[str, Any] | str, problem: Problem | presets.Preset | str | None
    ) -> Run | None:
        if isinstance(method, Run):
            return method
        if isinstance(method, dict) or (isinstance(method, str) and method.lstrip().startswith("{")):
            with quiet():
                return from_spec(method, problem=problem if isinstance(problem, Problem) else None)
        return None

    def _usual(self) -> tuple[Plan, Devices]:
        """An arrival is a step of asynchronous methods, and equal devices would hide what they are for."""
        if "asynchronous" in self._method.tags or self._method.card.family == "asynchronous":
            return Plan(rounds=2000), Devices(speeds="root")
        return Plan(), Devices()

    def _suited(self) -> presets.Preset:
        stage = self._method.own_stage()
        if stage is not None and stage.problem:
            return presets.PRESETS[stage.problem][1]
        first = presets.suited(self._method)
        if set(self._method.needs) <= KNOWN_NEEDS:
            return presets.PRESETS[first][1]
        for name in (first, *presets.PRESETS):  # a need that is new here: the first problem that is not refused
            try:
                with quiet():
                    self._method.check(presets.PRESETS[name][1].build())
                return presets.PRESETS[name][1]
            except (OctolabError, ValueError):
                continue
        from octolab.testing.problems import home

        return presets.preset_of(home(self._method))

    @staticmethod
    def _as_preset(problem: Problem | presets.Preset | str) -> presets.Preset:
        if isinstance(problem, presets.Preset):
            return problem
        if not isinstance(problem, str):
            return presets.preset_of(problem)
        if problem not in presets.PRESETS:
            near = difflib.get_close_matches(problem, presets.PRESETS, 1, 0.4)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"problem={problem!r}: {hint}Known are {', '.join(map(repr, presets.PRESETS))}, or a problem."
            )
        return presets.PRESETS[problem][1]

    def _adopt(self, run: Run) -> None:
        self._method, self._problem = run.given, presets.preset_of(run.problem)
        self._plan = Plan.read(run.settings, getattr(getattr(self, "_plan", None), "baseline", "auto"))
        self._devices = Devices.read(run.settings.fleet)
        self.extra = {n: getattr(run.settings, n) for n in EXTRA if getattr(run.settings, n) not in (None, "auto")}
        same = self._plan.dtype is None
        self._built = (self._problem, run.problem) if same else None
        self._held, self.errors = {}, {}

    # -- what it holds -----------------------------------------------------------------------------------------------
    @property
    def method(self) -> Method:
        """The method with its hyperparameters; can be set (a method or a slug)."""
        return self._method

    @method.setter
    def method(self, method: Method | str) -> None:
        self._method = method if isinstance(method, Method) else get(method)()
        self._held = {}
        self._stand_in()
        self._changed({"method"}, forget="method")

    @property
    def preset(self) -> presets.Preset:
        """The problem before it is built, with its knobs."""
        return self._problem

    @property
    def problem(self) -> Problem:
        """The problem, built when first asked for; can be set (a problem, a preset, or a preset's name)."""
        with self._building:
            if self._built is None or self._built[0] is not self._problem:
                wanted = self._problem
                self._built = (wanted, wanted.build())
            return self._built[1]

    @problem.setter
    def problem(self, problem: Problem | presets.Preset | str) -> None:
        self._problem = self._as_preset(problem)
        self._stand_in()
        self._changed({"problem"}, forget="problem")

    @property
    def built(self) -> bool:
        """Whether the problem has been built already."""
        return self._built is not None and self._built[0] is self._problem

    @property
    def n(self) -> int:
        """Number of clients, without building the problem where its knobs say it."""
        for name in ("clients", "n"):
            if isinstance(getattr(self._problem, name, None), int):
                return getattr(self._problem, name)
        return self.problem.n

    @property
    def plan(self) -> Plan:
        return self._plan

    @property
    def devices(self) -> Devices:
        return self._devices

    @property
    def fleet(self) -> Fleet | None:
        return self._devices.fleet(self.n)

    @property
    def slug(self) -> str:
        return self._method.slug

    # -- knobs -------------------------------------------------------------------------------------------------------
    def _section(self, name: str) -> Any:
        return {"method": self._method, "problem": self._problem, "run": self._plan, "fleet": self._devices}[name]

    def knobs(self, section: str | None = None) -> list[Knob]:
        """All knobs, or those of a section: method, problem, run, fleet."""
        return [k for s in ([section] if section else SECTIONS) for k in knobs.knobs(self._section(s), s)]

    def knob(self, path: str) -> Knob:
        """The knob of a full path."""
        found = next((k for k in self.knobs(path.partition(".")[0]) if k.path == path), None)
        if found is None:
            raise ValueError(self._unknown(path))
        return found

    def find(self, name: str) -> str:
        """The full path of a knob by its short name: `lr`, `compressor.k`, `alpha`, `dropout`. The method's come first."""
        if name in ("problem", "method"):
            return name
        known = [k.path for s in ("method", "run", "problem", "fleet") for k in self.knobs(s)]
        tests: tuple[Callable[[str], bool], ...] = (
            lambda p: p == name,
            lambda p: p.partition(".")[2] == name,
            lambda p: p.endswith(f".{name}"),
        )
        for test in tests:
            for path in known:
                if test(path):
                    return path
        raise ValueError(self._unknown(name))

    def _unknown(self, name: str) -> str:
        short = sorted({k.path.partition(".")[2] for k in self.knobs()} | {"problem"})
        near = difflib.get_close_matches(name.rpartition(".")[2], short, 2, 0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        return f"There is no knob {name!r} here.{hint} There are {', '.join(short)}."

    def visible(self, path: str) -> bool:
        """Whether a teacher lets this knob be seen."""
        within = lambda p: path == p or path.startswith(f"{p}.")  # noqa: E731
        if self.shown is not None and path.endswith(f".{knobs.OVER}") and path not in self.shown:
            return False  # a lesson on a step size is not one on schedules
        return (self.shown is None or any(map(within, [*self.shown, *self.locked]))) and not any(
            map(within, self.hidden)
        )

    @staticmethod
    def _owner(path: str) -> str | None:
        return path.rsplit(".", 1)[0] if path.count(".") > 1 else None

    def front(self) -> list[str]:
        """The two to four knobs that matter, or those a teacher shows."""
        if self.shown is not None:
            wanted = dict.fromkeys([*self.shown, *self.locked])
            return [
                k.path
                for p in wanted
                if p != "problem"
                for k in self.knobs()
                if k.path == p or (k.path.startswith(f"{p}.") and k.name != knobs.OVER)
            ]
        own = self.knobs("method")
        main = [k for k in own if k.main] or [k for k in own if not k.parent][:2]
        out = []
        for k in main[:4]:
            inner = [q for q in own if q.parent == k.path and q.kind in ("number", "whole")][:1]
            out += [k.path, *(q.path for q in inner)]
        return [p for p in out if self.visible(p)]

    # -- changing ----------------------------------------------------------------------------------------------------
    def turn(self, path: str, value: Any) -> None:
        """Turn a knob. A ValueError, in words, if that cannot be; then nothing has changed."""
        path = self.find(path)
        if path == "problem":
            self.problem = value
            return
        if path == "method":
            self.method = value
            return
        section, *names = path.split(".")
        before = self._section(section)
        after = knobs.enter(before, self.knob(path), names, value)
        self._check(section, after, path)
        if section == "method":
            self._method = after
            self._held.pop(path, None)
        elif section == "problem":
            self._problem = after
        elif section == "run":
            self._plan = after
        else:
            self._devices = after
        self._changed({path}, forget=path)

    def _check(self, section: str, after: Any, path: str) -> None:
        """What a field cannot see alone: a split that does not work for these data, an unknown baseline."""
        if section == "problem" and isinstance(after, presets.Classification):
            after.partition()
        if section == "run" and path == "run.baseline" and after.baseline not in ("auto", "none"):
            get(after.baseline)
        if section == "fleet":
            after.fleet(self.n)

    def enter(self, path: str, raw: Any) -> str | None:
        """A person's entry: None if it is taken, else the sentence to show beside the knob; the old value stays."""
        try:
            path = self.find(path)
            if self.is_locked(path):
                reason = next(r for p, r in self.locked.items() if path == p or path.startswith(f"{p}."))
                return f"{self.knob(path).label if path != 'problem' else path} is locked: {reason}."
            self.turn(path, raw)
        except (ValueError, OctolabError) as error:
            self.errors[path] = (raw, str(error))
            self._changed({path})
            return str(error)
        return None

    def _stand_in(self) -> None:
        """Where a problem's constants are unknown, a plain number stands in for a theory value, and the knob says so."""
        restored = {p.removeprefix("method."): t for p, t in self._held.items()}
        if restored:
            self._method, self._held = dataclasses.replace(self._method, **restored), {}
        names = [f.name for f in dataclasses.fields(self._method) if isinstance(getattr(self._method, f.name), Theory)]
        if not names or not _constants_unknown(self._problem):
            return
        for f in dataclasses.fields(self._method):
            try:
                with quiet():
                    self._method.resolve(self.problem)
                return
            except UnknownConstant as error:
                name = next((m for m in re.findall(r"(\w+)=Theory", str(error)) if hasattr(self._method, m)), f.name)
                held = getattr(self._method, name)
                if not isinstance(held, Theory):
                    return
                whole = params(type(self._method))[name].whole
                self._held[f"method.{name}"] = held
                self._method = dataclasses.replace(self._method, **{name: 2 if whole else START.get(name, 0.5)})
            except (ValueError, OctolabError):
                return

    def watch(self, callback: Callable[[set[str]], Any]) -> None:
        """Call `callback(paths)` after every change."""
        self._watchers.append(callback)

    def _changed(self, paths: set[str], forget: str | None = None) -> None:
        if forget is not None:
            gone = [p for p in self.errors if p == forget or p.startswith(forget + ".") or forget == self._owner(p)]
            for path in gone:
                del self.errors[path]
        for callback in list(self._watchers):
            callback(paths)

    # -- running -----------------------------------------------------------------------------------------------------
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `ol.run`."""
        out = self._plan.arguments()
        fleet = self.fleet
        return out | ({} if fleet is None else {"fleet": fleet}) | self.extra

    def prepare(self) -> Run:
        """The run, not started. Warnings about assumptions are in `review`, not repeated here."""
        with quiet():
            return prepare(self._method, self.problem, **self.arguments())

    def beside(self) -> Run | None:
        """The baseline's run, not started: same problem, seed, devices and stop rules; None: there is none."""
        method = baseline.choose(self)
        if method is None:
            return None
        try:
            with quiet():
                return prepare(method, self.problem, **self.arguments() | {"rounds": baseline.rounds(self, method)})
        except (ValueError, OctolabError):
            return None

    def review(self) -> dict[str, Any]:
        """As `reviewed`, kept until method, problem or devices change."""
        key = (self._method, self._problem, self._devices, self.built)
        if self._review is None or any(a is not b for a, b in zip(self._review[0], key, strict=True)):
            found = self._reviewed()
            self._review = ((self._method, self._problem, self._devices, self.built), found)
        return self._review[1]

    def _reviewed(self) -> dict[str, Any]:
        """The method on the built problem: `values` (path -> number that a theory value stands for), `refusal`,
        `refused` (the path it concerns, if it can be told), and `warnings`.
        """
        out: dict[str, Any] = {"values": {}, "refusal": None, "refused": None, "warnings": []}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", AssumptionWarning)
            try:
                problem = self.problem
                if self.fleet is not None:
                    self.fleet.check(problem.n)
                if (found := self._too_many(problem.d)) is not None:
                    out["refused"], out["refusal"] = found
                    return out
                resolved = self._method.resolve(problem)
            except (ValueError, OctolabError) as error:
                out["refusal"] = str(error)
                named = re.search(r"\b(\w+)=", str(error))
                own = [f"method.{f.name}" for f in dataclasses.fields(self._method)]
                out["refused"] = f"method.{named[1]}" if named and f"method.{named[1]}" in own else None
            else:
                for f in dataclasses.fields(self._method):
                    given, number = getattr(self._method, f.name), getattr(resolved, f.name)
                    if isinstance(given, Theory):
                        out["values"][f"method.{f.name}"] = number
                    elif isinstance(getattr(given, "lr", None), Theory):  # a schedule of theory's step
                        out["values"][f"method.{f.name}.lr"] = number.lr
        out["warnings"] = [str(w.message) for w in caught if issubclass(w.category, AssumptionWarning)]
        return out

    def _too_many(self, d: int) -> tuple[str, str] | None:
        """A compressor that keeps more coordinates than there are: the knob, and the sentence."""
        for knob in self.knobs("method"):
            if knob.label.endswith(" k") and isinstance(knob.value, int) and knob.value > d:
                said = f"k={knob.value:,}: this problem has d={d:,} coordinates. Give at most {d:,}, or a share such as 5%."
                return knob.path, said
        return None

    def note(self, path: str) -> str:
        """What stands quietly beside a knob, if anything."""
        if path in self._held:
            return "No theory value here: this problem's constants are unknown. This number is a start, not tuned."
        return ""

    # -- as text -----------------------------------------------------------------------------------------------------
    @property
    def python(self) -> str:
        """The exact call; executing it gives the same numbers."""
        return written(self)

    @property
    def spec(self) -> dict[str, Any]:
        """The run's spec (JSON); can be set."""
        return self.prepare().spec

    @spec.setter
    def spec(self, spec: dict[str, Any] | str) -> None:
        with quiet():
            self.open(from_spec(spec))

    def open(self, run: Run) -> None:
        """Take over everything from a run."""
        self._adopt(run)
        self._changed({"method", "problem", "run", "fleet"})

    def __repr__(self) -> str:
        return f"{self._method.card}\n\n{self.python}"


START = {"lr": 0.05}


def _constants_unknown(preset: presets.Preset) -> bool:
    """Whether a problem may lack L: networks do, and what was handed in may."""
    return getattr(preset, "model", "logistic") != "logistic" or preset.kind in ("", "language")
