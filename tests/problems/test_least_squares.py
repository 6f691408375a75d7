"""Least squares: every constant is exact, and the minimiser solves the normal equations."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

import octolab as ol
from octolab.problems import LeastSquares, from_spec, regression

RNG = np.random.default_rng(0)
SIZES = (7, 12, 3)
X = [RNG.normal(size=(m, 4)) for m in SIZES]
Y = [RNG.normal(size=m) for m in SIZES]


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def problem(request):
    return LeastSquares(X, Y, 0.1, bias=request.param, weights="examples")


def rows(problem, i):
    return np.c_[X[i], np.ones(len(X[i]))] if problem.bias else X[i]


def test_value_and_gradient_are_those_of_the_mean_squared_error(problem, slope):
    x = torch.from_numpy(RNG.normal(size=problem.d))
    own = [np.mean((rows(problem, i) @ x.numpy() - Y[i]) ** 2) + 0.05 * float(x @ x) for i in range(3)]
    assert np.allclose(problem.loss(x), own) and problem.value(x) == pytest.approx(np.dot(SIZES, own) / 22)
    assert torch.allclose(problem.grad(x), slope(problem.loss, x), atol=1e-6)
    assert torch.allclose(problem.gradient(x), problem.weights @ problem.grad(x))
    found = problem.evaluate(x)
    assert found["loss"] == pytest.approx(problem.value(x))
    assert found["grad_norm_sq"] == pytest.approx(float(problem.gradient(x).square().sum()))


def test_constants_are_the_eigenvalues_of_the_hessians(problem):
    H = [2 / m * rows(problem, i).T @ rows(problem, i) + 0.1 * np.eye(problem.d) for i, m in enumerate(SIZES)]
    x = torch.zeros(problem.d, dtype=torch.float64)
    assert np.allclose(problem.hessian(x), H)
    v = torch.from_numpy(RNG.normal(size=problem.d))
    assert np.allclose(problem.hvp(x, v), [h @ v.numpy() for h in H])
    assert np.allclose(problem.L_i, [np.linalg.eigvalsh(h)[-1] for h in H])
    assert np.allclose(problem.mu_i, [np.linalg.eigvalsh(h)[0] for h in H])
    whole = sum(w * h for w, h in zip(problem.weights.numpy(), H, strict=True))
    assert pytest.approx(np.linalg.eigvalsh(whole)[-1]) == problem.L
    assert problem.mu == pytest.approx(np.linalg.eigvalsh(whole)[0])


def test_the_minimiser_is_exact(problem):
    assert float(problem.gradient(problem.x_star).norm()) < 1e-12
    twin = problem.with_dtype(torch.float32)
    assert twin.x_star.dtype == torch.float32 and torch.allclose(twin.x_star.double(), problem.x_star, atol=1e-6)


def test_columns_that_depend_on_each_other_leave_mu_zero_and_the_shortest_minimiser():
    twice = [np.c_[a, a[:, :1]] for a in X]
    p = LeastSquares(twice, Y, bias=False)
    assert p.mu == 0 and not p.strongly_convex and float(p.gradient(p.x_star).norm()) < 1e-12
    assert p.x_star[0] == pytest.approx(float(p.x_star[-1]))


def test_gradient_descent_reaches_the_minimum():
    p = LeastSquares(X, Y, 0.1)
    run = ol.run(ol.methods.GD(), p, rounds=300, live=False)
    assert run.history.loss.iloc[-1] == pytest.approx(p.f_star, rel=1e-9)


def test_regression_from_a_frame_is_scikit_learns_with_its_own_metrics():
    df = pd.DataFrame(np.concatenate(X), columns=list("abcd")).assign(price=np.concatenate(Y))
    df = pd.concat([df] * 5, ignore_index=True)
    p = regression(df, target="price", clients=4)
    assert isinstance(p, LeastSquares) and p.n == 4 and "classes" not in p.evaluate(p.x0)
    train, test = (np.concatenate(part) for part in (p.partition.train, p.partition.test))
    reference = LinearRegression().fit(df.iloc[train, :4], df.price[train])
    assert np.allclose(p.x_star, [*reference.coef_, reference.intercept_])
    guess, found = reference.predict(df.iloc[test, :4]), p.evaluate(p.x_star)
    truth = df.price[test]
    assert found["mse"] == pytest.approx(mean_squared_error(truth, guess))
    assert found["mae"] == pytest.approx(mean_absolute_error(truth, guess))
    assert found["r2"] == pytest.approx(r2_score(truth, guess))
    own = p.client_metrics(p.x_star)
    assert np.average(own["mse"], weights=p.partition.test_sizes) == pytest.approx(found["mse"])
    personal = p.client_metrics(p.x_star.expand(4, -1))
    assert np.allclose(personal["mae"], own["mae"]) and np.allclose(personal["loss"], own["loss"])


def test_whole_number_targets_are_numbers_in_a_regression():
    ages = RNG.integers(20, 80, 60)
    p = regression((RNG.normal(size=(60, 2)), ages), clients=3)
    assert isinstance(p, LeastSquares)
    assert p.data.flat_y.sort().values[-48:].tolist() == sorted(ages[np.concatenate(p.partition.train)].tolist())
    held = ol.data.from_arrays(RNG.normal(size=(60, 2)), np.arange(60) % 3)
    assert regression(held, clients=3).data.flat_y.unique().tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="no numbers: it is no regression"):
        regression("breast-cancer")
    with pytest.raises(ValueError, match=r"ol\.problems\.regression"):
        ol.problems.classification(ol.data.from_arrays(np.ones((4, 1)), [0.5, 1, 2, 3]))


def test_a_regression_is_rebuilt_from_its_spec(tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame(np.concatenate(X), columns=list("abcd")).assign(price=np.concatenate(Y)).to_csv(path, index=False)
    for options in ({}, {"model": "mlp", "loss": "huber", "hidden": (3,), "validation_share": 0.2}):
        p = regression(f"file:{path}", target="price", clients=3, **options)
        q = from_spec(json.loads(json.dumps(p.spec)))
        assert q.spec == p.spec and torch.equal(q.grad(q.x0 + 1), p.grad(p.x0 + 1))
    with pytest.raises(ValueError, match="given in memory"):
        from_spec(regression((X[1], Y[1]), clients=2).spec)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "tree"}, "choose 'linear', 'mlp', 'cnn'"),
        ({"loss": "hinge"}, "choose 'squared', 'absolute', 'huber'"),
        ({"batchnorm": "local"}, "for networks"),
        ({"validation_share": 1.5}, "validation_share=1.5"),
        ({"target": "price"}, "has no columns"),
    ],
)
def test_what_does_not_fit_is_told(options, words):
    with pytest.raises(ValueError, match=words):
        regression((X[1], Y[1]), clients=2, **options)
