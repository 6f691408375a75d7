"""Every example in a docstring says what happens."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import octolab as ol

HOUSE = Path(ol.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(file.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in HOUSE.rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_are_true(name):
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs={"ol": ol}, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.attempted > 0 and found.failed == 0
