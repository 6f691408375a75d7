"""How docstrings are laid out."""

import ast
import re
from pathlib import Path

import octolab


def left_alone(source):
    """Lines of docstrings that hold one word, the end of a sentence that a reflow broke.

    Headings, values (`name=...`), tables and the output of doctests are no such lines.
    """
    for node in ast.walk(ast.parse(source)):
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


def test_the_check_finds_a_word_that_a_reflow_left_alone():
    long = "a sentence that goes on " * 4
    assert list(left_alone(f'"""{long}\n    alone.\n    """')) == ["alone."]
    assert not list(
        left_alone(f'"""{long}\n    two words.\n\n    {long}\n    Algorithm:\n    >>> {long}\n    3\n    """')
    )


def test_no_line_of_a_docstring_holds_one_word_left_by_a_reflow():
    house = Path(octolab.__file__).parent
    found = {
        str(p.relative_to(house)): words for p in sorted(house.rglob("*.py")) if (words := [*left_alone(p.read_text())])
    }
    assert not found
