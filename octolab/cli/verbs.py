"""What the verbs of the command line do: each takes the parsed words and prints its result."""

from __future__ import annotations

import argparse
import os
import sys

from octolab import data as data_sets
from octolab import experiment
from octolab import methods as catalogue
from octolab.cli.arguments import (
    check_used,
    columns,
    make_method,
    make_plan,
    make_problem,
    make_split,
    make_target,
    whole_number,
)
from octolab.cli.printing import page, print_json, report
from octolab.experiment import Run
from octolab.experiment.compare import written
from octolab.experiment.launch import prepare
from octolab.rooms import members


def run(a: argparse.Namespace) -> None:
    """One method on a problem. Interrupted, what there is by then is saved and shown."""
    from octolab.experiment import progress

    prepared = _prepared(a)
    _check_places(a.save, a.csv)
    try:
        progress.watch(prepared)
    except KeyboardInterrupt:
        if prepared.round < 0:
            raise
        report(prepared, a)
        raise
    _finished(prepared, a)


def _finished(run: Run, a: argparse.Namespace) -> None:
    report(run, a)
    if run.status == "stopped":
        raise KeyboardInterrupt


def _prepared(a: argparse.Namespace) -> Run:
    """The run that the words ask for, not started."""
    if (a.spec is None) == (a.method is None):
        raise ValueError(f"Give a method, such as `octolab {a.verb} ... ef21`, or --spec FILE, and not both.")
    if a.spec is None:
        return prepare(make_method(a.method, a.set), make_problem(a), seed=a.seed, **make_plan(a))
    if a.spec.endswith(".octo"):
        return experiment.load_run(a.spec, allow=a.allow)
    return experiment.from_spec(_text(a.spec), allow=a.allow)


def export(a: argparse.Namespace) -> None:
    """A run as an app of another system."""
    folder = _prepared(a).export_flower_app(a.folder, replace=a.replace)
    print_json({"folder": folder}) if a.json else print(f"wrote {folder}: cd there, read README.md, `flwr run`")


def resume(a: argparse.Namespace) -> None:
    """Go on with a saved run."""
    _check_places(a.save, a.csv)
    _finished(experiment.resume(a.file, rounds=a.rounds, allow=a.allow), a)


def compare(a: argparse.Namespace) -> None:
    """Several methods, one table."""
    made = [make_method(text, a.set, several=True) for text in a.methods]
    check_used(made, a.set)
    seeds = [whole_number(s, "--seeds") for s in a.seeds.split(",")]
    problem, plan = make_problem(a), make_plan(a)
    _check_places(a.html, a.csv)
    result = experiment.compare(made, problem, seeds=seeds, tune=a.tune, x=a.x, **plan)
    if a.csv:
        result.history.to_csv(a.csv, index=False)
    if a.html:
        with open(a.html, "w", encoding="utf-8") as file:
            file.write(page(result))
    table = result.table(make_target(a.target))
    if a.json:
        print_json({"problem": problem.spec, "methods": table.reset_index().to_dict("records")})
    else:
        print(f"{problem!r}\n\n{written(table)}")
        for place in filter(None, (a.html, a.csv)):
            print(f"wrote {place}")


def methods(a: argparse.Namespace) -> None:
    """The catalogue, or a card of it."""
    if a.slug is not None:
        card = catalogue.get(a.slug).describe()
        print_json(card.to_dict()) if a.json else print(card)
        return
    cards = catalogue.cards()
    if a.json:
        print_json([card.to_dict() for card in cards])
        return
    width = max(len(card.slug) for card in cards)
    for i, card in enumerate(cards):
        if i == 0 or card.family != cards[i - 1].family:
            print(f"{'' if i == 0 else chr(10)}{card.family.replace('_', ' ')}")
        print(f"  {card.slug:<{width}}  {card.summary}" + (f" (arXiv {card.arxiv})" if card.link else ""))


def data(a: argparse.Namespace) -> None:
    """The data sets, or one of them and how it is divided."""
    if a.name is None:
        names: dict[str, str] = dict(data_sets.catalog().itertuples(index=False))
        if a.json:
            print_json([{"name": name, "summary": line} for name, line in names.items()])
        else:
            width = max(map(len, names))
            print("\n".join(f"{name:<{width}}  {line}" for name, line in names.items()))
        return
    held = data_sets.load(a.name, **columns(a))
    if a.split is None and a.clients is None:
        facts = {
            "name": held.name,
            "samples": len(held.x),
            "shape": list(held.x.shape[1:]),
            "classes": len(held.classes),
        }
        print_json(facts) if a.json else print(held)
        return
    split = make_split(a.split or ("natural" if held.clients is not None and a.clients is None else "iid"))
    partition = split.split(held, a.clients, seed=a.data_seed)
    if a.json:
        print_json({**partition.spec, "sizes": partition.sizes.tolist(), "labels": partition.histogram().tolist()})
    else:
        print(partition)


def completion(a: argparse.Namespace) -> None:
    """A completion script, with the slugs and data sets of now."""
    from octolab.cli.completion import script

    print(script(a.shell, sorted(members("methods")), data_sets.catalog().name.tolist()))


def _text(path: str) -> str:
    if path == "-":
        return sys.stdin.read()
    with open(path, encoding="utf-8") as file:
        return file.read()


def _check_places(*paths: str | None) -> None:
    """Refuse, before any work, a file that cannot be written."""
    for path in filter(None, paths):
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder) or os.path.isdir(path) or not os.access(folder, os.W_OK):
            raise ValueError(
                f"{path} cannot be written: name a file in a folder that exists and that you may write to."
            )
