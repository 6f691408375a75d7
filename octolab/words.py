"""Objects written as words, for the command line: `TopK:0.05`, `dirichlet:0.3`, `ef21:lr=theory:4`.

Names are looked up among octolab's own; nothing is ever evaluated. What is not understood raises a ValueError
with the nearest names.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
from collections.abc import Sequence
from typing import Any


def make_problem(a: argparse.Namespace) -> Any:
    """The problem of --problem, --model, --clients, --split, --l2 and --data-seed."""
    from octolab import problems

    kind, _, rest = a.problem.partition(":")
    if kind in ("quadratics", "tridiagonal"):
        wrong = [f"--{n}" for n in ("model", "split", "l2") if getattr(a, n) is not None]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} is for data sets; {kind} has none. Leave it out.")
        arguments = _arguments(rest, kind)
        if a.clients is not None:
            arguments["n"] = a.clients
        if kind == "quadratics":
            arguments.setdefault("seed", a.data_seed)
        make: Any = problems.quadratics if kind == "quadratics" else problems.Tridiagonal
        return _build(make, arguments, kind)
    model = a.model or "logistic"
    if model not in ("logistic", "mlp", "cnn"):
        raise ValueError(f"--model {model}: choose logistic, mlp or cnn.{_near(model, ('logistic', 'mlp', 'cnn'))}")
    split = None if a.split is None else make_split(a.split)
    return problems.classification(a.problem, model, clients=a.clients, split=split, l2=a.l2, seed=a.data_seed)


def make_split(text: str) -> Any:
    """`dirichlet:0.3` or `shards:per_client=2,by=classes` as a split."""
    from octolab.data import splits

    name, _, rest = text.partition(":")
    known = {k.lower(): v for k, v in splits.KINDS.items()}
    key = name.lower().replace("-", "").replace("_", "")
    if key not in known:
        raise ValueError(f"There is no split {name!r}.{_near(key, known)} Known are {', '.join(known)}.")
    return _build(known[key], _arguments(rest, text, field_names(known[key])), name)


def make_method(text: str, sets: Sequence[str], several: bool = False) -> Any:
    """A method from `slug` or `slug:name=value,...` and the --set options (several: those that it has)."""
    from octolab import methods as catalogue

    slug, _, own = text.partition(":")
    cls = catalogue.get(slug)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    given = {}
    for pair in [*sets, *([p for p in own.split(",")] if own else [])]:
        name, equals, word = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r}: write NAME=VALUE, e.g. lr=0.1.")
        if name not in fields:
            if several and pair in sets:
                continue
            raise ValueError(f"{slug} has no hyperparameter {name!r}.{_near(name, fields)} It has {', '.join(fields)}.")
        given[name] = parse_value(word, fields[name])
    return cls(**given)


def check_used(made: Sequence[Any], sets: Sequence[str]) -> None:
    for pair in sets:
        name = pair.partition("=")[0]
        if not any(hasattr(m, name) for m in made):
            known = sorted({f for m in made for f in field_names(m)})
            raise ValueError(
                f"--set {pair}: none of the methods has {name!r}.{_near(name, known)} They have {', '.join(known)}."
            )


def parse_value(word: str, field: Any) -> Any:
    """A hyperparameter's value from text, by the type of its field.

    Numbers, none, true, false; theory or theory:MULTIPLIER; a compressor, aggregator or sampler as Name or
    Name:argument,name=argument, or in JSON ({"kind": "TopK", "k": 0.05}).
    """
    from octolab.methods import Theory

    kind, low = str(field.type), word.strip().lower()
    if low == "none" and "None" in kind:
        return None
    if "Theory" in kind and low.partition(":")[0] == "theory":
        _, _, times = low.partition(":")
        return Theory(float(_number(times))) if times else Theory()
    if "Compressor" in kind:
        return make_compressor(word)
    if kind == "bool":
        if low not in ("true", "false"):
            raise ValueError(f"{field.name}={word}: write true or false.")
        return low == "true"
    if kind.startswith("str"):
        return word
    number = _number(word)
    if not isinstance(number, str):
        return number
    if "Sampler" in kind:
        from octolab import federation

        names = {n: getattr(federation, n) for n in ("Nice", "Poisson", "Importance", "Weighted", "Full")}
        return _object(word, names, "sampler")
    if "Callable" in kind:
        from octolab.trust import aggregators

        names = {
            n: v
            for n, v in vars(aggregators).items()
            if isinstance(v, type) and n[0].isupper() and v.__module__ == aggregators.__name__
        }
        return _object(word, names, "aggregator")
    return word  # the method's own check says what is allowed


def make_compressor(word: str) -> Any:
    """`TopK:0.05`, `RandK:0.1|Natural`, or a spec in JSON."""
    from octolab import compressors

    if word.lstrip().startswith("{"):
        try:
            return compressors.from_spec(json.loads(word))
        except json.JSONDecodeError as error:
            raise ValueError(f"compressor={word}: not JSON ({error}).") from None
    parts = [_object(part, compressors.Compressor.kinds, "compressor") for part in word.split("|")]
    out = parts[0]
    for part in parts[1:]:
        out = out | part
    return out


def _object(word: str, known: dict[str, Any], what: str) -> Any:
    """Name:argument,name=argument as an instance of one of the known classes."""
    name, _, rest = word.strip().partition(":")
    match = {k.lower(): v for k, v in known.items()}.get(name.lower())
    if match is None:
        raise ValueError(f"There is no {what} {name!r}.{_near(name, known)} Known are {', '.join(sorted(known))}.")
    return _build(match, _arguments(rest, word, field_names(match)), name)


def field_names(thing: Any) -> list[str]:
    """The names of a dataclass's fields, in order."""
    return [f.name for f in dataclasses.fields(thing)] if dataclasses.is_dataclass(thing) else []


def _arguments(rest: str, whole: str, order: Sequence[str] = ()) -> dict[str, Any]:
    """`0.3` or `L=100,mu=1` as keyword arguments; unnamed ones take the names in `order`."""
    out: dict[str, Any] = {}
    for i, piece in enumerate(rest.split(",") if rest else ()):
        name, equals, word = piece.partition("=")
        if not equals:
            if i >= len(order):
                raise ValueError(f"{whole!r}: write name=value for {piece!r}.")
            name, word = order[i], piece
        out[name.strip()] = _number(word)
    return out


def _build(make: Any, arguments: dict[str, Any], name: str) -> Any:
    import inspect

    known = [p for p in inspect.signature(make).parameters if p != "dtype"]
    wrong = [k for k in arguments if k not in known]
    if wrong:
        raise ValueError(
            f"{name} has no argument {wrong[0]!r}.{_near(wrong[0], known)} It has {', '.join(known) or 'none'}."
        )
    try:
        return make(**arguments)
    except TypeError as error:
        raise ValueError(f"{name} cannot be made from {arguments}: {error}.") from None


def make_plan(a: argparse.Namespace) -> dict[str, Any]:
    """The settings of a run: rounds, until, fleet, ..."""
    from octolab.experiment import Until
    from octolab.federation import Fleet

    until = {}
    for pair in a.until:
        name, equals, word = pair.partition("=")
        known = ("loss", "grad_norm_sq", "bits", "seconds")
        number = _number(word)
        if not equals or name not in known or isinstance(number, str):
            raise ValueError(
                f"--until {pair}: write one of {', '.join(known)} and a number, e.g. loss=0.3.{_near(name, known)}"
            )
        until[name] = float(number)
    fleet = {n: getattr(a, f"fleet_{n}") for n in ("seconds", "up", "down", "latency", "dropout")}
    devices: dict[str, Any] = {n: _numbers(v, f"--fleet-{n}") for n, v in fleet.items() if v is not None}
    if a.fleet_unit is not None:
        devices["unit"] = a.fleet_unit
    return {
        "rounds": a.rounds,
        "until": Until(**until) if until else None,
        "fleet": Fleet(**devices) if devices else None,
        "deadline": a.deadline,
        "dtype": a.dtype,
        "evaluate_every": a.evaluate_every,
    }


def _number(word: str) -> Any:
    """An int or a float if the word is one, else the word."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return word.strip()


def _numbers(word: str, option: str) -> Any:
    values = [_number(w) for w in word.split(",")]
    if any(isinstance(v, str) for v in values):
        raise ValueError(f"{option} {word}: give one number, or one per client, comma separated.")
    return float(values[0]) if len(values) == 1 else [float(v) for v in values]


def whole_number(word: str, option: str) -> int:
    number = _number(word)
    if not isinstance(number, int):
        raise ValueError(f"{option} {word}: give whole numbers, comma separated, e.g. 0,1,2.")
    return number


def _near(word: str, known: Any) -> str:
    by_lower = {str(k).lower(): str(k) for k in known}
    near = difflib.get_close_matches(word.lower(), by_lower, 2, 0.5)
    return f" Did you mean {' or '.join(by_lower[n] for n in near)}?" if near else ""
