"""The files around the code agree on what octolab needs, and say nothing of the machine they came from."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LARGEST_NOTEBOOK = 200_000  # bytes; one FigureWidget's saved state alone is 5 MB


def requirements(lines: list[str]) -> list[Requirement]:
    """The requirements of a list, with octolab's own extras opened."""
    found = []
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            found += [r for extra in requirement.extras for r in requirements(EXTRAS[extra])]
        else:
            found.append(requirement)
    return found


def names(lines: list[str]) -> set[str]:
    return {canonicalize_name(r.name) for r in requirements(lines)}


@cache
def constraints() -> dict[str, str]:
    """Name -> the version constraints.txt pins it to; any line that is not `name==version` fails here."""
    pins: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line).groups()
            assert canonicalize_name(name) not in pins, f"{name} is pinned twice"
            pins[canonicalize_name(name)] = version
    return pins


@cache
def repository_texts() -> dict[str, str]:
    """Path -> text of every text file that is, or is about to be, in the repository."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: no list of the repository's files")
    texts = {}
    for name in listed:
        try:
            texts[name] = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):  # a data file, or one deleted but not yet committed
            continue
    assert "pyproject.toml" in texts
    return texts


def occurrences(pattern: re.Pattern[str]) -> list[str]:
    return [f"{name}: {m.group()}" for name, text in repository_texts().items() for m in pattern.finditer(text)]


def notebooks() -> list[Path]:
    found = [path for folder in ("notebooks", "tutorials") for path in (ROOT / folder).rglob("*.ipynb")]
    return sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)


# ---------------------------------------------------------------------------------- one dependency set


def test_constraints_hold_every_direct_dependency_inside_its_range():
    pins = constraints()
    for requirement in requirements(PROJECT["dependencies"] + ["octolab[dev]"]):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(pin), f"constraints.txt has {pin}, pyproject.toml asks for {requirement}"


def test_dev_is_every_other_extra_and_the_test_tools():
    everything = set().union(*(names(lines) for extra, lines in EXTRAS.items() if extra != "dev"))
    assert set(EXTRAS) >= {"lab", "flower", "privacy", "tune", "dev"}
    assert everything | {"pytest", "pytest-xdist", "nbval", "ruff", "mypy"} <= names(EXTRAS["dev"])


def test_flower_and_the_front_ends_stay_out_of_the_core():
    core = names(PROJECT["dependencies"])
    assert {"torch", "numpy", "datasets", "plotly"} <= core
    assert not core & {"flwr", "flwr-datasets", "ray", "jupyterlab", "ipywidgets", "opacus", "optuna"}


def test_environment_yml_makes_the_environment_of_make_test():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [d for d in environment["dependencies"] if isinstance(d, str)]
    (pip,) = (d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    (python,) = (d.removeprefix("python=") for d in conda if d.startswith("python="))

    assert environment["name"] == PROJECT["name"]
    assert sorted(d.split("=")[0] for d in conda) == ["pip", "python"]  # the rest comes from pyproject.toml
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]
    assert pip == ["-c constraints.txt", "-e .[dev]"]
    frozen_on = (ROOT / "constraints.txt").read_text()
    assert f"python{python} -m venv" in frozen_on
    makefile = (ROOT / "Makefile").read_text()
    assert "sys.version_info[:2] != ({}, {})".format(*python.split(".")) in makefile
    assert "-c constraints.txt" in makefile and "$(call install,dev)" in makefile


MARK = ".constrained"  # in an environment that make has installed with constraints.txt


@pytest.mark.skipif(not (Path(sys.prefix) / MARK).exists(), reason="not installed with constraints.txt")
def test_what_is_installed_here_is_what_constraints_say():
    """The tests passed in the environment that constraints.txt describes, not in another one."""
    different = []
    for name in sorted(names(PROJECT["dependencies"] + ["octolab[dev]"])):
        installed = metadata.version(name).split("+")[0]  # PyTorch's CPU build is 2.13.0+cpu
        if installed != constraints()[name]:
            different.append(f"{name}: {installed} installed, {constraints()[name]} in constraints.txt")
    assert not different, different


def test_make_marks_an_environment_exactly_where_it_used_the_constraints(tmp_path):
    """`pip` is played by a script; what the mark says follows from the Python that asks."""
    for version, marked in (("3, 11", True), ("3, 13", False)):
        folder = tmp_path / version.replace(", ", ".")
        (folder / "bin").mkdir(parents=True)
        for name in (".created", MARK):
            (folder / name).touch()
        played = folder / "bin" / "python"
        played.write_text(f'#!/bin/sh\ncase "$*" in *version_info*) [ "{version}" = "3, 11" ];; *) echo "$@";; esac\n')
        played.chmod(0o755)
        words = ["make", f"{folder}/.installed-lab", f"VENV={folder}", "PYTHON=python3"]
        run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
        assert ("-c constraints.txt" in run.stdout) == marked
        assert (folder / MARK).exists() == marked


# ------------------------------------------------------------------------------- what the code imports


def imported_at_module_level(source: str) -> set[str]:
    """Names of the packages a module imports when it is itself imported: not in functions, not for typing."""
    found, todo = set(), list(ast.parse(source).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += ast.iter_child_nodes(node)
    return found


def test_module_level_imports_ignore_functions_and_typing():
    source = "import a.b\nif TYPE_CHECKING:\n    import t\nelse:\n    import e\n"
    source += "def f():\n    import g\nclass C:\n    import c\n"
    assert imported_at_module_level(source) == {"a", "e", "c"}


def test_every_module_imports_only_what_its_dependencies_install():
    """The core imports with the core dependencies alone; lab and flower may also use their extra."""
    providers = metadata.packages_distributions()
    core = names(PROJECT["dependencies"])
    extra_of = {"lab": "lab", "flower": "flower"}
    wrong = []
    modules = sorted((ROOT / "octolab").rglob("*.py"))
    assert modules
    for path in modules:
        part = path.relative_to(ROOT / "octolab").parts[0]
        allowed = core | (names(EXTRAS[extra_of[part]]) if part in extra_of else set())
        for package in imported_at_module_level(path.read_text()) - sys.stdlib_module_names - {"octolab"}:
            if not allowed & {canonicalize_name(d) for d in providers.get(package, [])}:
                wrong.append(f"{path.relative_to(ROOT)} imports {package}")
    assert not wrong, wrong


def test_importing_octolab_loads_nothing_heavy():
    heavy = "torch numpy scipy pandas sklearn datasets plotly ipywidgets IPython anywidget flwr ray optuna"
    code = f"import sys, octolab; print(sorted(set('{heavy}'.split()) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_the_console_script_exists():
    assert PROJECT["scripts"] == {"octolab": "octolab.cli:main"}
    module, function = PROJECT["scripts"]["octolab"].split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_package_has_the_version_of_pyproject():
    octolab = importlib.import_module("octolab")
    assert octolab.__version__ == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


# ----------------------------------------------------------------------------- nothing of this machine


def test_no_file_names_a_registry_or_an_index():
    """Where packages come from is the user's choice. Put together here, so that none stands in this file."""
    hosts = ["pypi org", "pythonhosted org", "npmjs org", "npmjs com", "anaconda org", "anaconda com"]
    hosts += ["download.pytorch org", "crates io", "deb.debian org"]
    options = ["find" + "-links", "extra-index" + "-url", "index" + "-url", "trusted" + "-host"]
    hosts = [re.escape(host.replace(" ", ".")) for host in hosts]
    pattern = re.compile("|".join([rf"\b{host}\b" for host in hosts] + options), re.IGNORECASE)
    assert pattern.search("https://" + "pypi" + ".org/simple")
    assert not occurrences(pattern)


def test_no_file_names_a_path_of_the_machine_it_was_written_on():
    shared_by_all = {"/", "/home", "/Users", "/tmp", "/private", "/usr", "/opt", "/var", "/srv", "/mnt"}
    here = {ROOT.parent, Path(*ROOT.parts[:2]), Path(sys.prefix), Path.home()}
    places = [str(p) for p in here if str(p) not in shared_by_all]
    if not places:
        pytest.skip("this checkout lies where every machine has a folder: nothing here to recognise it by")
    pattern = re.compile(rf"(?<![\w./-])({'|'.join(map(re.escape, places))})/\w+")
    assert pattern.search(f"cd {places[0]}/x")
    assert not occurrences(pattern)


def test_no_lock_that_records_addresses():
    locks = [
        "uv.lock",
        "poetry.lock",
        "pdm.lock",
        "Pipfile.lock",
        "pixi.lock",
        "conda-lock.yml",
        "package-lock.json",
    ]
    assert not [name for name in repository_texts() if Path(name).name in locks]


# ---------------------------------------------------------------------------- notebooks and the README


def test_committed_notebooks_are_small_and_carry_no_outputs():
    paths = notebooks()
    assert ROOT / "notebooks" / "quickstart.ipynb" in paths
    for path in paths:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        assert path.stat().st_size <= LARGEST_NOTEBOOK, f"{path.name}: {path.stat().st_size} bytes"
        assert "widgets" not in notebook["metadata"], f"{path.name} holds widget state: clear it first"
        for number, cell in enumerate(notebook["cells"]):
            assert not cell.get("outputs"), f"{path.name}: cell {number} has outputs: clear them first"
            assert cell.get("execution_count") is None, f"{path.name}: cell {number} has been run: clear it first"


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_readme_reaches_a_first_curve_in_five_lines_that_run():
    """The first Python block of the README, run as it stands (headless, where it draws nothing)."""
    first = readme_blocks("python")[0]
    assert len(first.strip().splitlines()) <= 5
    run = subprocess.run([sys.executable, "-c", first], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_every_make_command_of_the_readme_exists():
    commands = set(re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(readme_blocks("sh"))))
    assert {"quickstart", "test"} <= commands
    for target in sorted(commands):
        run = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 0, f"make {target}: {run.stderr}"


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
@pytest.mark.parametrize(
    ("script", "advice"),
    [
        ("exit 1", "Python 3.11 or newer"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "python3-venv"),
    ],
    ids=["python too old", "no venv"],
)
def test_a_machine_that_lacks_something_is_told_what_to_install(tmp_path, script, advice):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    run = subprocess.run(
        ["make", "venv", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert advice in run.stdout
    assert not (tmp_path / "venv").exists()


def test_ci_runs_the_readme_commands():
    ci = (ROOT / ".ci" / "run").read_text()
    for command in ("make check", "make quickstart", "make test", "make test-heavy", "make test-ranges"):
        assert re.search(rf"^step \S+ {command}$", ci, flags=re.MULTILINE), command
