"""Runs as files: every ending, one run and several, and words where something is missing."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import octolab as ol
from octolab.lab import export as module
from octolab.lab.export import export

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


def test_png_shows_the_curves_in_their_colours(several, tmp_path):
    import matplotlib.image

    pixels = matplotlib.image.imread(export(several, tmp_path / "a.png", scale=1))[:, :, :3] * 255
    for colour in ("0072B2", "D55E00"):  # the two runs' lines are there
        wanted = np.array([int(colour[k : k + 2], 16) for k in (0, 2, 4)])
        assert (np.abs(pixels - wanted).sum(2) < 60).sum() > 100
    assert (pixels > 250).all(2).mean() > 0.7  # on white


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_a_picture_has_the_same_bytes_each_time(several, tmp_path, ending):
    first, second = (Path(export(several, tmp_path / f"{name}{ending}")).read_bytes() for name in "ab")
    assert first == second and len(first) > 5_000


def test_pictures_without_matplotlib_say_what_to_do(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'octolab\[lab\]'"):
        run.export(tmp_path / "a.png")


def test_a_slide_is_larger_than_a_column_of_a_paper(run, tmp_path):
    import matplotlib.image

    slide, paper = (matplotlib.image.imread(run.export(tmp_path / f"{s}.png", size=s, panel="communication")).shape
                    for s in ("slide", "paper"))  # fmt: skip
    assert slide[1] > 3 * paper[1]
    with pytest.raises(ValueError, match="'screen', 'slide', 'paper'"):
        run.export(tmp_path / "a.png", size="wall")


@pytest.mark.parametrize("dark", [False, True])
def test_every_panel_can_become_a_picture_with_all_its_marks(several, dark):
    from octolab.lab.pictures import figure

    dashboard = ol.dashboard(several)
    dashboard.style.dark = dark
    for name in dashboard.panels:
        charts = [c for c in dashboard.charts(name) if not c.empty]
        made = figure(charts, dashboard.style, list(several))
        axes = [a for a in made.axes if a.get_label() != "<colorbar>"]
        assert [a.get_title(loc="left") for a in axes] == [c.title for c in charts]
        for ax, chart in zip(axes, charts, strict=True):
            assert ax.get_xlabel() == chart.x
            lines = [m for m in chart.marks if m.kind == "line"]
            assert [len(q.get_xdata()) for q in ax.lines] == [np.isfinite(m.y).sum() for m in lines]


def test_a_run_plots_itself_into_given_axes(run):
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    assert run.plot(ax, x="round", y="grad_norm_sq") is ax
    assert ax.get_yscale() == "log" and ax.get_xlabel() == "round"
    assert np.array_equal(ax.lines[0].get_ydata(), run.history.grad_norm_sq.dropna())


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
    assert set(module.WRITERS) == {".csv", ".parquet", ".html", ".svg", ".png", ".pdf", ".tex"}


def test_a_comparison_exports_as_it_is(problem, tmp_path):
    result = ol.compare(["gd", "ef21"], problem, rounds=10)
    table = pd.read_csv(result.export(tmp_path / "a.csv"))
    assert list(dict.fromkeys(table.method)) == ["GD", "EF21"]


def test_what_has_not_begun_exports_too(problem, tmp_path):
    from octolab.experiment.launch import prepare

    run = prepare("gd", problem, rounds=3)
    for ending in (".csv", ".html", ".svg", ".png", ".tex"):
        run.export(tmp_path / f"a{ending}")


SAID = {"octolab", "commit", "python", "torch", "numpy", "cpu", "threads", "data"}


def test_every_export_says_where_its_numbers_come_from(several, run, tmp_path):
    version = run.provenance["torch"].encode()
    for ending in (".html", ".svg", ".png", ".tex"):
        assert version in Path(export(several, tmp_path / f"a{ending}")).read_bytes(), ending
    assert b"/Subject" in Path(export(several, tmp_path / "a.pdf")).read_bytes()
    held = pd.read_parquet(export(several, tmp_path / "a.parquet")).attrs
    assert set(json.loads(held["provenance"])[0]) >= SAID
    run.export(tmp_path / "events.csv")
    assert json.loads(read(tmp_path / "events.csv-metadata.json"))["octolab"]["specs"]


def test_beside_a_csv_lies_what_it_is(run, tmp_path):
    run.export(tmp_path / "a.csv")
    about = json.loads(read(tmp_path / "a.csv-metadata.json"))
    assert about["url"] == "a.csv" and set(about["octolab"]["provenance"][0]) >= SAID
    assert ol.from_spec(about["octolab"]["specs"][run.name][0]).spec == run.spec


@pytest.fixture(scope="module")
def seeds(problem):
    methods = {"a": M.DIANA(lr=0.01), "b": M.DIANA(lr=0.02)}
    return ol.compare(methods, problem, rounds=10, seeds=range(5), live=False)


@pytest.mark.parametrize(("band", "centre"), [("sd", "mean"), ("ci95", "iqm"), ("minmax", "median")])
def test_bands_are_in_the_table_and_its_latex(seeds, tmp_path, band, centre):
    table = seeds.table(band=band, centre=centre)
    text = read(seeds.export(tmp_path / "a.tex", band=band, centre=centre))
    for name in "ab":
        row = table.loc[name]
        if band == "sd":
            wanted = rf"{row.loss:.5g} $\pm$ {row.loss_sd:.5g}"
        else:
            low, high = ("min", "max") if band == "minmax" else ("low", "high")
            wanted = f"{row.loss:.5g} [{row[f'loss_{low}']:.5g}, {row[f'loss_{high}']:.5g}]"
        assert wanted in text
    assert module.BANDS_SAID[band] in text
    assert seeds.latex(band="sd").count(r"$\pm$") == 2


def test_exported_curves_have_the_band_that_was_asked_for(seeds, tmp_path):
    wide, narrow = (
        read(seeds.export(tmp_path / f"{band}.svg", panel="convergence", band=band)) for band in ("minmax", "ci95")
    )
    assert wide != narrow
    board = seeds_board(seeds, "ci95")
    bands = [m for m in board.charts("convergence")[0].marks if m.kind == "band"]
    lines = seeds.lines("round", "suboptimality", "ci95")
    for mark, line in zip(bands, lines, strict=True):
        assert np.allclose(mark.low, line.low) and np.allclose(mark.high, line.high)
    with pytest.raises(ValueError, match="band='se': choose one of"):
        seeds.export(tmp_path / "a.svg", band="se")


def seeds_board(runs, band):
    from octolab.lab.dashboard.static import StaticDashboard

    return StaticDashboard(runs, band=band)


def test_identical_seeds_are_no_band_in_any_picture_or_table(problem):
    same = ol.compare(["gd"], problem, rounds=5, seeds=(0, 1, 2), live=False)
    board = seeds_board(same, "sd")
    assert not [m for chart in board.charts("convergence") for m in chart.marks if m.kind == "band"]
    assert "±" not in board._repr_html_() and r"$\pm$" not in same.latex()


def test_a_figure_of_a_paper_with_confidence_bands_takes_four_lines(tmp_path, problem):
    import matplotlib.pyplot as plt

    result = ol.compare(["diana", "ef21"], problem, rounds=5, seeds=range(3), live=False)
    figure, axes = plt.subplots(figsize=(3.4, 2.3), layout="constrained")
    result.plot(axes, y="suboptimality", band="ci95")
    figure.savefig(tmp_path / "figure.pdf")

    assert len(axes.collections) == 1 and len(axes.lines) == 2  # DIANA is random, EF21 with TopK is not
    assert (tmp_path / "figure.pdf").stat().st_size > 5_000
