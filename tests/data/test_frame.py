"""A data frame becomes features: encoded, filled in, scaled as asked, and what is no feature is named."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from octolab.data import DataWarning, from_frame, load

RNG = np.random.default_rng(0)
N = 60


def frame(**more):
    return pd.DataFrame({"age": RNG.integers(20, 80, N), "dose": RNG.random(N), **more, "label": np.arange(N) % 2})


def column(ds, name):
    return ds.x[:, ds.feature_names.index(name)]


def test_numbers_come_as_they_are():
    df = frame(flag=[True, False] * 30, small=pd.array([1, 2] * 30, "Int8"))
    ds = from_frame(df)
    assert ds.feature_names == ("age", "dose", "flag", "small") and ds.notes == ()
    np.testing.assert_array_equal(ds.x, df[list(ds.feature_names)].to_numpy(float))


def test_text_and_categories_are_one_hot_codes_or_refused():
    df = frame(
        city=pd.Categorical(["b", "a", "c"] * 20, categories=["c", "b", "a", "never"]), word=["x", None, "y"] * 20
    )
    ds = from_frame(df)
    assert ds.feature_names[2:] == ("city=c", "city=b", "city=a", "word=x", "word=y", "word is missing")
    assert column(ds, "city=b")[:3].tolist() == [1, 0, 0] and column(ds, "word is missing")[:3].tolist() == [0, 1, 0]
    codes = from_frame(df, categorical="codes", missing="median")
    assert codes.feature_names == ("age", "dose", "city", "word") and column(codes, "word")[:3].tolist() == [0, 2, 1]
    with pytest.raises(ValueError, match="city hold no numbers but text or categories"):
        from_frame(df, categorical="refuse")


def test_gaps_hold_the_median_and_a_flag_says_where():
    df = frame(seats=[1.0, np.nan, 3.0, 100.0] * 15)
    ds = from_frame(df)
    assert column(ds, "seats")[:4].tolist() == [1, 3, 3, 100] and column(ds, "seats is missing")[:4].tolist() == [
        0,
        1,
        0,
        0,
    ]
    assert "medians are pooled" in ds.notes[0]
    assert "seats is missing" not in from_frame(df, missing="median").feature_names
    assert len(from_frame(df, missing="drop")) == 45 and "15 rows" in from_frame(df, missing="drop").notes[0]
    with pytest.raises(ValueError, match=r"15 of 60 samples have missing.*'seats'"):
        from_frame(df, missing="refuse")


def test_statistics_are_of_the_training_rows_alone():
    df = frame(v=np.arange(N, dtype=float))
    ds = from_frame(df, scale="standard", test_share=0.25)
    assert abs(column(ds, "v").mean()) < 1e-12 and column(ds, "v").std() == pytest.approx(1)
    held = pd.DataFrame({"age": [50], "dose": [0.5], "v": [1000.0], "label": [0]})
    ds = from_frame(df, scale="standard", test=held)
    assert ds.x_test[0, 2] == pytest.approx((1000 - np.arange(N).mean()) / np.arange(N).std())
    held["v"] = np.nan
    assert from_frame(df, test=held).x_test[0, 2] == np.median(np.arange(N))


def test_statistics_per_client_touch_no_other_client():
    df = frame(
        v=np.r_[np.full(20, 1.0), np.full(20, 5.0), np.full(20, np.nan)], site=["a"] * 20 + ["b"] * 20 + ["c"] * 20
    )
    df.loc[[0, 30], "v"] = np.nan
    with pytest.warns(DataWarning, match="statistics='per client'"):
        pooled = from_frame(df, client="site")
    own = from_frame(df, client="site", statistics="per client")
    assert column(pooled, "v")[0] == 3.0
    assert column(own, "v")[0] == 1 and column(own, "v")[30] == 5 and column(own, "v")[40] == 3  # c: the clients' mean
    scaled = from_frame(df, client="site", statistics="per client", scale="standard", missing="drop")
    assert np.allclose([scaled.x[scaled.clients == i, 1].mean() for i in range(2)], 0)
    with pytest.raises(ValueError, match="needs clients"):
        from_frame(df, statistics="per client", features=["age"])


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("Unnamed: 0", np.arange(N), "an index"),
        ("row", np.arange(1, N + 1), "an index"),
        ("patient_id", RNG.permutation(N) + 5000, "an identifier by its name"),
        ("PatientID", RNG.permutation(N) + 5000, "an identifier by its name"),
        ("visit", [f"v{i:04}x" for i in range(N)], "an identifier: 60 different"),
        ("seen", pd.date_range("2024-01-01", periods=N), "times"),
        ("when", [f"2024-01-{1 + i % 28:02} 10:00" for i in range(N)], "times"),
    ],
)
def test_indices_identifiers_and_times_are_left_out_and_named(name, values, why, tmp_path):
    df = frame(**{name: values})
    with pytest.warns(DataWarning, match=f"{name!r} .{why}"):
        ds = from_frame(df)
    assert ds.feature_names == ("age", "dose")
    df.to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(DataWarning, match=f"{name!r} .{why}"):
        assert load(f"file:{tmp_path / 't.csv'}").feature_names == ("age", "dose")


def test_what_is_asked_for_is_taken():
    df = frame(patient_id=RNG.permutation(N) + 5000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert from_frame(df, features=["patient_id"]).feature_names == ("patient_id",)


def test_seconds_since_1970_stay_different(tmp_path):
    df = frame(t=1_700_000_000 + np.arange(N))
    with pytest.warns(DataWarning, match="'t' holds numbers so large"):
        ds = from_frame(df)
    assert len(np.unique(column(ds, "t"))) == N
    df.to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(DataWarning, match="'t' holds"):
        ds = load(f"file:{tmp_path / 't.csv'}")
    assert ds.x.dtype == np.float64 and len(np.unique(column(ds, "t"))) == N


def test_fractions_of_seconds_stay_different_too(tmp_path):
    frame(t=1.7e9 + np.arange(N) / 2).to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(DataWarning, match="'t' holds numbers so large"):
        assert len(np.unique(column(load(f"file:{tmp_path / 't.csv'}"), "t"))) == N


def test_sentences_become_hashed_words():
    df = frame(text=[f"the patient number {i} felt rather well" for i in range(N)])
    ds = from_frame(df)
    assert ds.x.shape == (N, 258) and "hashed into 256 columns" in ds.notes[0]
    np.testing.assert_array_equal(ds.x, from_frame(df).x)


def test_targets_clients_and_groups_are_no_features():
    df = frame(site=["n", "s"] * 30, sex=["f", "m", "m"] * 20).rename(columns={"label": "ill"})
    ds = from_frame(df, target="ill", client="site", groups="sex")
    assert ds.feature_names == ("age", "dose") and ds.client_names == ("n", "s") and ds.group_names == ("f", "m")
    assert "sex=f" in from_frame(df, "ill", groups="sex", features=["age", "sex"]).feature_names
    several = from_frame(df.assign(tired=df.ill ^ 1, cold=1), target=["ill", "tired", "cold"], features=["age"])
    assert several.kind == "multi-label" and several.classes == ("ill", "tired", "cold")
    assert from_frame(df, target=["age", "dose"], features=["ill"], kind="regression").y.shape == (N, 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: from_frame(frame(), target="disease"), "no column 'disease'; its columns are age, dose, label"),
        (lambda: from_frame(frame(), client="site"), "no column 'site'"),
        (lambda: from_frame(frame(), groups="sex"), "no column 'sex'"),
        (lambda: from_frame(frame(), features=["height"]), "no column 'height'"),
        (lambda: from_frame(frame(), features=["label"]), "give it away"),
        (lambda: from_frame(frame(), missing="mean"), "missing is 'mean'; allowed are 'median.flag'"),
        (lambda: from_frame(frame()[:0]), "no rows"),
        (lambda: from_frame(frame()[["label"]]), "no feature column left"),
        (lambda: from_frame(frame(v=np.inf)), "holds inf"),
        (lambda: from_frame(frame(when=pd.date_range("2024", periods=N)), features=["when"]), "no numbers but times"),
        (lambda: from_frame(frame(s=["p", None] * 30), target="s"), "30 of 60 are missing"),
        (lambda: from_frame(frame(), test=frame().drop(columns="dose")), "no column 'dose'"),
        (lambda: from_frame(frame(), test=frame().assign(dose="much")), "'dose' is a number column in training"),
        (lambda: from_frame(np.eye(3)), "give a pandas DataFrame"),
    ],
)
def test_what_does_not_fit_is_told(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_labels_that_are_lists_or_missing_in_a_file(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": RNG.normal(size=N), "label": [[1, 0, 1], [0, 1, 0]] * 30}).to_parquet(path)
    ds = load(f"file:{path}")
    assert ds.kind == "multi-label" and ds.y[0].tolist() == [1, 0, 1]
    pd.DataFrame({"a": RNG.normal(size=N), "label": pd.array(["p", "q", pd.NA] * 20, "string")}).to_parquet(path)
    with pytest.raises(ValueError, match="20 of 60 are missing"):
        load(f"file:{path}")


def test_test_images_on_another_scale_are_refused(tmp_path):
    path, bytes_ = tmp_path / "x.npz", RNG.integers(0, 256, (60, 6, 6), dtype="u1")
    np.savez(path, x=bytes_.astype("f4"), y=np.arange(60) % 2, x_test=bytes_[:9], y_test=np.arange(9) % 2)
    with pytest.raises(ValueError, match="two scales"):
        load(f"file:{path}")
