"""The command line's words as objects: a problem, a method, the settings of a run (`octolab.notation` reads each word)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from octolab.notation import arguments_of_text, build, from_text, number, read, split_list
from octolab.params import params
from octolab.rooms import find, members, nearest


def make_problem(a: argparse.Namespace) -> Any:
    """The problem of --problem and the options that go with it."""
    from octolab import problems

    kind = a.problem.partition(":")[0]
    if kind in ("quadratics", "tridiagonal"):
        wrong = [f"--{n}" for n in ("model", "split", "l2", "client", "groups") if getattr(a, n) is not None]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} is for data sets; {kind} has none. Leave it out.")
        _, arguments = arguments_of_text(a.problem, "problems")
        if a.clients is not None:
            arguments["n"] = a.clients
        if kind == "quadratics":
            arguments.setdefault("seed", a.data_seed)
        return build("problems", kind, arguments)
    real = a.regression or a.model == "linear"
    models = problems.FROM_DATA["regression" if real else "classification"][1]
    model = a.model or models[0]
    if model not in models:
        raise ValueError(f"--model {model}: choose {', '.join(models)}.{nearest(model, models)}")
    make = problems.regression if real else problems.classification
    given = {**columns(a), "clients": a.clients, "l2": a.l2, "validation_share": a.validation_share}
    if a.split is not None:
        given["split"] = make_split(a.split)
    return make(a.problem, model, seed=a.data_seed, **{name: v for name, v in given.items() if v is not None})


def columns(a: argparse.Namespace) -> dict[str, str]:
    """The columns that --target, --client and --groups name, as `ol.data.load` calls them."""
    given = {"target": a.target_column, "client": a.client, "groups": a.groups}
    return {name: column for name, column in given.items() if column is not None}


def make_split(text: str) -> Any:
    """`dirichlet:0.3` or `shards:per_client=2,by=classes` as a split."""
    return from_text(text, "splits")


def make_method(text: str, sets: Sequence[str], several: bool = False) -> Any:
    """A method from `slug` or `slug:name=value,...` and the --set options (several: those that it has)."""
    slug, _, own = text.partition(":")
    cls = find("methods", slug)
    known = params(cls)
    given = {}
    for pair in [*sets, *split_list(own, ",")]:
        name, equals, word = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r}: write NAME=VALUE, e.g. lr=0.1.")
        if name not in known:
            if several and pair in sets:
                continue
            raise ValueError(f"{slug} has no hyperparameter {name!r}.{nearest(name, known)} It has {', '.join(known)}.")
        scheduled = name == "lr" and word.partition(":")[0].lower() in map(str.lower, members("schedules"))
        given[name] = from_text(word, "schedules") if scheduled else read(known[name], word, cls.__name__)
    return cls(**given)


def check_used(made: Sequence[Any], sets: Sequence[str]) -> None:
    """Refuse a --set that none of the methods has."""
    for pair in sets:
        name = pair.partition("=")[0]
        if not any(hasattr(m, name) for m in made):
            known = sorted({f for m in made for f in params(type(m))})
            raise ValueError(
                f"--set {pair}: none of the methods has {name!r}.{nearest(name, known)} They have {', '.join(known)}."
            )


def make_target(text: str | None) -> dict[str, float] | None:
    """`0.3` (a loss) or `accuracy=0.9` as a target of a table."""
    if text is None:
        return None
    name, equals, word = text.rpartition("=")
    value = number(word)
    if isinstance(value, str) or (equals and not name):
        raise ValueError(f"--target {text}: write a loss, such as 0.3, or a column and a value, such as accuracy=0.9.")
    return {name or "loss": float(value)}


def make_plan(a: argparse.Namespace) -> dict[str, Any]:
    """The settings of a run: rounds, until, fleet, ..."""
    from octolab.experiment import Until
    from octolab.federation import Fleet

    until: dict[str, Any] = {}
    for pair in a.until:
        name, equals, word = pair.partition("=")
        limit = number(word)
        if not equals or isinstance(limit, str):
            raise ValueError(
                f"--until {pair}: write loss, grad_norm_sq, bits, seconds or another column and a number, e.g. loss=0.3."
            )
        until[name] = float(limit)
    fleet = {n: getattr(a, f"fleet_{n}") for n in ("seconds", "up", "down", "latency", "dropout")}
    devices: dict[str, Any] = {n: _numbers(v, f"--fleet-{n}") for n, v in fleet.items() if v is not None}
    if a.fleet_unit is not None:
        devices["unit"] = a.fleet_unit
    return {
        "rounds": a.rounds,
        "until": Until(**until) if until else None,
        "metrics": a.metrics.split(",") if a.metrics else None,
        "fleet": Fleet(**devices) if devices else None,
        "deadline": a.deadline,
        "dtype": a.dtype,
        "evaluate_every": a.evaluate_every,
    }


def _numbers(word: str, option: str) -> Any:
    values = [number(w) for w in word.split(",")]
    if any(isinstance(v, str) for v in values):
        raise ValueError(f"{option} {word}: give one number, or one per client, comma separated.")
    return float(values[0]) if len(values) == 1 else [float(v) for v in values]


def whole_number(word: str, option: str) -> int:
    """An option's whole number; ValueError, in words, if it is none."""
    value = number(word)
    if not isinstance(value, int):
        raise ValueError(f"{option} {word}: give whole numbers, comma separated, e.g. 0,1,2.")
    return value
