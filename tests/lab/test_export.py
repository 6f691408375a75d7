"""Runs as files: every ending, one run and several, and words where something is missing."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import octolab as ol
from octolab.lab import export as module
from octolab.lab.export import export
from octolab.lab.png import _dashed, _pieces, picture

M = ol.methods


@pytest.fixture(scope="module")
def problem():
    return ol.problems.quadratics(n=4, d=6, L=10, mu=1, seed=0)


@pytest.fixture(scope="module")
def run(problem):
    return ol.run("ef21", problem, rounds=40, fleet=ol.Fleet(seconds=[1, 2, 3, 4], up=1e4))


@pytest.fixture(scope="module")
def several(problem, run):
    return {"EF21": run, "GD & co_": [ol.run("gd", problem, rounds=30, seed=s) for s in (0, 1)]}


def read(path):
    return Path(path).read_text(encoding="utf-8")


def test_csv_is_the_history(run, tmp_path):
    path = run.export(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(pd.read_csv(path), run.history, check_dtype=False)


def test_parquet_is_the_history_and_holds_the_spec(run, tmp_path):
    table = pd.read_parquet(run.export(tmp_path / "a.parquet"))
    pd.testing.assert_frame_equal(table, run.history, check_dtype=False)
    (spec,) = json.loads(table.attrs["octolab"])["EF21"]
    assert ol.from_spec(spec).finish().history.equals(run.history)


def test_several_runs_are_told_apart_by_method_and_seed(several, tmp_path):
    table = pd.read_csv(export(several, tmp_path / "a.csv"))
    assert list(table.groupby(["method", "seed"]).size().items()) == [
        (("EF21", 0), 41),
        (("GD & co_", 0), 31),
        (("GD & co_", 1), 31),
    ]


def test_a_page_fetches_nothing_and_runs_nothing(several, tmp_path):
    text = read(export(several, tmp_path / "a.html"))
    assert "<script" not in text and len(text) < 1_000_000
    assert set(re.findall(r"https?://[^'\"\s<]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "GD &amp; co_" in text and "Communication" in text and "Device" in text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(svg)


def test_the_specs_on_a_page_reproduce_its_runs(run, tmp_path):
    text = read(run.export(tmp_path / "a.html"))
    from html import unescape

    (line,) = unescape(re.search(r"<pre>(.*?)</pre>", text, re.DOTALL)[1]).splitlines()
    assert ol.from_spec(line).finish().history.equals(run.history)


def test_an_interactive_page_carries_plotly_along_once(run, tmp_path):
    text = read(run.export(tmp_path / "a.html", interactive=True))
    assert len(text) > 3_000_000 and text.count("Plotly.newPlot(") >= 3
    assert not re.search(r"<(script|link)[^>]+(src|href)=", text)


def test_svg_is_well_formed_and_names_every_run(several, tmp_path):
    root = ET.parse(export(several, tmp_path / "a.svg", panel="comparison")).getroot()
    texts = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert {"EF21", "GD & co_", "Pareto front"} <= set(texts)


def test_png_shows_the_curves_of_the_svg(several, tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    path = export(several, tmp_path / "a.png", scale=1)
    svg = ET.parse(export(several, tmp_path / "a.svg")).getroot()
    pixels = np.asarray(image.open(path).convert("RGB")).astype(int)
    assert pixels.shape[:2] == (int(svg.get("height")), int(svg.get("width")))
    for colour in ("0072B2", "D55E00"):  # the two runs' lines are there
        wanted = np.array([int(colour[k : k + 2], 16) for k in (0, 2, 4)])
        assert (np.abs(pixels - wanted).sum(2) < 60).sum() > 100
    assert (pixels > 250).all(2).mean() > 0.7  # on white


def test_png_without_pillow_says_what_to_do(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        run.export(tmp_path / "a.png")


def test_every_panel_can_become_a_png(several, tmp_path):
    pytest.importorskip("PIL", reason="Pillow is not installed")
    board = ol.dashboard(several)
    for name in board.panels:
        assert picture(board.svg(name), 0.5).size[0] > 200


def test_dashes_cover_their_share_of_a_line():
    pieces = list(_dashed([(0, 0), (50, 0), (100, 0)], [7, 3]))
    drawn = sum(abs(b[0] - a[0]) for p in pieces for a, b in pairwise(p))
    assert drawn == pytest.approx(70) and len(pieces) == 10


def test_paths_of_moves_and_lines_are_read():
    assert list(_pieces("M1 2V5H7M0 0H3")) == [[(1, 2), (1, 5), (7, 5)], [(0, 0), (3, 0)]]


def test_latex_has_a_row_per_run_and_the_best_in_bold(several, tmp_path):
    text = read(export(several, tmp_path / "a.tex"))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3 and r"GD \& co\_" in text and r"\begin{tabular}{lrrrrrrr}" in text
    assert text.count(r"\textbf") >= 4 and text.rstrip().endswith(r"\end{tabular}")


def test_latex_of_one_run_boasts_of_nothing(run, tmp_path):
    assert r"\textbf" not in read(run.export(tmp_path / "a.tex"))


@pytest.mark.parametrize(("name", "words"), [("a.docx", "'.docx' is none of .csv"), ("no/a.csv", "Make it first")])
def test_bad_paths_are_refused_in_words(run, tmp_path, name, words):
    with pytest.raises(ValueError, match=words):
        run.export(tmp_path / name)


def test_bad_runs_and_scales_are_refused_in_words(run, tmp_path):
    with pytest.raises(ValueError, match="give a Run"):
        export(["ef21"], tmp_path / "a.csv")
    with pytest.raises(ValueError, match="pixels per point"):
        run.export(tmp_path / "a.png", scale=0)


def test_endings_may_be_shouted_and_the_path_comes_back(run, tmp_path):
    assert run.export(tmp_path / "A.CSV") == str((tmp_path / "A.CSV").resolve())
    assert set(module.WRITERS) == {".csv", ".parquet", ".html", ".svg", ".png", ".tex"}


def test_a_comparison_exports_as_it_is(problem, tmp_path):
    result = ol.compare(["gd", "ef21"], problem, rounds=10)
    table = pd.read_csv(export(result, tmp_path / "a.csv"))
    assert list(dict.fromkeys(table.method)) == ["GD", "EF21"]


def test_what_has_not_begun_exports_too(problem, tmp_path):
    from octolab.experiment.launch import prepare

    run = prepare("gd", problem, rounds=3)
    for ending in (".csv", ".html", ".svg", ".tex"):
        run.export(tmp_path / f"a{ending}")
