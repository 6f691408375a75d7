"""The lesson at full length, with Ray's processes and with a deployment. (The fast run of it is among the notebooks.)"""

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.deployment
LESSON = Path(__file__).parents[2] / "notebooks" / "flower.ipynb"
PARTS = {"simulated": 'on="flower-simulation"', "deployed": "deploy_local(nodes=3)"}


@pytest.mark.parametrize("part", PARTS)
def test_the_lesson_runs_on_real_processes(part, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("OCTOLAB_FAST", "0")
    monkeypatch.setenv("OCTOLAB_LIVE", "0")
    notebook = nbformat.read(LESSON, as_version=4)
    other = next(source for name, source in PARTS.items() if name != part)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code" and other not in cell.source]
    if part == "deployed":  # what it needs; all the rest runs with the other part
        notebook.cells = notebook.cells[:2] + [cell for cell in notebook.cells[2:] if "few" in cell.source]
    client = NotebookClient(
        notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": os.fspath(tmp_path)}}
    )
    client.execute()
    said = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    assert f"{part}: the same model after 2 rounds, to 1e-6" in said
