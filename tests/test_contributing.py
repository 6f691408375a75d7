"""CONTRIBUTING's page of a method is a real one."""

import importlib.util
import re
from pathlib import Path

import octolab as ol

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_method_in_contributing_keeps_every_promise(tmp_path):
    page = tmp_path / "dcgd_page.py"
    page.write_text(re.search(r"````python\n(.*?)````", TEXT, re.DOTALL)[1], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("dcgd_page", page)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["dcgd_page"] = module
    try:
        spec.loader.exec_module(module)
        ol.testing.check_method(module.DCGD())
    finally:
        del sys.modules["dcgd_page"]
