"""What the engine may import: lazy imports count, those for type checkers alone do not."""

import ast
from pathlib import Path

import pytest

import octolab

HOUSE = Path(octolab.__file__).parent
FLOOR = {"arguments", "errors", "faces", "notation", "params", "randomness", "rooms"}
BELOW = {
    "federation": {"batches", "errors", "federation", "fleets", "layers", "payloads", "randomness"},
    "payloads": {"errors", "payloads"},
    "compressors": {"compressors", "errors", "payloads", "randomness"},
    "fleets": {"errors", "fleets", "problems", "randomness"},
}


def rooms_imported(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    modules = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    modules += [alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names]
    return {m.split(".")[1] for m in modules if m.startswith("octolab.")}


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_what_lies_below_it(room):
    found = {name for file in (HOUSE / room).rglob("*.py") for name in rooms_imported(file)}
    assert found <= BELOW[room] | FLOOR
