"""The run config of an exported app: what `flwr run . -c "lr=0.5 rounds=4"` may change, and how it is read.

The settings of `CONFIG`, and the method's hyperparameters: numbers and switches as they are, everything else in the
words of the command line (`compressor="TopK:0.05"`, `lr="theory:2"`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from octolab.arguments import Fact, expects, whole
from octolab.notation import read, to_text
from octolab.params import params

if TYPE_CHECKING:
    from collections.abc import Mapping

    from octolab.experiment.run import Run
    from octolab.methods.method import Method
    from octolab.problems.problem import Problem

Scalar = bool | int | float | str
"""What a value of Flower's run config may be."""

CONFIG: dict[str, Scalar] = {
    "rounds": 0,  # 0: as the experiment says
    "seed": -1,  # -1: as the experiment says
    "clients": 0,  # 0: as the experiment says
    "wire": "float32",
    "timeout": 60.0,
    "patience": 60.0,
    "least": 0,  # 0: all
    "checkpoint": "",
    "checkpoint-every": 0,
    "out": "",
    "report": False,
}
"""The settings with the values that stand for "not given"; an exported app's pyproject.toml explains each."""

LONGEST = 60  # characters of a hyperparameter in words; longer ones stay in experiment.py


def settings_of(run: Run) -> dict[str, Scalar]:
    """The settings as an app of this run has them."""
    own = {"rounds": run.settings.rounds, "seed": run.settings.seed, "clients": run.problem.n}
    return {**CONFIG, **own, "checkpoint-every": run.settings.checkpoint_every or 0}


def hyperparameters(method: Method) -> dict[str, Scalar]:
    """A method's hyperparameters by their name in the run config; those that no short word stands for are left out."""
    found: dict[str, Scalar] = {}
    for name in params(type(method)):
        value = getattr(method, name)
        if not isinstance(value, (bool, int, float)):
            try:
                value = to_text(value)
            except ValueError:
                continue
        if not isinstance(value, str) or len(value) <= LONGEST:
            found[_key(name)] = value
    return found


def _key(name: str) -> str:
    """A hyperparameter's name in the config, where the settings have names too."""
    return f"method-{name}" if name in CONFIG else name


def configured(method: Method, config: Mapping[str, Scalar]) -> Method:
    """The method with what a run config says of it. ValueError naming method, hyperparameter, value and what to give."""
    now, owner, changes = hyperparameters(method), type(method).__name__, {}
    for name, p in params(type(method)).items():
        value = config.get(_key(name))
        if value is not None and value != now.get(_key(name)):
            changes[name] = read(p, str(value), owner)
    return dataclasses.replace(method, **changes) if changes else method


def checked(config: Mapping[str, Scalar]) -> dict[str, Any]:
    """The settings in a run config, each of its type. ValueError naming the setting, the value and what to give."""
    found = {**CONFIG, **{name: value for name, value in config.items() if name in CONFIG}}
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}
    for name, value in found.items():
        kind = type(CONFIG[name])
        fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool) == isinstance(value, bool)
        if not fits:
            raise ValueError(f"The run config says {name}={value!r}: give {words[kind]}, as in pyproject.toml.")
    return found


@expects(
    spec=Fact(lambda v: isinstance(v, dict) and "kind" in v, "a problem's spec, a dict with kind"), clients=whole(1)
)
def problem_of(spec: dict[str, Any], clients: int) -> Problem:
    """An experiment's problem, with another number of clients if that is asked for. spec: `EXPERIMENT["problem"]`."""
    from octolab import problems

    count = next((name for name in ("clients", "n") if isinstance(spec.get(name), int)), None)
    if count is not None:
        spec = {**spec, count: clients}
    made = problems.from_spec(spec)
    if made.n != clients:
        raise ValueError(
            f"This experiment's {spec['kind']} problem has {made.n} clients, and clients={clients} was asked for."
        )
    return made
