"""What draws is handed down: the rooms below the laboratory import neither it nor plotly, lazily or not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import octolab as ol
from octolab import faces

ROOM = Path(ol.__file__).parent


def imported(path: Path) -> Iterator[str]:
    """All that a file imports when it runs, inside functions too; not what only a type checker reads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in only_types:
            continue
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{a.name}" for a in node.names)


@pytest.mark.parametrize("room", ["experiment", "data"])
def test_what_is_drawn_does_not_import_what_draws(room):
    for path in (ROOM / room).rglob("*.py"):
        wrong = [n for n in imported(path) if n.startswith(("octolab.lab", "plotly", "matplotlib", "ipywidgets"))]
        assert not wrong, f"{path.name} imports {wrong}"


def test_every_face_that_octolab_offers_is_there():
    for name in faces.names():
        assert callable(faces.face(name))


def test_an_unknown_face_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"no face 'run.smell'; there are .*run.html"):
        faces.face("run.smell")
