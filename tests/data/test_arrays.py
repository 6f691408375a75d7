"""Whatever holds numbers is read as the same numbers; what does not is told why."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from octolab.data.arrays import as_float, check_alike, labels, numbers
from octolab.data.errors import DataWarning

X = np.array([[1.0, -2.0], [0.5, 0.0], [3.0, 4.0]])

SAME = {
    "tensor": torch.tensor(X),
    "tensor with a gradient": torch.tensor(X, requires_grad=True),
    "bfloat16": torch.tensor(X).bfloat16(),
    "float16": torch.tensor(X).half(),
    "sparse tensor": torch.tensor(X).to_sparse(),
    "list of tensors": [torch.tensor(row) for row in X],
    "lists": X.tolist(),
    "csr": sp.csr_matrix(X),
    "coo array": sp.coo_array(X),
    "frame": pd.DataFrame(X),
    "nullable frame": pd.DataFrame(X).convert_dtypes(),
    "frame of two kinds": pd.DataFrame({"a": X[:, 0], "b": pd.array(X[:, 1].astype(int), "Int16")}),
    "objects": X.astype(object),
    "decimals": [[Decimal(str(v)) for v in row] for row in X.tolist()],
    "column of lists": pd.Series(X.tolist()),
    "masked, nothing hidden": np.ma.array(X),
}


@pytest.mark.parametrize("form", SAME)
def test_every_form_gives_the_same_numbers(form):
    np.testing.assert_array_equal(np.asarray(numbers(SAME[form], "x"), float), X)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.array([["a", "b"]]), "x hold text"),
        (pd.DataFrame({"a": ["p", "q"]}), "x hold what is no number"),
        (X + 1j, "x hold complex numbers"),
        (np.array(["2020-01-01"], "M8[D]"), "x hold dates"),
        (pd.Series(pd.array([1, None, 2], "Int64")), "1 of 3 samples hold inf or nan"),
        (np.ma.array([1.0, 2.0], mask=[True, False]), "1 of 2 samples hold inf or nan"),
        ([[1.0, None], [2.0, 3.0]], "1 of 2 samples"),
        ([[1.0, 2.0], [3.0]], "x: the entries have different shapes"),
        (sp.csr_matrix((2**20, 2**20)), "sparse matrix of shape"),
    ],
)
def test_what_is_no_array_of_finite_numbers_is_told(given, words):
    with pytest.raises(ValueError, match=words):
        numbers(given, "x")


@pytest.mark.parametrize(
    "given", [np.array(["a", "b"]), pd.Series(["a", "b"], dtype="category"), pd.array(["a", pd.NA], "string")]
)
def test_text_labels_are_told_how_to_become_numbers(given):
    with pytest.raises(ValueError, match=r"labels are text or objects.*from_arrays"):
        labels(given, "labels")


def test_categories_of_numbers_are_their_values():
    assert labels(pd.Series([7, 3, 7], dtype="category"), "labels").tolist() == [7, 3, 7]


def test_whole_numbers_that_a_float_cannot_tell_apart_are_warned_of():
    ids = 1_700_000_000 + np.arange(60)
    with pytest.warns(DataWarning, match="which float32 cannot tell apart"):
        as_float(ids, np.float32, "the features")
    assert as_float(ids, np.float64, "the features").tolist() == ids.tolist()
    assert as_float(np.array([2**24]), np.float32, "the features").tolist() == [2**24]


def test_test_features_are_of_the_training_features_kind():
    x = np.ones((3, 2, 2), np.float32)
    check_alike(x, x[:1] * 2, "the test features")
    with pytest.raises(ValueError, match=r"shape \(2, 3\) a sample"):
        check_alike(x, np.ones((1, 2, 3), np.float32), "the test features")
    with pytest.warns(DataWarning, match="two scales"):
        check_alike(x, x * 255, "the test features")
