"""What editors and type checkers see is what there is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import octolab as ol
from octolab.testing import stubs

HOUSE = Path(ol.__file__).parent


def test_the_package_says_that_it_is_typed():
    assert (HOUSE / "py.typed").exists()


def test_every_method_is_completed_in_an_editor():
    assert stubs.PLACE.read_text() == stubs.method_names(), "run: python -m octolab.testing.stubs"
    imported = [
        a.asname for n in ast.parse(stubs.method_names()).body if isinstance(n, ast.ImportFrom) for a in n.names
    ]
    assert set(imported) == {ol.methods.get(s).__name__ for s in ol.methods.slugs()} - {"Mine"}


def test_every_name_of_the_front_door_is_imported_for_type_checkers():
    tree = ast.parse((HOUSE / "__init__.py").read_text())
    blocks = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    seen = {a.asname or a.name for b in blocks for n in b.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert seen == set(ol.__all__) - {"__version__"}


@pytest.mark.slow
def test_a_type_checker_knows_a_page_and_its_fields(tmp_path):
    code = "import octolab as ol\nreveal_type(ol.methods.EF21().lr)\nreveal_type(ol.run)\nol.methods.EF21(lrr=1)\n"
    (tmp_path / "mine.py").write_text(code)
    told = subprocess.run(
        [sys.executable, "-m", "mypy", str(tmp_path / "mine.py")], capture_output=True, text=True, cwd=tmp_path
    )
    assert re.search(r'mine.py:2: note: Revealed type is "(builtins\.)?float"', told.stdout)
    assert 'Unexpected keyword argument "lrr"' in told.stdout and "-> octolab.experiment.run.Run" in told.stdout
