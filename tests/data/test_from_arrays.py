"""Arrays in memory, torch and Hugging Face data sets: the same samples, or a sentence."""

from __future__ import annotations

from datetime import date

import datasets
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from octolab.data import (
    IID,
    DataWarning,
    Dirichlet,
    FeatureShift,
    Natural,
    as_dataset,
    from_arrays,
    from_hugging_face,
    from_torch,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = RNG.integers(0, 3, 60)
TEXT = np.array(["ape", "bee", "cat"])[Y]


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (Y, (0, 1, 2)),
        (Y + 1, (1, 2, 3)),
        (Y.astype("u1"), (0, 1, 2)),
        (Y.astype(float), (0, 1, 2)),
        (Y[:, None], (0, 1, 2)),
        (torch.tensor(Y), (0, 1, 2)),
        (torch.tensor(Y)[:, None], (0, 1, 2)),
        (Y.tolist(), (0, 1, 2)),
        (pd.Series(Y, dtype="Int64"), (0, 1, 2)),
        (TEXT, ("ape", "bee", "cat")),
        (TEXT.tolist(), ("ape", "bee", "cat")),
        (pd.Series(TEXT, dtype="string"), ("ape", "bee", "cat")),
        (pd.Categorical(TEXT), ("ape", "bee", "cat")),
        (np.eye(3)[Y], (0, 1, 2)),
        (np.eye(3, dtype=int)[Y], (0, 1, 2)),
        (torch.eye(3)[torch.tensor(Y)], (0, 1, 2)),
    ],
)
def test_labels_of_every_kind_are_the_same_classes(y, classes):
    ds = from_arrays(X, y)
    assert ds.kind == "classification" and ds.classes == classes and ds.y.tolist() == Y.tolist()
    assert ds.x.dtype == np.float64 and ds.x is not X and np.array_equal(ds.x, X)


def test_categories_keep_their_order_and_class_numbers_get_names():
    sizes = pd.Categorical(np.array(["small", "large"])[Y % 2], categories=["small", "middle", "large"], ordered=True)
    ds = from_arrays(X, sizes)
    assert ds.classes == ("small", "large") and ds.y.tolist() == (Y % 2).tolist()
    ds = from_arrays(X[:2], [2, 0], classes=["a", "b", "c"])
    assert ds.classes == ("a", "b", "c") and ds.y.tolist() == [2, 0]
    with pytest.raises(ValueError, match=r"their numbers 0\.\.1"):
        from_arrays(X, Y, classes=["a", "b"])


@pytest.mark.parametrize("x", [torch.tensor(X, requires_grad=True), pd.DataFrame(X), sp.csr_array(X), X.tolist()])
def test_features_of_every_form_are_the_same_numbers(x):
    np.testing.assert_array_equal(from_arrays(x, Y).x, X)


def test_columns_name_the_features():
    assert from_arrays(pd.DataFrame({"a": X[:, 0], "b": X[:, 1]}), Y).feature_names == ("a", "b")
    assert from_arrays(X, Y, names=list("wxyz")).feature_names == ("w", "x", "y", "z")
    with pytest.raises(ValueError, match="2 names for features of shape"):
        from_arrays(X, Y, names=["a", "b"])


def test_several_labels_and_several_targets():
    rows = (RNG.random((60, 4)) < 0.5).astype(int)
    for y in (rows, rows.astype("f4"), rows.astype(bool), torch.tensor(rows)):
        ds = from_arrays(X, y)
        assert ds.kind == "multi-label" and ds.classes == (0, 1, 2, 3) and np.array_equal(ds.y, rows)
    tags = [["a"], ["b", "a"], [], ["c", "b"]]
    ds = from_arrays(X[:4], tags)
    assert ds.classes == ("a", "b", "c") and ds.y.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1]]
    assert from_arrays(X, np.eye(3)[Y], kind="multi-label").y.shape == (60, 3)
    ds = from_arrays(X, X[:, :2])
    assert ds.kind == "regression" and ds.y.shape == (60, 2)


def test_numbers_are_a_regression_when_they_or_the_user_say_so():
    assert from_arrays(X, X[:, 0]).kind == "regression"
    prices = RNG.integers(100, 1000, 60)
    with pytest.warns(DataWarning, match="kind='regression'"):
        assert from_arrays(X, prices).kind == "classification"
    ds = from_arrays(X, prices, kind="regression")
    assert ds.kind == "regression" and ds.y.tolist() == prices.tolist() and ds.y.dtype == np.float64


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: from_arrays(X, Y[:-1]), "X has 60 samples and y has 59"),
        (lambda: from_arrays(X * np.nan, Y), "60 of 60 samples hold inf or nan"),
        (lambda: from_arrays(X, [None, *Y[1:]]), "1 of 60 are missing"),
        (lambda: from_arrays(X, [pd.NA, *TEXT[1:]]), "1 of 60 are missing"),
        (lambda: from_arrays(X, [1, *TEXT[1:]]), "mix int and str"),
        (lambda: from_arrays(X, np.zeros((60, 2, 2))), "one target per sample"),
        (lambda: from_arrays(X, X[:, 0], kind="classification"), "a regression"),
        (lambda: from_arrays(X, TEXT, kind="regression"), "a regression needs real numbers"),
        (lambda: from_arrays(X, Y, kind="ranking"), "kind is 'ranking'"),
        (lambda: from_arrays(X, Y, kind="multi-label"), "rows of zeros and ones"),
        (lambda: from_arrays(X, Y, clients=Y[:3]), r"clients has shape \(3,\) for 60 samples"),
        (lambda: from_arrays(X, Y, clients=[np.nan, *Y[1:]]), "1 of 60 are missing"),
        (lambda: from_arrays(X, Y, test=X), "give a pair"),
        (lambda: from_arrays(X, Y, test=(X, Y[:9])), "60 samples and 9 targets"),
        (lambda: from_arrays(X, Y, test=(X[:, :2], Y)), "both must be alike"),
        (lambda: from_arrays(X, Y, test=(X * np.nan, Y)), "the test features: 60 of 60"),
        (lambda: from_arrays(X, Y, test=(X, TEXT)), "give one kind"),
        (lambda: from_arrays(X, Y, test=((X * 50).astype("u1"), Y)), "two scales"),
        (lambda: from_arrays(X[:0], Y[:0]), "at least one sample"),
        (lambda: from_arrays(TEXT, Y), "hold text"),
        (lambda: from_arrays(X[:2], [{"a": 1}, {"a": 2}]), "hold objects .dict"),
        (lambda: from_arrays(X[:2], [date(2024, 1, 1)] * 2), "hold objects .date"),
        (lambda: from_arrays(X[:, :0], Y), "no features"),
    ],
)
def test_what_does_not_fit_is_told(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_clients_groups_and_a_test_part_are_kept():
    sites, sex = np.array(["north", "south"])[Y % 2], np.array(["f", "m"])[Y // 2]
    ds = from_arrays(X, TEXT, clients=sites, groups=sex, test=(X[:5], ["bee"] * 5))
    assert ds.client_names == ("north", "south") and ds.clients.tolist() == (Y % 2).tolist()
    assert ds.group_names == ("f", "m") and ds.groups.tolist() == (Y // 2).tolist()
    assert ds.y_test.tolist() == [1] * 5 and Natural().split(ds).sizes.sum() == 60
    held = from_arrays(X, Y, clients=np.arange(60) // 20, test_share=0.25)
    assert len(held) == 45 and len(held.x_test) == 15 and len(held.clients) == 45
    assert np.array_equal(np.sort(np.r_[held.x, held.x_test], axis=0), np.sort(X, axis=0))


def test_a_data_set_of_ones_own_is_checked():
    ds = from_arrays(X, Y)
    from dataclasses import replace

    assert replace(ds, y=Y.astype("u1")).y.dtype == np.int64
    for fault, words in (
        ({"y": Y + 1}, "codes in y run from 1 to 3"),
        ({"y": Y - 1}, "codes in y run from -1"),
        ({"x": X * np.nan}, "60 of 60 samples of x"),
        ({"x_test": X[:, :2], "y_test": Y}, "a sample and the training features"),
        ({"x_test": X, "y_test": Y + 9}, "codes in y_test run"),
        ({"clients": Y, "client_names": ("a", "b")}, "indices 0..1"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(ds, **fault)


def test_torch_data_sets_give_their_samples():
    pair = TensorDataset(torch.tensor(X), torch.tensor(Y))
    for given in (pair, Subset(pair, range(60)), [(x, int(t)) for x, t in zip(X, Y, strict=True)]):
        ds = from_torch(given)
        assert np.array_equal(ds.x, X) and ds.y.tolist() == Y.tolist()
    assert as_dataset(pair).kind == "classification"
    with pytest.raises(ValueError, match=r"loader\.dataset"):
        from_torch(DataLoader(pair))
    with pytest.raises(ValueError, match="a stream"):
        from_torch(type("Stream", (IterableDataset,), {"__iter__": lambda self: iter([])})())
    with pytest.raises(ValueError, match="3 tensors"):
        from_torch(TensorDataset(*[torch.tensor(Y)] * 3))


def test_pictures_of_a_torch_data_set_become_floats_with_its_class_names():
    from PIL import Image

    class Pictures(torch.utils.data.Dataset):
        classes = ("cat", "dog")

        def __len__(self):
            return 4

        def __getitem__(self, i):
            return Image.fromarray(np.full((3, 3), 60 * i, np.uint8)), i % 2

    ds = from_torch(Pictures())
    assert ds.classes == ("cat", "dog") and ds.x.shape == (4, 3, 3) and ds.x.max() == pytest.approx(180 / 255)


def test_hugging_face_tables_give_class_names_and_their_test_split():
    features = datasets.Features({"a": datasets.Value("float32"), "label": datasets.ClassLabel(names=["no", "yes"])})
    train = datasets.Dataset.from_dict({"a": [1.0, 2.0, 3.0], "label": [0, 1, 1]}, features=features)
    both = datasets.DatasetDict(train=train, test=train.select([2]))
    ds = from_hugging_face(both)
    assert ds.classes == ("no", "yes") and ds.x[:, 0].tolist() == [1, 2, 3] and ds.y_test.tolist() == [1]
    assert as_dataset(train).x_test is None
    with pytest.raises(ValueError, match="no 'train'"):
        from_hugging_face(datasets.DatasetDict(test=train))


def test_images_and_text_of_hugging_face():
    from PIL import Image

    pictures = [Image.fromarray(np.full((3, 3), v, np.uint8)) for v in (0, 255)]
    ds = as_dataset(datasets.Dataset.from_dict({"image": pictures, "label": [0, 1]}))
    assert ds.x.shape == (2, 3, 3) and ds.x.max() == 1
    text = [f"a sentence about number {i} and no more" for i in range(30)]
    ds = as_dataset(datasets.Dataset.from_dict({"text": text, "label": [0, 1] * 15}))
    assert ds.x.shape == (30, 256) and "counts of words" in ds.notes[0]


@pytest.mark.parametrize("given", [np.eye(3), 7, None, {"x": X}, (X, Y, X)])
def test_what_is_no_data_set_is_told(given):
    with pytest.raises(ValueError, match=r"data set: give|is no data set"):
        as_dataset(given)


def test_bytes_stay_bytes_and_are_spoken_of():
    pictures = RNG.integers(0, 256, (60, 3, 3), dtype="u1")
    with pytest.warns(DataWarning, match="X / 255"):
        assert from_arrays(pictures, Y).x.dtype == np.uint8


def test_splits_take_several_labels_and_colour_images():
    rows = (RNG.random((60, 4)) < 0.5).astype("f4")
    for y in (rows, rows.astype(int), X[:, :2], from_arrays(X, rows)):
        p = IID().split(y, 5)
        assert sorted(np.concatenate(p.train + p.test)) == list(range(60))
    with pytest.raises(ValueError, match="no single one"):
        Dirichlet(0.3).split(rows, 5)
    assert Dirichlet(0.3).split(Y[:, None], 5).n == 5


def test_colour_images_are_turned_plane_by_plane():
    x = RNG.random((8, 3, 9, 9)).astype("f4")
    ds = from_arrays(x, np.arange(8) % 2)
    split = FeatureShift(rotation=90).split(ds, 2)
    own = split.client(0, ds)[0]
    for c in range(3):
        plane = from_arrays(x[:, c], np.arange(8) % 2)
        np.testing.assert_array_equal(own[:, c], split.client(0, plane)[0])
    last = from_arrays(np.moveaxis(x, 1, -1).copy(), np.arange(8) % 2)
    np.testing.assert_array_equal(split.client(0, last)[0], np.moveaxis(own, 1, -1))


def test_series_in_another_order_than_their_table_are_refused():
    table, labels = pd.DataFrame(np.eye(6)), pd.Series([0, 1] * 3)
    with pytest.raises(ValueError, match="another order"):
        from_arrays(table, labels[::-1])
    with pytest.raises(ValueError, match="clients have the same index in another order"):
        from_arrays(table, labels, clients=labels[::-1])
    later = pd.Series([0, 1] * 3, index=range(10, 16))  # another index altogether says nothing
    assert from_arrays(table, later).y.tolist() == from_arrays(table, labels[::-1].to_numpy()[::-1]).y.tolist()


def test_a_table_of_arrow_is_a_table():
    pyarrow = pytest.importorskip("pyarrow")
    table = pd.DataFrame({"a": np.arange(6.0), "b": [0, 1, 0, 1, 1, 0]})
    from octolab.data.given import as_dataset

    held = as_dataset(pyarrow.Table.from_pandas(table), target="b")
    assert held.x[:, 0].tolist() == table["a"].tolist() and held.y.tolist() == table["b"].tolist()
