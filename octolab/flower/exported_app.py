"""A run as a Flower app of its own: a folder that `flwr run` starts as it is, with nothing of the notebook left behind."""

from __future__ import annotations

import inspect
import json
import linecache
import os
import pprint
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octolab.arguments import RUN, expects, path, switch
from octolab.flower.app_config import Scalar, hyperparameters, settings_of
from octolab.flower.task import is_known
from octolab.notation import to_json, to_python
from octolab.params import params

if TYPE_CHECKING:
    from octolab.experiment.run import Run
    from octolab.methods.method import Method

TEMPLATES = Path(__file__).parent / "app_template"


@expects(run=RUN, folder=path("a folder"), replace=switch())
def export(run: Run, folder: str | os.PathLike, *, replace: bool = False) -> Path:
    """Write the run's experiment as a Flower app into a new folder, whose name becomes the app's.

    A method outside octolab's catalogue takes its page along: the file, or the notebook cell, that defines it. replace:
    write into a folder that is not empty.
    """
    target = Path(folder).resolve()
    package = re.sub(r"\W+", "_", target.name).strip("_").lower()
    if not package.isidentifier():
        raise ValueError(f"The folder {target.name!r} gives no name for a Python package: choose one such as my_app.")
    if target.exists() and any(target.iterdir()) and not replace:
        raise ValueError(f"{target} exists and is not empty. Name a new folder, or pass replace=True to write into it.")
    spec = described(run)
    files = _files(run, package, spec)
    for name, text in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return target


def described(run: Run) -> dict[str, Any]:
    """The run's spec, without what only this process knows."""
    from octolab.experiment.spec import SETTINGS

    settings = {name: to_json(getattr(run.settings, name)) for name in SETTINGS if name != "executor"}
    settings = {name: value for name, value in settings.items() if value is not None}
    own = "given" in run.problem.spec
    return {
        "method": to_json(run.given) if is_known(run.given) else {"class": type(run.given).__name__},
        "problem": {"own": run.problem.name} if own else run.problem.spec,
        "settings": settings,
        "clients": run.problem.n,
        **({"x0": {"array": run.federation.x0.double().tolist()}} if run.settings.x0 is not None else {}),
    }


def _files(run: Run, package: str, spec: dict[str, Any]) -> dict[str, str]:
    own_data, own_method = "own" in spec["problem"], "class" in spec["method"]
    experiment = pprint.pformat(spec, width=110, sort_dicts=False)
    words = {
        "package": package,
        "project": package.replace("_", "-"),
        "title": run.name,
        "method": repr(run.given),
        "problem": repr(run.problem),
        "last": str(run.problem.n - 1),
        "hyperparameters": _toml(hyperparameters(run.given)),
        **{name: toml(value) for name, value in settings_of(run).items()},
        "experiment": experiment,
        "import_inf": "from math import inf\n\n" if re.search(r"\binf\b", experiment) else "",
        "import_method": f"from {package}.method import METHOD\n" if own_method else "",
        "method_argument": ", method=METHOD" if own_method else "",
    }
    files = {
        "pyproject.toml": "pyproject.txt",
        "README.md": "README.md",
        f"{package}/__init__.py": "init.txt",
        f"{package}/experiment.py": "experiment.txt",
        f"{package}/server_app.py": "server_app.txt",
        f"{package}/client_app.py": "client_app.txt",
        f"{package}/data.py": "data_own.txt" if own_data else "data.txt",
    }
    out = {path: _filled((TEMPLATES / name).read_text(encoding="utf-8"), words) for path, name in files.items()}
    out["provenance.json"] = json.dumps(run.provenance, indent=1) + "\n"
    if own_method:
        out[f"{package}/method.py"] = _page(run.given)
    return out


def _toml(values: dict[str, Scalar]) -> str:
    return "\n".join(f"{name} = {toml(value)}" for name, value in values.items())


def toml(value: Scalar) -> str:
    """A value as TOML writes it."""
    return str(value).lower() if isinstance(value, (bool, int, float)) else json.dumps(value)


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"<<([\w-]+)>>", lambda found: words[found[1]], text)


def _page(method: Method) -> str:
    """The source of a page that is not octolab's, with `METHOD`: the method as it was configured."""
    cls = type(method)
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if cls.__module__ != "__main__" and file and os.path.exists(file):
        source = Path(file).read_text(encoding="utf-8")
    else:  # a notebook's cell, or a script: the cell that defines the class
        source = "".join(linecache.getlines(inspect.unwrap(cls.step).__code__.co_filename))
    if f"class {cls.__name__}" not in source:
        raise ValueError(f"The source of {cls.__name__} cannot be found: put its page into a file or a notebook cell.")
    try:
        compile(source, "method.py", "exec")
    except SyntaxError as error:
        raise ValueError(
            f"The cell that defines {cls.__name__} is not plain Python ({error}): give it one of its own."
        ) from None
    return f"{source.rstrip()}\n\n\n{_constructed(method)}\n"


def _constructed(method: Method) -> str:
    """The lines that make METHOD, the page's own class as it was configured."""
    parts = [f"{name}={_python(getattr(method, name), name, method)}" for name in params(type(method))]
    call = f"METHOD = {type(method).__name__}({', '.join(parts)})"
    return f"import octolab as ol  # noqa: E402\n\n{call}" if "ol." in call else call


def _python(value: object, name: str, method: Method) -> str:
    """A hyperparameter as Python writes it; a ValueError that names it if it cannot be written."""
    try:
        return to_python(value)
    except ValueError as error:
        raise ValueError(f"{type(method).__name__} cannot be exported: {name}: {error}") from None
