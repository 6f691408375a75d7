"""The command line: what notebooks do, without a notebook.

octolab run | compare | resume | methods | data; every verb has --json and a --help with an example. A mistake
ends with a sentence on stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import difflib
import json
import math
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from octolab import __version__
from octolab.words import check_used, make_method, make_plan, make_problem, make_split, whole_number

X = (
    "bits_up",
    "bits_total",
    "round",
    "time",
    "gradients",
)  # as experiment.curves.X_LABELS, which would load numpy


class Parser(argparse.ArgumentParser):
    """argparse, with the nearest names where a verb or an option is misspelt."""

    def error(self, message: str) -> NoReturn:
        text = f"{message[0].upper()}{message[1:].rstrip('.')}.{self._hint(message)}"
        self.exit(2, f"{self.prog}: {text} See {self.prog} --help.\n")

    def _hint(self, message: str) -> str:
        if "choose from" not in message and "unrecognized" not in message:
            return ""
        known = [s for a in self._actions for s in a.option_strings]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                if "choose from" in message:
                    known = list(action.choices)
                else:  # a verb's unknown options are reported by its parent
                    known += [s for verb in action.choices.values() for a in verb._actions for s in a.option_strings]
        for word in message.split():
            near = difflib.get_close_matches(word.strip("',:").split("=")[0], known, 1, 0.6)
            if near:
                return f" Did you mean {near[0]}?"
        return ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 after a mistake, 130 after an interrupt."""
    parser = build()
    arguments = parser.parse_args(argv)
    if arguments.verb is None:
        parser.print_help()
        return 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a diverged run says so itself
            arguments.do(arguments)
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("octolab: interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        if not _is_mistake(error):
            raise
        print(f"octolab {arguments.verb}: {_sentence(error)}", file=sys.stderr)
        return 2
    return 0


def _is_mistake(error: Exception) -> bool:
    """What the user can mend: bad input, and what octolab says itself. A bug keeps its traceback."""
    from octolab.data import ChecksumError, DatasetUnavailable
    from octolab.errors import OctolabError

    return isinstance(error, (ValueError, OSError, ImportError, OctolabError, ChecksumError, DatasetUnavailable))


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}."
    return str(error)


# -- the verbs -------------------------------------------------------------------------------------
def build() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = Parser(
        prog="octolab",
        description="A laboratory for federated learning. A first run: octolab run ef21 --rounds 200",
    )
    parser.add_argument("--version", action="version", version=f"octolab {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)

    p = _verb(
        verbs,
        "run",
        run,
        "run one method on a problem",
        "octolab run ef21 --problem digits --clients 50 --split dirichlet:0.3 --rounds 200 "
        "--set compressor=TopK:0.05 "
        "--save run.octo --csv history.csv",
    )
    p.add_argument("method", nargs="?", help="a method's slug: `octolab methods` lists them")
    p.add_argument(
        "--spec",
        metavar="FILE",
        help="a run's spec (JSON), instead of method, problem and settings; - is stdin",
    )
    _allow(p)
    _problem(p)
    _settings(p)
    p.add_argument("--seed", type=int, default=0, help="everything random follows from it (default 0)")
    _files(p)

    p = _verb(
        verbs,
        "compare",
        compare,
        "several methods on the same problem, seeds and budget",
        "octolab compare ef21 fedavg:local_steps=5 diana --rounds 200 --tune --html out.html",
    )
    p.add_argument("methods", nargs="+", metavar="METHOD", help="slug, or slug:name=value,name=value")
    _problem(p)
    _settings(p)
    p.add_argument("--seeds", default="0", help="comma separated, e.g. 0,1,2 (default 0)")
    p.add_argument("--tune", action="store_true", help="choose each method's step over the same grid of multiples")
    p.add_argument("--x", choices=X, default="bits_up", help="horizontal axis of the chart (default bits_up)")
    p.add_argument("--target", type=float, metavar="LOSS", help="add rounds, bits and seconds until this loss")
    p.add_argument("--html", metavar="FILE", help="write chart and table as one page without scripts")
    p.add_argument("--csv", metavar="FILE", help="write every row of every run")

    p = _verb(
        verbs,
        "resume",
        resume,
        "go on with a saved run",
        "octolab resume run.octo --rounds 400 --csv history.csv",
    )
    p.add_argument("file", help="a file that --save wrote")
    p.add_argument("--rounds", type=int, help="a new total of rounds")
    _allow(p)
    _files(p)

    p = _verb(
        verbs,
        "export",
        export,
        "write a run as an app of another system",
        "octolab export flower my_app ef21 --problem digits --clients 3 --rounds 50",
    )
    p.add_argument("system", choices=("flower",), help="flower: an app that `flwr run` starts as it is")
    p.add_argument("folder", help="a new folder, which names the app")
    p.add_argument("method", nargs="?", help="a method's slug")
    p.add_argument("--spec", metavar="FILE", help="a run's spec (JSON), or a file that --save wrote, instead")
    _allow(p)
    p.add_argument("--replace", action="store_true", help="write into a folder that is not empty")
    p.add_argument("--seed", type=int, default=0, help="everything random follows from it (default 0)")
    _problem(p)
    _settings(p)

    p = _verb(verbs, "methods", methods, "the methods, or one method's card", "octolab methods ef21")
    p.add_argument("slug", nargs="?", help="show this one's card")

    p = _verb(
        verbs,
        "data",
        data,
        "the data sets, or one of them and its split",
        "octolab data digits --clients 10 --split dirichlet:0.3",
    )
    p.add_argument("name", nargs="?", help="a data set")
    p.add_argument("--clients", type=int, help="divide it among so many")
    p.add_argument("--split", help="how: iid, dirichlet:0.3, shards:2, quantityskew:0.5, natural")
    p.add_argument("--data-seed", type=int, default=0, help="seed of the split (default 0)")
    return parser


def _verb(verbs: Any, name: str, do: Any, what: str, example: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name, help=what, description=f"{what[0].upper()}{what[1:]}.", epilog=f"Example: {example}"
    )
    parser.set_defaults(do=do)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _problem(p: argparse.ArgumentParser) -> None:
    g = p.add_argument_group("problem")
    g.add_argument(
        "--problem",
        default="digits",
        metavar="NAME",
        help="a data set, quadratics:L=100,mu=1,d=20, or tridiagonal:d=100 (default digits)",
    )
    g.add_argument("--model", help="logistic, mlp or cnn (default logistic)")
    g.add_argument("--clients", type=int, help="how many (default 50; 10 for quadratics)")
    g.add_argument("--split", help="iid, dirichlet:0.3, shards:2, quantityskew:0.5, natural (default iid)")
    g.add_argument("--l2", type=float, help="ridge (default 0.001 for logistic, 0 for networks)")
    g.add_argument("--data-seed", type=int, default=0, help="seed of the split or the quadratics (default 0)")


def _settings(p: argparse.ArgumentParser) -> None:
    g = p.add_argument_group("run")
    g.add_argument("--rounds", type=int, help="steps (default 100)")
    g.add_argument(
        "--until",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="stop at loss=, grad_norm_sq=, bits= (up, per client), seconds= (virtual)",
    )
    g.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a hyperparameter: lr=0.1, lr=theory:4, compressor=TopK:0.05 (again for more)",
    )
    g.add_argument("--deadline", type=float, help="virtual seconds after which a round stops waiting")
    g.add_argument("--dtype", choices=("float32", "float64"))
    g.add_argument("--evaluate-every", type=int, help="rounds between evaluations of the objective")
    for name, what in (
        ("seconds", "compute time per unit of work"),
        ("up", "bits per second of the uplink"),
        ("down", "bits per second of the downlink"),
        ("latency", "seconds per message"),
        ("dropout", "probability that a device never replies"),
    ):
        g.add_argument(f"--fleet-{name}", metavar="V", help=f"{what}: one number, or one per client, comma separated")
    g.add_argument("--fleet-unit", choices=("gradient", "sample"), help="what a unit of work is (default gradient)")


def _allow(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--allow",
        action="append",
        default=[],
        choices=("write", "network", "files", "place"),
        help="what a spec or run file may do: write its checkpoint, fetch hub: data, open file: data, run elsewhere",
    )


def _files(p: argparse.ArgumentParser) -> None:
    p.add_argument("--save", metavar="FILE", help="write a run file to go on from (octolab resume)")
    p.add_argument("--csv", metavar="FILE", help="write the history")


def run(a: argparse.Namespace) -> None:
    from octolab.experiment.progress import watch

    prepared = _prepared(a)
    _check_places(a.save, a.csv)
    _report(watch(prepared), a)


def _prepared(a: argparse.Namespace) -> Any:
    """The run that the words ask for, not started."""
    from octolab import experiment
    from octolab.experiment.launch import prepare

    if (a.spec is None) == (a.method is None):
        raise ValueError(f"Give a method, such as `octolab {a.verb} ... ef21`, or --spec FILE, and not both.")
    if a.spec is None:
        return prepare(make_method(a.method, a.set), make_problem(a), seed=a.seed, **make_plan(a))
    load = experiment.load_run if a.spec.endswith(".octo") else experiment.from_spec
    return load(a.spec if a.spec.endswith(".octo") else _text(a.spec), allow=a.allow)


def export(a: argparse.Namespace) -> None:
    folder = _prepared(a).export_flower_app(a.folder, replace=a.replace)
    _print_json({"folder": folder}) if a.json else print(f"wrote {folder}: cd there, read README.md, `flwr run`")


def resume(a: argparse.Namespace) -> None:
    from octolab import experiment

    _check_places(a.save, a.csv)
    _report(experiment.resume(a.file, rounds=a.rounds, allow=a.allow), a)


def compare(a: argparse.Namespace) -> None:
    from octolab import experiment
    from octolab.experiment.compare import written

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
            file.write(_page(result))
    table = result.table(a.target)
    if a.json:
        _print_json({"problem": problem.spec, "methods": table.reset_index().to_dict("records")})
    else:
        print(f"{problem!r}\n\n{written(table)}")
        for place in filter(None, (a.html, a.csv)):
            print(f"wrote {place}")


def methods(a: argparse.Namespace) -> None:
    from octolab import methods as catalogue

    if a.slug is not None:
        card = catalogue.get(a.slug).describe()
        _print_json(card.to_dict()) if a.json else print(card)
        return
    cards = catalogue.cards()
    if a.json:
        _print_json([card.to_dict() for card in cards])
        return
    width = max(len(card.slug) for card in cards)
    for i, card in enumerate(cards):
        if i == 0 or card.family != cards[i - 1].family:
            print(f"{'' if i == 0 else chr(10)}{card.family.replace('_', ' ')}")
        print(f"  {card.slug:<{width}}  {card.summary}" + (f" (arXiv {card.arxiv})" if card.link else ""))


def data(a: argparse.Namespace) -> None:
    from octolab import data as sets

    if a.name is None:
        names = sets.available()
        if a.json:
            _print_json([{"name": name, "summary": line} for name, line in names.items()])
        else:
            width = max(map(len, names))
            print("\n".join(f"{name:<{width}}  {line}" for name, line in names.items()))
        return
    held = sets.load(a.name)
    if a.split is None and a.clients is None:
        facts = {
            "name": held.name,
            "samples": len(held.x),
            "shape": list(held.x.shape[1:]),
            "classes": len(held.classes),
        }
        _print_json(facts) if a.json else print(held)
        return
    split = make_split(a.split or "iid")
    partition = split.split(held, a.clients, seed=a.data_seed)
    if a.json:
        _print_json({**partition.spec, "sizes": partition.sizes.tolist(), "labels": partition.histogram().tolist()})
    else:
        print(partition)


# -- what is printed -------------------------------------------------------------------------------
def _report(finished: Any, a: argparse.Namespace) -> None:
    if a.save:
        finished.save(a.save)
    if a.csv:
        finished.history.to_csv(a.csv, index=False)
    if a.json:
        error = None if finished.error is None else str(finished.error)
        last = {k: v for k, v in finished.recorder.last.items() if isinstance(v, (int, float))}
        _print_json({"status": finished.status, **last, "error": error, "spec": finished.spec})
    else:
        print(finished)
        for place in filter(None, (a.save, a.csv)):
            print(f"  wrote {place}")


def _print_json(value: Any) -> None:
    print(json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """JSON has no inf and nan: null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _page(result: Any) -> str:
    style = "body{font-family:sans-serif;margin:2em}td,th{padding:2px 10px;text-align:right}"
    head = f"<meta charset='utf-8'><title>octolab comparison</title><style>{style}</style>"
    return f"<!doctype html><html lang='en'>{head}<body>{result._repr_html_()}</body></html>"


def _text(path: str) -> str:
    if path == "-":
        return sys.stdin.read()
    with open(path, encoding="utf-8") as file:
        return file.read()


def _check_places(*paths: str | None) -> None:
    """Refuse, before any work, a file that cannot be written."""
    import os

    for path in filter(None, paths):
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder) or os.path.isdir(path) or not os.access(folder, os.W_OK):
            raise ValueError(
                f"{path} cannot be written: name a file in a folder that exists and that you may write to."
            )


if __name__ == "__main__":
    sys.exit(main())
