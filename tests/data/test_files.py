"""A user's own files: what is read, and what a file that does not fit is told."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from octolab.data import ChecksumError, Natural, load


@pytest.fixture
def frame():
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "age": rng.integers(20, 80, 12),
            "dose": rng.random(12).round(3),
            "label": ["ill", "well"] * 6,
            "client": ["north"] * 5 + ["south"] * 4 + ["east"] * 3,
        }
    )


def write(frame, path):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=path.stem == "lines")


@pytest.mark.parametrize("file", ["t.csv", "t.parquet", "t.json", "lines.json", "lines.jsonl"])
def test_every_table_form_gives_the_same_arrays(frame, tmp_path, file):
    path = tmp_path / file
    write(frame, path)
    ds = load(f"file:{path}")
    np.testing.assert_allclose(ds.x, frame[["age", "dose"]].to_numpy(), rtol=1e-6)
    assert ds.x.dtype == np.float32 and ds.feature_names == ("age", "dose")
    assert ds.classes == ("ill", "well") and ds.y.tolist() == [0, 1] * 6
    assert ds.client_names == ("east", "north", "south") and np.bincount(ds.clients).tolist() == [3, 5, 4]
    assert ds.provenance.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert ds.provenance.bytes == path.stat().st_size and ds.provenance.n == 12
    assert Natural().split(ds).sizes.tolist() == [3, 5, 4]


def test_columns_can_be_chosen_and_a_test_part_held_out(frame, tmp_path):
    path = tmp_path / "t.csv"
    write(frame.rename(columns={"label": "state", "client": "clinic"}), path)
    ds = load(f"file:{path}", target="state", client="clinic", features=["dose"], test_share=0.25, licence="CC0")
    assert ds.x.shape == (9, 1) and ds.x_test.shape == (3, 1) and len(ds.clients) == 9
    assert sorted([*ds.x[:, 0], *ds.x_test[:, 0]]) == sorted(frame["dose"].astype(np.float32))
    assert ds.provenance.licence == "CC0"
    again = load(ds.name, **json.loads(json.dumps(ds.spec))["options"])
    np.testing.assert_array_equal(again.x, ds.x)


def test_numbers_that_are_not_whole_make_a_regression(frame, tmp_path):
    path = tmp_path / "t.csv"
    write(frame, path)
    ds = load(f"file:{path}", target="dose", features=["age"])
    assert ds.kind == "regression" and ds.classes == () and ds.y.dtype == np.float32


def test_integer_labels_become_codes_and_keep_their_values(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,label\n1,7\n2,-3\n3,7\n")
    ds = load(f"file:{path}")
    assert ds.classes == (-3, 7) and ds.y.tolist() == [1, 0, 1] and ds.clients is None


def test_a_parquet_column_of_arrays_is_one_feature(tmp_path):
    path = tmp_path / "t.parquet"
    images = np.arange(24, dtype=np.float64).reshape(4, 2, 3)
    pd.DataFrame({"image": [i.tolist() for i in images], "label": [0, 1, 0, 1]}).to_parquet(path)
    ds = load(f"file:{path}")
    np.testing.assert_array_equal(ds.x, images)
    assert ds.feature_names is None


def test_npz_with_and_without_its_optional_arrays(tmp_path):
    path, x = tmp_path / "t.npz", np.arange(20.0).reshape(10, 2)
    y = np.array(["b", "a"] * 5)
    np.savez(path, x=x, y=y)
    ds = load(f"file:{path}")
    assert ds.classes == ("a", "b") and ds.x_test is None and ds.clients is None
    np.testing.assert_array_equal(ds.x, x.astype(np.float32))
    np.savez(
        path,
        x=(x * 10).astype(np.uint8),
        y=y,
        x_test=x[:3].astype(np.uint8),
        y_test=y[:3],
        clients=[0, 1] * 5,
    )
    ds = load(f"file:{path}")
    assert ds.y_test.tolist() == [1, 0, 1] and ds.n_clients == 2 and ds.provenance.n == 13
    np.testing.assert_allclose(ds.x, x * 10 / 255, atol=1e-7)
    held = load(f"file:{path}", test_share=0.3)
    assert len(held) == 10  # the file's own test part counts


def test_npz_with_python_objects_is_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the file's code ran",))

    path = tmp_path / "t.npz"
    np.savez(path, x=np.array([Trap(), Trap()], object), y=[0, 1])
    with pytest.raises(ValueError, match="'x' holds Python objects, which octolab never unpickles"):
        load(f"file:{path}")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((3, 2))}, "no array 'y'"),
        ({"x": np.zeros((3, 2)), "y": [0, 1]}, "X has 3 samples and y has 2"),
        (
            {"x": np.zeros((3, 2)), "y": [0, 1, 0], "x_test": np.zeros((1, 2))},
            "only one of x_test and y_test",
        ),
        ({"x": np.zeros((3, 2)), "y": [0, 1, 0], "clients": [0]}, r"clients has shape \(1,\) for 3 samples"),
        (
            {"x": np.full((3, 2), np.nan), "y": [0, 1, 0]},
            "3 of 3 samples hold inf or nan",
        ),
        ({"x": np.zeros((2, 2)), "y": [0.5, np.nan]}, "1 of 2 are missing or not finite"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "at least one sample"),
    ],
)
def test_npz_files_that_do_not_fit_are_told_why(tmp_path, arrays, words):
    path = tmp_path / "t.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=words):
        load(f"file:{path}")


def test_a_file_that_is_no_npz_is_told_so(tmp_path):
    path = tmp_path / "t.npz"
    for raw in (b"", b"nonsense", b"PK\x03\x04broken"):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="is not an npz archive"):
            load(f"file:{path}")
    np.savez(path, x=np.zeros((50, 2)), y=np.zeros(50))
    raw = bytearray(path.read_bytes())
    raw[200:300] = bytes(255 - b for b in raw[200:300])
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="damaged"):
        load(f"file:{path}")


def test_missing_columns_text_and_gaps_are_told(frame, tmp_path):
    path = tmp_path / "t.csv"
    write(frame, path)
    with pytest.raises(ValueError, match=r"no column 'class'; its columns are age, dose, label, client.*target="):
        load(f"file:{path}", target="class")
    with pytest.raises(ValueError, match="no column 'site'"):
        load(f"file:{path}", client="site")
    with pytest.raises(ValueError, match="no column 'height'"):
        load(f"file:{path}", features=["height"])
    with pytest.raises(ValueError, match="the columns label hold no numbers"):
        load(f"file:{path}", target="client", client=None, categorical="refuse")
    path.write_text("a,label\n1,0\n,1\n")
    with pytest.raises(ValueError, match="1 of 2 samples have missing"):
        load(f"file:{path}", missing="refuse")
    path.write_text("a,label\n1,x\n2,\n")
    with pytest.raises(ValueError, match="1 of 2 are missing"):
        load(f"file:{path}")
    path.write_text("label\n1\n")
    with pytest.raises(ValueError, match="no feature column left"):
        load(f"file:{path}")


def test_missing_files_and_unknown_suffixes_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.csv' does not exist \(looked for /"):
        load("file:nowhere.csv")
    with pytest.raises(ValueError, match=r"suffix '.xlsx'; octolab reads .parquet, .csv"):
        load("file:table.xlsx")
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="cannot be read as parquet"):
        load(f"file:{tmp_path / 't.parquet'}")
    (tmp_path / "t.json").write_text('[{"a": 1')
    with pytest.raises(ValueError, match="cannot be read as json"):
        load(f"file:{tmp_path / 't.json'}")


def test_a_promised_checksum_is_verified(frame, tmp_path):
    path = tmp_path / "t.csv"
    write(frame, path)
    good = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load(f"file:{path}", sha256=good.upper()).provenance.sha256 == good
    with pytest.raises(ChecksumError, match=f"sha256 is {good}, promised is {'0' * 64}"):
        load(f"file:{path}", sha256="0" * 64)
