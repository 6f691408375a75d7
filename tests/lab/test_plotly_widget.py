"""plotly's widget is fetched before it is needed, and nobody's modules are touched."""

import subprocess
import sys

import pytest

pytest.importorskip("plotly", reason="the extra lab is not installed")
pytest.importorskip("anywidget", reason="the extra lab is not installed")


def result_of(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.slow
def test_it_is_fetched_once_in_a_thread_and_ready_for_whoever_needs_it():
    done = result_of(
        "import sys\n"
        "from octolab.lab.early import fetch\n"
        "thread = fetch('octolab.lab.plotly_widget')\n"
        "assert fetch('octolab.lab.plotly_widget') is thread\n"
        "thread.join()\n"
        "assert sys.modules['octolab.lab.plotly_widget'].FigureWidget.__name__ == 'FigureWidget'\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_every_module_that_it_loads_is_the_real_one():
    pytest.importorskip("rfc3987_syntax")
    done = result_of(
        "import sys, octolab.lab.plotly_widget\n"
        "module = sys.modules['rfc3987_syntax']\n"
        "assert module.__spec__ is not None and module.__file__\n"
    )
    assert done.returncode == 0, done.stderr


def test_outside_notebooks_nothing_is_fetched():
    done = result_of(
        "import threading, octolab.lab\nassert not [t for t in threading.enumerate() if t.name == 'octolab-import']\n"
    )
    assert done.returncode == 0, done.stderr
