"""What the sources themselves promise: types, private names, how docstrings are laid out."""

import ast
import re
from pathlib import Path

import pytest

import octolab

HOUSE = Path(octolab.__file__).parent
GIVEN = {"_fields", "_version", "_buffers"}  # names of NamedTuples and of torch
ALLOWED = {"lab/live.py": ["_run"]}  # the live chart draws the very run whose view a callback is given


@pytest.fixture(scope="module")
def trees():
    return {str(p.relative_to(HOUSE)): ast.parse(p.read_text()) for p in sorted(HOUSE.rglob("*.py"))}


def left_alone(tree):
    """Lines of docstrings that hold one word, the end of a sentence that a reflow broke.

    Headings, values (`name=...`), tables and the output of doctests are no such lines.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines = [line.strip() for line in node.value.value.splitlines()] + [""]
            for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
                ends = not after or line.endswith((".", ";"))
                if (
                    ends
                    and len(before) > 70
                    and not before.startswith((">>>", "..."))
                    and re.fullmatch(r"[^\s=:]+", line)
                ):
                    yield line


def private_of_others(trees):
    """Private attributes of octolab that are read in another room than the one that has them: {file: names}."""
    own, read = {}, {}
    for file, tree in trees.items():
        room = file.split("/")[0]
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                own.setdefault(node.name, set()).add(room)
            elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    own.setdefault(node.attr, set()).add(room)
                else:
                    read.setdefault(file, set()).add(node.attr)
    found = {
        f: {n for n in names - GIVEN if n in own and not n.endswith("_") and f.split("/")[0] not in own[n]}
        for f, names in read.items()
    }
    return {f: sorted(names) for f, names in found.items() if names}


def test_the_check_finds_a_word_that_a_reflow_left_alone():
    long = "a sentence that goes on " * 4
    assert list(left_alone(ast.parse(f'"""{long}\n    alone.\n    """'))) == ["alone."]
    assert not list(
        left_alone(
            ast.parse(f'"""{long}\n    two words.\n\n    {long}\n    Algorithm:\n    >>> {long}\n    3\n    """')
        )
    )


def test_no_line_of_a_docstring_holds_one_word_left_by_a_reflow(trees):
    assert {file: words for file, tree in trees.items() if (words := [*left_alone(tree)])} == {}


def test_the_check_finds_a_private_name_of_another_room():
    a, b = ast.parse("class A:\n    def __init__(self):\n        self._x = 1"), ast.parse("def f(a):\n    return a._x")
    assert private_of_others({"one/a.py": a, "two/b.py": b}) == {"two/b.py": ["_x"]}
    assert private_of_others({"one/a.py": a, "one/b.py": b}) == {}


def test_no_room_reads_a_private_name_of_another(trees):
    assert private_of_others(trees) == ALLOWED


def test_a_problem_is_never_any(trees):
    arguments = {
        f"{file}:{arg.lineno}"
        for file, tree in trees.items()
        for arg in ast.walk(tree)
        if isinstance(arg, ast.arg) and arg.arg == "problem" and ast.unparse(arg.annotation or ast.Name("")) == "Any"
    }
    assert arguments == set()
