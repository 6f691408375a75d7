"""A checker of methods: what every method in octolab keeps, and what yours can keep too.

    import octolab as ol
    ol.testing.check_method(MyMethod(lr=0.1))            # on the three standard problems
    ol.testing.check_method(MyMethod(lr=0.1), problem)   # on a problem of your own

Each promise is a function `(method, problem) -> remark`. Its docstring is the promise in one sentence; it raises
AssertionError with what was broken, or `NotApplicable` with the reason why it does not concern the method.
`tests/conformance` asks all of them of every method in the catalogue.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from octolab import compressors, methods, problems
from octolab.errors import AssumptionWarning, OutsideAssumptions, UnknownConstant
from octolab.experiment import Run, from_spec, resume
from octolab.experiment.front import prepare
from octolab.federation import Fleet
from octolab.federation.payloads import Dense
from octolab.methods import Method, Theory

__all__ = ["PROMISES", "STANDARD", "NotApplicable", "Report", "check_method", "fitted", "home"]

ROUNDS = 6
Promise = Callable[[Method, Any], "str | None"]


class NotApplicable(Exception):
    """A promise does not concern this method on this problem; the message says why."""


@dataclass(frozen=True)
class Report:
    """What `check_method` found: one line (problem, promise, "kept" or "not applicable", remark) each."""

    method: str
    lines: tuple[tuple[str, str, str, str], ...]

    def __str__(self) -> str:
        body = [f"  {where:<11} {name:<22} {what}{': ' + why if why else ''}" for where, name, what, why in self.lines]
        return "\n".join([f"{self.method} keeps its promises", *body])

    __repr__ = __str__


def check_method(method: Method, problem: Any = None) -> Report:
    """Ask every promise of `PROMISES` of a method, on its three standard problems or on `problem`.

    Raises AssertionError with one sentence per broken promise; else returns the `Report`. A few seconds.

    >>> import octolab as ol
    >>> report = check_method(ol.methods.GD(), ol.problems.quadratics(n=4, d=3))
    """
    if not isinstance(method, Method):
        raise ValueError(f"check_method({method!r}): give a method, that is, an instance such as MyMethod(lr=0.1).")
    chosen = {name: make(method) for name, make in STANDARD.items()} if problem is None else {problem.name: problem}
    lines, broken = [], []
    for k, (where, p) in enumerate(chosen.items()):
        for name, promise in PROMISES.items():
            if k and name in ONCE:
                continue
            try:
                lines.append((where, name, "kept", promise(method, p) or ""))
            except NotApplicable as reason:
                lines.append((where, name, "not applicable", str(reason)))
            except Exception as error:  # a crash breaks a promise too
                kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
                sentence = " ".join((promise.__doc__ or name).split())
                broken.append(f"{type(method).__name__} on {where} breaks {name!r} ({sentence}) {kind}{error}")
    assert not broken, "\n".join(broken)
    return Report(repr(method), tuple(lines))


# -- problems and methods that fit ----------------------------------------------------------------------------------
def home(method: Method, n: int = 6, d: int = 12) -> Any:
    """A small problem on which the method's assumptions hold."""
    if "homogeneous" in method.needs:
        return problems.Tridiagonal(d=d, n=n, noise=0.01)
    return problems.quadratics(n=n, d=d, L=10, mu=1)


def logistic(method: Method) -> Any:
    """Logistic regression on breast-cancer, six clients."""
    return problems.classification("breast-cancer", clients=6)


def network(method: Method) -> Any:
    """A small network on digits, six clients; its constants are unknown."""
    return problems.classification("digits", model="mlp", clients=6, dtype="float64")


STANDARD: dict[str, Callable[[Method], Any]] = {"quadratics": home, "logistic": logistic, "network": network}
"""The three standard problems; on the first, the method's theory holds."""


def fitted(method: Method, problem: Any) -> Method:
    """The method, with a number for every `Theory()` if the problem's constants are unknown.

    Raises `NotApplicable` if the method refuses the problem.
    """
    try:
        with _quiet():
            method.resolve(problem)
        return method
    except OutsideAssumptions as refusal:
        raise NotApplicable(f"refused: {refusal}") from None
    except UnknownConstant:
        numbers = {}
        for f in dataclasses.fields(method):
            if isinstance(getattr(method, f.name), Theory):
                whole = "int" in str(f.type) and "float" not in str(f.type)
                numbers[f.name] = 2 if whole else 0.05 if f.name == "lr" else 0.5
        return dataclasses.replace(method, **numbers)


def _start(method: Method, problem: Any, rounds: int = ROUNDS, **settings: Any) -> Run:
    with _quiet():
        return prepare(fitted(method, problem), problem, rounds=rounds, **settings)


def _run(method: Method, problem: Any, rounds: int = ROUNDS, **settings: Any) -> Run:
    run = _start(method, problem, rounds, **settings)
    with _quiet():
        run.finish()
    assert run.status != "diverged", f"the run diverged: {run.error}"
    return run


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


# -- two runs side by side --------------------------------------------------------------------------------------------
def everything(run: Run) -> dict[str, Any]:
    """All that moves in a run, flat: name -> tensor, array or number."""
    fed, out = run.federation, {}

    def put(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for k, v in value.items():
                put(f"{name}.{k}", v)
        elif isinstance(value, tuple) and hasattr(value, "_fields"):
            put(name, value._asdict())
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            put(name, {f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
        elif isinstance(value, (list, tuple)):
            put(name, dict(enumerate(value)))
        else:
            out[name] = value

    put("state", run.state)
    put("memory", dict(fed.memory.items()))
    put("ledger", {c: fed.ledger.per_client(c) for c in fed.ledger._each})
    put("clock", fed.now)
    put("counters", fed.counters)
    put("history", {"rows": run.recorder.rows, **run.recorder.sparse})
    if fed._jobs is not None:
        alive = [job for job in fed._jobs.current if job is not None]
        put("jobs", [(j.client, j.number, j.tag, j.time, j.state, j.down) for j in alive])
    return out


def difference(a: Run, b: Run, tol: float = 0.0, skip: tuple[str, ...] = ()) -> str:
    """The first thing in which two runs differ ("" if none): bitwise, or by more than `tol` relative to its size."""
    one, two = everything(a), everything(b)
    if set(one) != set(two):
        return f"one holds {sorted(set(one) ^ set(two))[:3]}, the other does not"
    for name in sorted(one):
        u, v = one[name], two[name]
        if name.startswith(skip) if skip else False:
            continue
        if isinstance(u, str) or u is None:
            if u != v:
                return f"{name}: {u!r} and {v!r}"
            continue
        u, v = np.asarray(u), np.asarray(v)
        if u.shape != v.shape or u.dtype != v.dtype:
            return f"{name}: {u.dtype}{u.shape} and {v.dtype}{v.shape}"
        if not np.array_equal(u, v, equal_nan=u.dtype.kind == "f"):
            gap = float(np.max(np.abs(u - v))) if u.dtype.kind in "fi" else math.inf
            if not gap <= tol * max(1.0, float(np.max(np.abs(u)))):
                return f"{name} differs by {gap:.3g}"
    return ""


# -- the promises: what a run does ---------------------------------------------------------------------------------
def runs(method: Method, problem: Any) -> str | None:
    """A method runs with its defaults: all rounds, finite numbers, a history with a row per round."""
    run = _run(method, problem)
    assert run.status == "finished" and run.round == ROUNDS, f"it ended {run.status} at round {run.round}: {run.error}"
    assert run.x.shape == (problem.d,), f"model(state) has shape {tuple(run.x.shape)}, not ({problem.d},)."
    assert run.x.dtype == problem.dtype, f"the model is {run.x.dtype}, the problem {problem.dtype}."
    table = run.history
    assert list(table["round"]) == list(range(ROUNDS + 1)), "the history lacks rounds."
    assert bool(table[["loss", "grad_norm_sq", "bits_up", "time"]].notna().all().all()), "the history has holes."
    assert bool((table[["time", "bits_up", "bits_down", "gradients"]].diff().iloc[1:] >= 0).all().all()), (
        "time, bits or work went down."
    )
    return None


def repeats(method: Method, problem: Any) -> str | None:
    """The same seed gives bitwise the same run."""
    found = difference(_run(method, problem, seed=3), _run(method, problem, seed=3))
    assert not found, f"two runs with seed 3 are not the same: {found}."
    return None


def one_by_one(method: Method, problem: Any) -> str | None:
    """All clients in one pass, one client at a time and four at a time are the same run to 1e-10 in float64."""
    twin = problem if problem.dtype == torch.float64 else problem.with_dtype(torch.float64)
    whole = _run(method, twin, executor="stacked")
    for executor in ("loop", 4):
        found = difference(whole, _run(method, twin, executor=executor), tol=1e-10)
        assert not found, f"executor={executor!r} is not executor='stacked': {found}."
    return None


def threads(method: Method, problem: Any) -> str | None:
    """The number of threads does not change a bit."""
    big = home(method, n=60, d=8)
    big = _with(big, chunk=16)  # several passes, so that threads have something to share
    found = difference(_run(method, big, threads=1), _run(method, big, threads=3))
    assert not found, f"threads=3 is not threads=1: {found}."
    return None


def _with(problem: Any, **attributes: Any) -> Any:
    twin = copy.copy(problem)
    for name in attributes:
        twin.__dict__.pop(name, None)
    twin.__class__ = type(type(problem).__name__, (type(problem),), attributes)
    return twin


def resumes(method: Method, problem: Any) -> str | None:
    """Saved, loaded and resumed after any step, a run is bitwise the uninterrupted one."""
    whole = _run(method, problem)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.octo")
        for k in range(ROUNDS):
            part = _start(method, problem).advance(k + 1)
            part.save(path)
            with _quiet():
                again = resume(path, **_cannot_rebuild(part))
            found = difference(whole, again)
            assert not found, f"saved after step {k} and resumed, the run is another: {found}."
    return None


def _cannot_rebuild(run: Run) -> dict[str, Any]:
    """What a spec or a run file does not hold: a problem of given arrays, a method outside the catalogue."""
    known = run.given.slug in methods.slugs() and methods.get(run.given.slug) is type(run.given)
    mine = {} if known else {"method": run.given}
    return mine | ({"problem": run.problem} if "given" in run.problem.spec else {})


def stops(method: Method, problem: Any) -> str | None:
    """Stopped after every single round and taken up again, a run is bitwise the uninterrupted one."""
    whole, run = _run(method, problem), _start(method, problem)
    with _quiet():
        for _ in range(ROUNDS + 2):
            run.finish(progress=lambda r: r.stop())
    assert run.status == "finished", f"finish() does not take up a stopped run: it stands at round {run.round}."
    found = difference(whole, run)
    assert not found, f"stopped and taken up again, the run is another: {found}."
    return None


def forks(method: Method, problem: Any) -> str | None:
    """A fork goes its own way: what it does leaves the original alone, and without changes both end alike."""
    whole, run = _run(method, problem), _start(method, problem).advance(ROUNDS // 2 + 1)
    with _quiet():
        twin, other = run.fork().finish(), run.fork(seed=77).finish()
        run.finish()
    for name, one in (("the fork", twin), ("the original, after its fork ran,", run)):
        found = difference(whole, one)
        assert not found, f"{name} is not the uninterrupted run: {found}."
    assert other.settings.seed == 77, "fork(seed=77) kept the old seed."
    return None


def bits(method: Method, problem: Any) -> str | None:
    """Every bit in the ledger was sent: messages encode to that many bytes, and decode to what the server used."""
    run = _start(method, problem)
    wire = Wire(run.federation)
    with _quiet():
        run.finish()
    ledger = run.federation.ledger
    for column, sent in (("up", wire.arrived()), ("down", wire.down)):
        charged = ledger.per_client("up") if column == "up" else ledger.per_client("down") + ledger.per_client("broadcast")
        gap = np.abs(charged - sent)
        if column == "down" and wire.jobs:
            continue  # a worker that holds the point already is not sent it again
        assert gap.max() == 0, f"client {gap.argmax()}: {charged[gap.argmax()]:.0f} bits {column} are charged, {sent[gap.argmax()]:.0f} were sent."
    if not wire.messages:
        raise NotApplicable(f"nothing was sent in {ROUNDS} rounds.")
    return f"{wire.messages} messages"


class Wire:
    """Listens to a federation: encodes every message, and counts the bits that really went over the wire."""

    def __init__(self, fed: Any):
        self.n, self.messages, self.jobs = fed.n, 0, []
        self.up, self.down = np.zeros(fed.n), np.zeros(fed.n)
        evaluate, following = fed._executor.run, fed.jobs.next

        def run(fed: Any, fn: Any, ids: np.ndarray, down: tuple, event: int) -> Any:
            result = evaluate(fed, fn, ids, down, event)
            for payload in result.payloads:
                if payload is not None:
                    np.add.at(self.up, ids, self.weigh(payload))
            np.add.at(self.down, ids, sum(_size(item) for item in down))
            return result

        def arrival() -> Any:
            self.jobs.append(following())
            return self.jobs[-1]

        fed._executor.run, fed.jobs.next = run, arrival

    def arrived(self) -> np.ndarray:
        """Bits up per client, jobs included; those that the server ignored are evaluated now."""
        for job in self.jobs:
            self.up[job.client] += self.weigh(job.payload)[0]
        return self.up

    def weigh(self, payload: Any) -> np.ndarray:
        """Bits (m,) of stacked messages, each compared with its bytes."""
        each = np.zeros(len(payload))
        for i in range(len(payload)):
            message = payload[i]
            data, each[i] = message.encode(), message.bits
            assert len(data) == math.ceil(each[i] / 8), f"{message!r} encodes to {len(data)} bytes."
            back, here = type(message).decode(data, message.meta).dense(), message.dense()
            close = torch.allclose(back.double(), here.double(), rtol=1e-6, atol=1e-30 + 1e-6 * float(here.abs().max()))
            assert close, f"{message!r} does not decode to what the server used."
            self.messages += 1
        return each


def _size(item: Any) -> float:
    """Bits of one thing sent down, from its bytes."""
    if isinstance(item, torch.Tensor):
        return 8.0 * len(Dense(item.reshape(-1)).encode())
    if isinstance(item, (bool, np.bool_)):
        return 1.0
    if hasattr(item, "values") and isinstance(item.values, torch.Tensor):
        return 32.0 * item.values[0].numel()
    if isinstance(item, (list, tuple)):
        return sum(_size(i) for i in item)
    return 0.0 if item is None else float(item.bits) if hasattr(item, "bits") else 32.0


def drop_outs(method: Method, problem: Any) -> str | None:
    """Devices that drop out lose nothing: they keep their memory, and the server's sums stay those of the clients."""
    run = _run(method, problem, rounds=15, fleet=Fleet(dropout=0.4))
    alone = run.federation._jobs is not None  # asynchronous: those who drop out are gone for good
    assert run.status == "finished" or (alone and run.status == "stalled"), f"the run ended {run.status}: {run.error}"
    state, memory = everything_named(run.state), dict(run.federation.memory.items())
    sums = [name for name in memory if name != "x" and name in state and state[name].shape == memory[name].shape[1:]]
    for name in sums:
        total = torch.tensordot(run.federation.weights, memory[name], 1)
        gap = float((total - state[name]).abs().max())
        assert gap <= 1e-10 * max(1.0, float(memory[name].abs().max())), (
            f"the server's {name} is not the mean of the clients' {name} after drop-outs: they differ by {gap:.3g}."
        )
    gone = np.zeros(problem.n)
    gone[0] = 1.0
    absent = _start(method, problem, rounds=8, fleet=Fleet(dropout=gone))
    absent.advance(1)
    before = {k: v[0].clone() for k, v in absent.federation.memory.items()}
    with _quiet():
        absent.finish()
    for name, value in before.items():
        assert torch.equal(value, absent.federation.memory[name][0]), f"client 0 never replied, but its {name} changed."
    return f"server and clients agree on {', '.join(sums)}" if sums else None


def everything_named(state: Any) -> dict[str, torch.Tensor]:
    """The tensors of a state by their field names."""
    named = state._asdict() if hasattr(state, "_asdict") else vars(state) if hasattr(state, "__dict__") else {}
    if dataclasses.is_dataclass(state):
        named = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    return {k: v for k, v in named.items() if isinstance(v, torch.Tensor)}


def descends(method: Method, problem: Any) -> str | None:
    """Where its theory holds, the default step brings the loss down."""
    p = home(method)
    run = _run(method, p, rounds=100)
    first, last = p.value(p.x0), p.value(run.x)
    assert last < first, f"the loss went from {first:.4g} to {last:.4g} in 100 rounds on {p.name}."
    return f"{first:.3g} to {last:.3g} in 100 rounds"


def spec(method: Method, problem: Any) -> str | None:
    """The run's JSON spec makes bitwise the same run."""
    run = _run(method, problem)
    text = json.dumps(run.spec)
    with _quiet():
        again = from_spec(json.loads(text), **_cannot_rebuild(run)).finish()
    found = difference(run, again)
    assert not found, f"from_spec(run.spec) makes another run: {found}."
    assert again.spec["hash"] == run.spec["hash"], "the spec's hash changes on the way through JSON."
    return None


# -- the promises: what a method says -------------------------------------------------------------------------------
def refuses_bad_values(method: Method, problem: Any) -> str | None:
    """A hyperparameter out of range raises a ValueError that names the field, the value and what is allowed."""
    tried = 0
    for f in dataclasses.fields(method):
        for bad, words in _bad_values(f, getattr(method, f.name)):
            try:
                dataclasses.replace(method, **{f.name: bad})
            except ValueError as error:
                for word in (f.name, repr(bad), *words):
                    assert word in str(error), f"{f.name}={bad!r} is refused without saying {word!r}: {error}"
                tried += 1
            else:
                raise AssertionError(f"{f.name}={bad!r} is accepted.")
    if not tried:
        raise NotApplicable("no field declares what it allows; use param(default, doc, above=..., upto=...).")
    return f"{tried} bad values refused"


def _bad_values(f: dataclasses.Field, value: Any) -> Iterator[tuple[Any, list[str]]]:
    """Bad values of a field, and the words that the refusal must hold."""
    rule = f.metadata
    if rule.get("choices"):
        yield "nonsense", [repr(c) for c in rule["choices"]]
        return
    if isinstance(value, compressors.Compressor):
        yield "nonsense", ["compressor"]
        return
    bounds = {k: rule[k] for k in ("above", "low", "upto", "below") if rule.get(k) is not None}
    for name, bound in bounds.items():
        whole = "int" in str(f.type) and "float" not in str(f.type)
        off = 1 if whole or name in ("low", "upto") else 0
        yield bound - off if name in ("above", "low") else bound + off, [f"{bound:g}"]
    if bounds:
        yield math.nan, [f"{b:g}" for b in bounds.values()]
        yield math.inf, [f"{b:g}" for b in bounds.values()]
        yield "nonsense", [f"{b:g}" for b in bounds.values()]


def keeps_to_assumptions(method: Method, problem: Any) -> str | None:
    """Used outside its assumptions, a method warns or refuses, in words."""
    said = []
    for f in dataclasses.fields(method):
        own = getattr(method, f.name)
        if not isinstance(own, compressors.Compressor) or own.axes != 1:
            continue
        for need, wrong in (("unbiased", compressors.TopK(1)), ("contractive", compressors.RandK(1))):
            if need in method.needs:
                said.append(_refusal(dataclasses.replace(method, **{f.name: wrong}), home(method), need))
    elsewhere = {
        "homogeneous": problems.quadratics(n=4, d=6),
        "strongly convex": _with(problems.quadratics(n=4, d=6), strongly_convex=False),
        "hessian": _with(problems.quadratics(n=4, d=6), has_hessian=False),
    }
    for need, where in elsewhere.items():
        if need in method.needs:
            said.append(_refusal(method, where, {"hessian": "Hessian", "strongly convex": "strong convexity", "homogeneous": "heterogeneous"}[need]))
    if not said:
        raise NotApplicable(f"it declares no need that can be checked (needs = {method.needs}).")
    return f"{len(said)} misuses answered"


def _refusal(method: Method, problem: Any, word: str) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            method.resolve(problem)
        except OutsideAssumptions as error:
            text = str(error)
        else:
            text = " ".join(str(w.message) for w in caught if issubclass(w.category, AssumptionWarning))
    assert word in text, f"{method!r} on {problem.name} neither warns nor refuses with a word on {word!r}: {text!r}."
    return text


def card(method: Method, problem: Any) -> str | None:
    """The card is complete: title, authors, venue, arXiv id (or none), what it solves, use, avoid, assumes, algorithm."""
    c = method.card
    wanted = ("name", "summary", "title", "authors", "venue", "solves", "use", "avoid", "assumes", "algorithm", "up", "down", "step_size")
    missing = [part for part in wanted if not getattr(c, part)]
    assert not missing, f"the page's docstring lacks {', '.join(missing)}."
    assert re.match(r"(none|\d{4}\.\d{4,5})\b", c.arxiv), f"arXiv: {c.arxiv!r} is neither an id such as 2106.05203 nor none."
    for f in dataclasses.fields(method):
        assert f.metadata.get("doc"), f"the hyperparameter {f.name} has no line of documentation; use param(default, doc)."
    assert c.title in str(c) and c.title in c._repr_html_().replace("&#x27;", "'").replace("&amp;", "&"), "the card hides its title."
    return None


def page(method: Method, problem: Any) -> str | None:
    """A page can be read in one sitting: at most 160 lines."""
    try:
        lines = len(inspect.getsource(inspect.getmodule(type(method)) or type(method)).splitlines())
    except (OSError, TypeError):
        raise NotApplicable("its source is not in a file.") from None
    if not type(method).__module__.startswith("octolab.methods."):
        raise NotApplicable("it is not one of octolab's own pages.")
    assert 40 <= lines <= 160, f"the page has {lines} lines."
    return f"{lines} lines"


_ALL: tuple[Promise, ...] = (
    runs, repeats, one_by_one, threads, resumes, stops, forks, bits, drop_outs, descends, spec,
    refuses_bad_values, keeps_to_assumptions, card, page,
)  # fmt: skip
PROMISES: dict[str, Promise] = {promise.__name__: promise for promise in _ALL}
"""Every promise by name: a function (method, problem) -> remark."""
ONCE = ("threads", "descends", "refuses_bad_values", "keeps_to_assumptions", "card", "page")
"""Promises that need no problem, or bring their own."""
