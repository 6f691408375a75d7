"""A partition shows itself: as counts, text, static HTML and a figure."""

from __future__ import annotations

import numpy as np
import pytest

from octolab.data import IID, Dirichlet, FeatureShift, Natural, load
from octolab.lab.partition import palette

LABELS = np.random.default_rng(5).integers(0, 10, 3000)


def test_the_histogram_counts_each_part():
    p = Dirichlet(0.4).split(LABELS, 12)
    for part, lists in (("train", p.train), ("test", p.test)):
        for i in range(12):
            np.testing.assert_array_equal(p.histogram(part)[i], np.bincount(LABELS[lists[i]], minlength=10))
    np.testing.assert_array_equal(p.histogram(), p.histogram("train") + p.histogram("test"))
    with pytest.raises(ValueError, match="part is 'all of it'"):
        p.histogram("all of it")


def test_classes_of_the_data_set_count_even_where_no_client_has_them():
    ds = load("digits")
    assert Dirichlet(0.3).split(ds, 3).histogram().shape == (3, 10)


def test_client_reads_its_own_samples():
    ds = load("digits")
    p = IID().split(ds, 4)
    x_train, y_train, x_test, y_test = p.client(1, ds)
    np.testing.assert_array_equal(x_train, ds.x[p.train[1]])
    np.testing.assert_array_equal(y_test, ds.y[p.test[1]])
    assert len(x_train) + len(x_test) == p.sizes[1] and len(y_train) == p.train_sizes[1]
    np.testing.assert_array_equal(p.client(-1, ds)[1], p.client(3, ds)[1])
    with pytest.raises(IndexError, match="no client 4; this partition has clients 0 to 3"):
        p.client(4, ds)
    with pytest.raises(ValueError, match="Give the data set that was split"):
        p.client(0, load("breast-cancer"))


def test_the_text_has_a_line_per_client_and_a_mark_per_label():
    p = Natural().split([0, 0, 0, 0, 1, 2, 2, 2], clients=[0, 0, 0, 0, 1, 1, 1, 1], test_share=0.25)
    lines = repr(p).splitlines()
    assert lines[0] == "Partition Natural(fewer='sample'): 2 clients, 8 samples (train 6, test 2), seed 0"
    assert lines[1].endswith("labels 012")
    assert lines[2].split() == ["0", "0", "3", "1", "█··"]
    assert lines[3].split() == ["1", "1", "3", "1", "·▃█"]
    assert "note: client 0 has a single class" in lines


def test_the_text_of_a_thousand_clients_stays_short():
    p = Dirichlet(0.3).split(LABELS, 1000)
    text = repr(p)
    lines = text.splitlines()
    assert len(lines) < 32 and max(map(len, lines)) < 140
    assert "980 more clients" in text and lines[2].startswith("0 ") and any(x.startswith("999 ") for x in lines)
    assert f"least {p.sizes.min():,}, median {np.median(p.sizes):,.0f}, most {p.sizes.max():,}" in text


def test_many_labels_share_columns():
    text = repr(IID().split(np.arange(1000) % 100, 3))
    assert "(100 of them, 3 to a column)" in text
    assert max(map(len, text.splitlines())) < 110


def test_the_html_is_static_and_escapes_names():
    labels = np.array(["<script>", "b&w"])[LABELS % 2]
    p = Dirichlet(1.0).split(labels, 40)
    html = p._repr_html_()
    assert "<script" not in html and "&lt;script&gt;" in html and "b&amp;w" in html
    assert "20 more clients" in html and "Dirichlet(alpha=1.0" in html
    assert html.count("<tr>") == 1 + 20 + 1  # the head, 20 clients, the gap


def test_the_figure_stacks_the_histogram():
    pytest.importorskip("plotly", reason="plotly is not installed")
    p = Dirichlet(0.3).split(LABELS, 30)
    fig = p.figure()
    assert fig.layout.barmode == "stack" and fig.layout.xaxis.title.text == "client"
    assert "samples" in fig.layout.yaxis.title.text and "Dirichlet" in fig.layout.title.text
    drawn = np.stack([np.asarray(trace.y) for trace in fig.data], axis=1)
    np.testing.assert_array_equal(drawn, p.histogram())
    train = np.stack([np.asarray(trace.y) for trace in p.figure("train").data], axis=1)
    np.testing.assert_array_equal(train, p.histogram("train"))
    assert len({trace.marker.color for trace in fig.data}) == 10


def test_the_figure_of_very_many_clients_is_thinned():
    pytest.importorskip("plotly", reason="plotly is not installed")
    fig = IID().split(LABELS, 3000).figure()
    assert all(len(trace.x) == 2000 for trace in fig.data) and "2,000 of 3,000 drawn" in fig.layout.title.text


def test_the_figure_says_what_is_missing_without_plotly(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ImportError, match="Install plotly, or print"):
        IID().split(LABELS, 3).figure()


@pytest.mark.parametrize("n", [1, 2, 10, 11, 71])
def test_the_palette_has_distinct_colours(n):
    colours = palette(n)
    assert len(set(colours)) == n and all(len(c) == 7 and int(c[1:], 16) >= 0 for c in colours)


def test_regression_and_nested_splits_show_themselves():
    assert "the targets are numbers" in repr(IID().split(np.linspace(0, 1, 20), 2))
    text = repr(FeatureShift(base=Dirichlet(0.5)).split(LABELS, 2))
    assert "base=Dirichlet(alpha=0.5, min_size=1)" in text
