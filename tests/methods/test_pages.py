"""What every page keeps, read from its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import octolab.methods

ROOT = Path(octolab.methods.__file__).parent
PAGES = sorted(p for p in ROOT.glob("*/*.py") if p.name != "__init__.py" and p.parent.name != "theory")
SHARED = sorted(p for p in (ROOT / "theory").glob("*.py") if p.name != "__init__.py")
MAKERS = ("zeros", "ones", "empty", "full", "tensor", "arange", "eye", "linspace", "rand", "randn")
RUN_WITH = {"Federation", "Cohort", "Replies"}
"""Who has one of these runs on the device: init, step, client functions and what serves them."""


def running(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            kinds = {getattr(a.annotation, "id", None) for a in node.args.args}
            if kinds & RUN_WITH or node.name in ("init", "step", "model"):
                yield node


def bound_to_the_cpu(function: ast.FunctionDef) -> list[str]:
    """Calls that leave the device of what came in, or make a tensor without asking for its device."""
    found = []
    for call in ast.walk(function):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        name, owner = call.func.attr, getattr(call.func.value, "id", None)
        made = owner == "torch" and name in MAKERS and "device" not in {k.arg for k in call.keywords}
        if name in ("numpy", "cpu") or made:
            found.append(f"line {call.lineno}: {ast.unparse(call)}")
    return found


@pytest.mark.parametrize("path", [*PAGES, *SHARED], ids=lambda p: p.stem)
def test_a_page_runs_on_any_device(path: Path):
    tree = ast.parse(path.read_text())
    found = [f"{f.name}, {line}" for f in running(tree) for line in bound_to_the_cpu(f)]
    assert not found, f"{path.name} is bound to the CPU: {found}"


def test_the_reader_of_pages_finds_what_it_looks_for():
    page = "def step(self, fed: Federation, s):\n    return s.x.numpy(), torch.zeros(3), torch.zeros(3, device=s.x.device)\n"
    assert len(bound_to_the_cpu(next(running(ast.parse(page))))) == 2


def imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, [a.name for a in node.names]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_a_page_imports_another_only_to_inherit_from_it(path: Path):
    tree = ast.parse(path.read_text())
    bases = {getattr(b, "id", None) for node in tree.body if isinstance(node, ast.ClassDef) for b in node.bases}
    for module, names in imports(path):
        parts = module.split(".")
        if parts[:2] == ["octolab", "methods"] and len(parts) == 4 and parts[2] != "theory":
            others = set(names) - bases - {"State"}  # a child keeps its parent's state
            assert not others, (
                f"{path.name} takes {sorted(others)} from {module}: put it where both may, methods/theory."
            )


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_every_file_of_a_family_is_a_page(path: Path):
    module = ".".join(path.relative_to(ROOT.parent.parent).with_suffix("").parts)
    assert any(octolab.methods.get(slug).__module__ == module for slug in octolab.methods.slugs())
