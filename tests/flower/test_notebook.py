"""The lesson with everything in it: Ray's processes and a deployment too. (The fast run of it is among the notebooks.)"""

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.deployment
LESSON = Path(__file__).parents[2] / "notebooks" / "flower.ipynb"


def test_the_lesson_runs_with_ray_and_with_a_deployment(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("OCTOLAB_FAST", "0")
    monkeypatch.setenv("OCTOLAB_LIVE", "0")
    notebook = nbformat.read(LESSON, as_version=4)
    NotebookClient(
        notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": os.fspath(tmp_path)}}
    ).execute()
    said = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    assert "simulated and deployed: the same model after 2 rounds, to 1e-6" in said
