"""plotly's widget comes without the grammars that nobody asks for, and nobody is worse off."""

import subprocess
import sys

import pytest

pytest.importorskip("plotly", reason="the extra lab is not installed")
pytest.importorskip("anywidget", reason="the extra lab is not installed")

from octolab.lab.plotly_widget import later


def test_until_it_is_called_a_slow_module_is_a_stand_in(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with later("colorsys"):
        from colorsys import rgb_to_hsv
    assert "colorsys" not in sys.modules
    assert rgb_to_hsv(1.0, 0.0, 0.0) == (0.0, 1.0, 1.0)
    import colorsys

    with later("colorsys"):  # it is there already
        assert sys.modules["colorsys"] is colorsys
    with later("no_such_module"), pytest.raises(ImportError):
        import no_such_module  # noqa: F401


def test_the_grammars_are_not_compiled_and_addresses_are_still_checked():
    pytest.importorskip("rfc3987_syntax")
    code = (
        "import sys, octolab.lab.plotly_widget\n"
        "assert 'nbformat' in sys.modules and 'rfc3987_syntax' not in sys.modules\n"
        "import jsonschema\n"
        "good, bad = 'http://octolab.example/a', 'not an address'\n"
        "check = jsonschema.Draft202012Validator.FORMAT_CHECKER\n"
        "assert check.conforms(good, 'iri') and not check.conforms(bad, 'iri')\n"
        "assert 'rfc3987_syntax' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
