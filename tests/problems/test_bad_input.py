"""What cannot be a problem is refused in a sentence that says what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from octolab.problems import (
    CNN,
    MLP,
    CharGPT,
    Logistic,
    Quadratics,
    Softmax,
    Tridiagonal,
    classification,
    from_spec,
    language,
    quadratics,
)

EYE, ZERO = np.eye(2)[None], np.zeros((1, 2))
X, Y = [np.ones((3, 2))], [np.array([1, -1, 1])]


@pytest.mark.parametrize(
    "match, make",
    [
        ("not symmetric", lambda: Quadratics([[[1.0, 2.0], [0.0, 1.0]]], ZERO)),
        (r"give A \(n, d, d\)", lambda: Quadratics(EYE, np.zeros((1, 3)))),
        (r"give A \(n, d, d\)", lambda: Quadratics(np.eye(2), ZERO)),
        ("inf or nan", lambda: Quadratics(EYE * np.nan, ZERO)),
        ("needs", lambda: Quadratics(EYE, ZERO, x0=[1.0])),
        ("do not sum to 0", lambda: Quadratics(EYE, ZERO, weights=[1.0, 1.0])),
        ("do not sum to 0", lambda: Quadratics(EYE, ZERO, weights=[-1.0])),
        ("'uniform', 'examples'", lambda: Quadratics(EYE, ZERO, weights="equal")),
        ("'scalar'", lambda: Quadratics(EYE, ZERO, noise=1.0, noise_kind="laplace")),
        (">= 0", lambda: Tridiagonal(noise=-1.0)),
        ("d=0: give a whole number >= 1", lambda: Tridiagonal(d=0)),
        ("0 < mu <= L", lambda: quadratics(mu=2.0, L=1.0)),
        ("0 < mu <= L", lambda: quadratics(mu=0.0)),
        ("'shared' or 'random'", lambda: quadratics(eigenbasis="none")),
        ("needs -1 and", lambda: Logistic(X, [np.array([0, 1, 1])])),
        ("no samples", lambda: Logistic([np.ones((0, 2))], [np.ones(0)])),
        ("do not fit", lambda: Logistic(X, [np.ones(2)])),
        ("do not fit", lambda: Logistic([*X, np.ones((3, 5))], [*Y, *Y])),
        ("one array per client", lambda: Logistic([], [])),
        ("inf or nan", lambda: Logistic([X[0] * np.inf], Y)),
        ("ridge", lambda: Logistic(X, Y, -1.0)),
        ("regulariser's weight", lambda: Logistic(X, Y, nonconvex=-1.0)),
        ("needs 0..1", lambda: Softmax(X, [np.array([0, 1, 2])], 2)),
        ("whole numbers", lambda: Softmax(X, [np.array([0.5, 1, 2])], 3)),
        ("two whole widths", lambda: MLP(3)),
        ("side=2: give a whole number >= 4", lambda: CNN(side=2)),
        ("multiple of heads", lambda: CharGPT(5, width=10, heads=4)),
        ("choose 'logistic'", lambda: classification("digits", "transformer")),
        ("ol.problems.language", lambda: classification("shakespeare")),
        ("text data set", lambda: language("digits") if False else language(_digits())),
        ("two classes", lambda: classification("digits", nonconvex=0.1)),
        ("not for networks", lambda: classification("digits", "mlp", nonconvex=0.1)),
        ("square images", lambda: classification("breast-cancer", "cnn", clients=3)),
        ("There is no problem 'mystery'", lambda: from_spec({"kind": "mystery"})),
    ],
)
def test_a_sentence_says_what_is_wrong(match, make):
    with pytest.raises(ValueError, match=match):
        make()


def _digits():
    from octolab.data import load

    return load("digits")


def test_given_arrays_are_named_by_their_hash():
    p, q = Quadratics(EYE, ZERO), Quadratics(2 * EYE, ZERO)
    assert p.spec["given"] != q.spec["given"] and p.spec == Quadratics(EYE, ZERO).spec
    with pytest.raises(ValueError, match=r"given arrays.*hand the problem in"):
        from_spec(p.spec)


def test_as_batch_takes_ragged_lists():
    batch = Quadratics(EYE, ZERO).as_batch([[2, 0], [], [1]])
    assert batch.index.tolist() == [[2, 0], [0, 0], [1, 0]]
    assert batch.mask.tolist() == [[True, True], [False, False], [True, False]]
    assert torch.is_tensor(batch.index)
