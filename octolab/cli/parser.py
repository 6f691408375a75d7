"""The command line's grammar: verbs, options, and what --help says; nothing heavy is imported here."""

from __future__ import annotations

import argparse
import difflib
import shutil
import textwrap
from typing import Any, NoReturn

from octolab import __version__

X = (
    "bits_up",
    "bits_total",
    "round",
    "time",
    "gradients",
)  # as experiment.curves.X_LABELS, which would load numpy


SHELLS = ("bash", "zsh", "fish")


class Narrow(argparse.HelpFormatter):
    """Help that fits 40 columns: where they are few, what an option does stands below it; words stay whole."""

    def __init__(self, prog: str):
        width = shutil.get_terminal_size().columns - 2
        super().__init__(prog, max_help_position=24 if width > 60 else 6, width=width)

    def _format_usage(self, *arguments: Any) -> str:
        text = " ".join(super()._format_usage(*arguments).split())
        lines = textwrap.wrap(text, self._width, subsequent_indent="  ", break_on_hyphens=False)
        return "\n".join(lines) + "\n\n"

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = self._split_lines(text, width - len(indent))
        return "\n".join(indent + line for line in lines)


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


def build() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = Parser(
        prog="octolab",
        usage="octolab [-h] [--version] VERB ...",
        formatter_class=Narrow,
        description="A laboratory for federated learning. A first run: octolab run ef21 --rounds 200",
    )
    parser.add_argument("--version", action="version", version=f"octolab {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)

    p = _verb(
        verbs,
        "run",
        "run one method on a problem",
        "[METHOD] [options]",
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
        "several methods on the same problem, seeds and budget",
        "METHOD ... [options]",
        "octolab compare ef21 fedavg:local_steps=5 diana --rounds 200 --tune --html out.html",
    )
    p.add_argument("methods", nargs="+", metavar="METHOD", help="slug, or slug:name=value,name=value")
    _problem(p, target="--label")  # --target is a loss here
    _settings(p)
    p.add_argument("--seeds", default="0", help="comma separated, e.g. 0,1,2 (default 0)")
    p.add_argument("--tune", action="store_true", help="choose each method's step over the same grid of multiples")
    p.add_argument(
        "--x", choices=X, default="bits_up", metavar="AXIS", help=f"of the chart: {', '.join(X)} (default bits_up)"
    )
    p.add_argument(
        "--target", metavar="[NAME=]VALUE", help="add rounds, bits and seconds until this loss, or accuracy=0.9"
    )
    p.add_argument("--html", metavar="FILE", help="write chart and table as one page without scripts")
    p.add_argument("--csv", metavar="FILE", help="write every row of every run")

    p = _verb(
        verbs,
        "resume",
        "go on with a saved run",
        "FILE [options]",
        "octolab resume run.octo --rounds 400 --csv history.csv",
    )
    p.add_argument("file", help="a file that --save wrote")
    p.add_argument("--rounds", type=int, help="a new total of rounds")
    _allow(p)
    _files(p)

    p = _verb(
        verbs,
        "export",
        "write a run as an app of another system",
        "flower FOLDER [METHOD] [options]",
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

    p = _verb(verbs, "methods", "the methods, or one method's card", "[SLUG] [--json]", "octolab methods ef21")
    p.add_argument("slug", nargs="?", help="show this one's card")

    p = _verb(
        verbs,
        "data",
        "the data sets, or one of them and its split",
        "[NAME] [options]",
        "octolab data digits --clients 10 --split dirichlet:0.3",
    )
    p.add_argument("name", nargs="?", help="a data set")
    _columns(p, "--target")
    p.add_argument("--clients", type=int, help="divide it among so many")
    p.add_argument("--split", help="how: iid, dirichlet:0.3, shards:2, quantityskew:0.5, natural")
    p.add_argument("--data-seed", type=int, default=0, help="seed of the split (default 0)")

    p = _verb(verbs, "completion", "a shell's completion script, to be sourced", "SHELL", "octolab completion bash")
    p.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    return parser


def _verb(verbs: Any, name: str, what: str, usage: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=what,
        usage=f"octolab {name} {usage}",
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=f"Example: {example}",
        formatter_class=Narrow,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _problem(p: argparse.ArgumentParser, target: str = "--target") -> None:
    g = p.add_argument_group("problem")
    g.add_argument(
        "--problem",
        "--data",
        default="digits",
        metavar="NAME",
        help="a data set (file:table.csv too), quadratics:L=100,mu=1,d=20, or tridiagonal:d=100 (default digits)",
    )
    _columns(g, target)
    g.add_argument("--model", help="logistic, mlp or cnn (default logistic); linear, mlp or cnn of a regression")
    g.add_argument("--regression", action="store_true", help="the target is a number (so says --model linear too)")
    g.add_argument("--validation-share", type=float, metavar="SHARE", help="of each client's samples, for validation")
    g.add_argument("--clients", type=int, help="how many (default 50; 10 for quadratics)")
    g.add_argument("--split", help="iid, dirichlet:0.3, shards:2, quantityskew:0.5, natural (default iid)")
    g.add_argument("--l2", type=float, help="ridge (default 0.001 for logistic, 0 for networks)")
    g.add_argument("--data-seed", type=int, default=0, help="seed of the split or the quadratics (default 0)")


def _columns(p: argparse._ActionsContainer, target: str) -> None:
    """Which columns of a table are what."""
    p.add_argument(target, metavar="COLUMN", dest="target_column", help="what a table's models predict (default label)")
    p.add_argument("--client", metavar="COLUMN", help="a table's natural clients (default client, if there is one)")
    p.add_argument("--groups", metavar="COLUMN", help="groups between which fairness is measured")


def _settings(p: argparse.ArgumentParser) -> None:
    g = p.add_argument_group("run")
    g.add_argument("--rounds", type=int, help="steps (default 100)")
    g.add_argument(
        "--until",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="stop at loss=, grad_norm_sq=, accuracy=, bits= (up, per client), seconds= (virtual)",
    )
    g.add_argument("--metrics", metavar="NAMES", help="on the test samples, comma separated, e.g. f1,auroc")
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
        metavar="ACTION",
        help="what a spec or run file may do: write (its checkpoint), network (fetch hub: data), files (open file: data), "
        "place (run elsewhere)",
    )


def _files(p: argparse.ArgumentParser) -> None:
    p.add_argument("--save", metavar="FILE", help="write a run file to go on from (octolab resume)")
    p.add_argument("--csv", metavar="FILE", help="write the history")
