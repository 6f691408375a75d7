"""Convex problems: gradients, Hessians and constants against finite differences, eigenvalues and autograd."""

import json

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.federation import Randomness
from octolab.problems import Batch, Logistic, Quadratics, Softmax, Tridiagonal, quadratics

rng = np.random.default_rng(0)


def ragged(sizes=(3, 7, 5, 1), d=4):
    features = [rng.normal(size=(m, d)) for m in sizes]
    return features, [np.sign(rng.normal(size=m)) for m in sizes]


def softmax_labels(sizes=(3, 7, 5, 1), classes=3):
    return [rng.integers(0, classes, m) for m in sizes]


features, signs = ragged()
PROBLEMS = {
    "quadratics": quadratics(n=4, d=5, L=10, mu=1, seed=1),
    "given quadratics": Quadratics(
        *(lambda p: (p._A64, p._b64))(quadratics(n=4, d=3, eigenbasis="random")), weights=[1, 2, 3, 4]
    ),
    "tridiagonal": Tridiagonal(d=6, n=4, noise=0.5),
    "logistic": Logistic(features, signs, 0.1),
    "logistic by examples": Logistic(features, signs, 0.05, weights="examples"),
    "logistic, equal sizes": Logistic(*ragged((5, 5, 5, 5)), 0.1),
    "nonconvex": Logistic(features, signs, 0.01, nonconvex=0.3),
    "softmax": Softmax(features, softmax_labels(), 3, 0.1),
    "softmax without bias": Softmax(features, softmax_labels(), 3, 0.1, bias=False, weights="examples"),
}


@pytest.fixture(params=PROBLEMS, ids=list(PROBLEMS))
def problem(request):
    return PROBLEMS[request.param]


@pytest.fixture
def x(problem):
    return torch.from_numpy(np.random.default_rng(7).normal(size=problem.d))


def numeric_gradient(f, x, h=1e-6):
    out = torch.zeros_like(x)
    for j in range(len(x)):
        e = torch.zeros_like(x)
        e[j] = h
        out[j] = (f(x + e) - f(x - e)) / (2 * h)
    return out


def test_gradients_are_the_derivatives_of_the_losses(problem, x):
    g = problem.grad(x)
    for i in range(problem.n):
        numeric = numeric_gradient(lambda y, i=i: problem.loss(y, slice(i, i + 1))[0], x)
        assert torch.allclose(g[i], numeric, atol=1e-7)
    assert torch.allclose(
        problem.gradient(x),
        numeric_gradient(lambda y: torch.tensor(problem.value(y), dtype=torch.float64), x),
        atol=1e-7,
    )


def test_hessians_are_the_derivatives_of_the_gradients(problem, x):
    H = problem.hessian(x)
    columns = []
    for j in range(problem.d):
        e = torch.zeros_like(x)
        e[j] = 1e-6
        columns.append((problem.grad(x + e) - problem.grad(x - e)) / 2e-6)
    assert torch.allclose(H, torch.stack(columns, 2), atol=1e-7)
    assert torch.allclose(H, H.mT)


def test_hessian_vector_products_need_no_hessian(problem, x):
    v = torch.from_numpy(np.random.default_rng(8).normal(size=problem.d))
    assert torch.allclose(problem.hvp(x, v), problem.hessian(x) @ v, atol=1e-12)


def test_a_cohort_and_models_of_ones_own(problem, x):
    everybody = problem.grad(x)
    rows = torch.tensor([2, 0])
    assert torch.allclose(problem.grad(x, rows), everybody[rows], atol=1e-14)
    assert torch.allclose(problem.grad(x, slice(1, 3)), everybody[1:3], atol=1e-14)
    models = torch.stack([x, 2 * x])
    mixed = problem.grad(models, rows)
    assert torch.allclose(mixed[0], everybody[2], atol=1e-13)
    assert torch.allclose(mixed[1], problem.grad(2 * x)[0], atol=1e-13)
    assert torch.allclose(problem.loss(models, rows)[1], problem.loss(2 * x)[0], atol=1e-13)


def test_evaluate_is_value_and_squared_gradient_norm(problem, x):
    seen = problem.evaluate(x)
    assert seen["loss"] == pytest.approx(problem.value(x), abs=1e-12)
    assert seen["grad_norm_sq"] == pytest.approx(float(problem.gradient(x).norm() ** 2), abs=1e-11)


def test_weights_sum_to_one_and_weigh_the_objective(problem, x):
    assert float(problem.weights.sum()) == pytest.approx(1)
    assert problem.value(x) == pytest.approx(float(problem.weights @ problem.loss(x)), abs=1e-12)


def test_smoothness_constants_bound_the_hessians_and_are_ordered(problem, x):
    for scale in (0, 0.1, 1, 5):
        H = problem.hessian(scale * x)
        tops = np.abs(np.linalg.eigvalsh(H.numpy())).max(1)
        assert (tops <= problem.L_i * (1 + 1e-9)).all()
        whole = np.linalg.eigvalsh(np.tensordot(problem.weights.numpy(), H.numpy(), 1))
        assert np.abs(whole).max() <= problem.L * (1 + 1e-9)
        if problem.mu is not None:
            assert whole.min() >= problem.mu * (1 - 1e-9) - 1e-12
    assert problem.L <= problem.L_mean * (1 + 1e-9) <= problem.L_max * (1 + 2e-9)
    assert problem.L_mean <= problem.L_qm * (1 + 1e-9)


def test_smoothness_is_attained_where_it_should_be():
    for name in ("quadratics", "given quadratics", "tridiagonal"):
        p = PROBLEMS[name]
        tops = np.linalg.eigvalsh(p.hessian(p.x0).numpy())
        assert np.allclose(tops[:, -1], p.L_i) and np.allclose(tops[:, 0], p.mu_i)
    p = PROBLEMS["logistic"]  # at 0 every sample's curvature is 1/4
    assert np.allclose(np.linalg.eigvalsh(p.hessian(torch.zeros(4, dtype=torch.float64)).numpy())[:, -1], p.L_i)


def test_the_minimiser_has_no_gradient(problem):
    if problem.name == "Logistic" and problem.nonconvex:
        assert problem.x_star is None and problem.f_star is None and not problem.convex
        return
    assert (
        float(problem.gradient(problem.x_star).norm()) < 1e-13 * max(1, float(problem.x_star.norm())) * problem.L * 10
    )
    for scale in (1e-3, 1):
        other = problem.x_star + scale * torch.ones_like(problem.x_star)
        assert problem.value(other) > problem.f_star


def test_the_minimiser_of_a_large_softmax_by_conjugate_gradients():
    p = Softmax([rng.normal(size=(20, 200))] * 2, [rng.integers(0, 8, 20)] * 2, 8, 0.1)
    assert p.d > 1500
    assert float(p.gradient(p.x_star).norm()) < 1e-12


def test_dtype_changes_precision_and_nothing_else(problem, x):
    single = problem.with_dtype(torch.float32)
    g = single.grad(x.float())
    assert g.dtype == torch.float32
    assert torch.allclose(g.double(), problem.grad(x), rtol=1e-4, atol=1e-5)
    assert pytest.approx(problem.L, rel=1e-5) == single.L


def test_specs_rebuild_what_was_generated_and_name_what_was_given(problem):
    spec = json.loads(json.dumps(problem.spec))
    if "given" in spec:
        with pytest.raises(ValueError, match="made from given arrays"):
            ol.problems.from_spec(spec)
    else:
        again = ol.problems.from_spec(spec)
        assert again.spec == spec
        assert torch.equal(again.grad(again.x0), problem.grad(problem.x0))


# -- minibatches ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["logistic", "softmax", "logistic, equal sizes"])
def test_a_batch_gradient_is_the_mean_over_its_samples(name):
    p = PROBLEMS[name]
    x = torch.from_numpy(rng.normal(size=p.d))
    lists = [[0], [2, 2 % p.sizes[1]], [0, 1, 2], [0]]
    batch = p.as_batch(lists)
    for i, chosen in enumerate(lists):
        single = [p.grad(x, slice(i, i + 1), p.as_batch([[j]]))[0] for j in chosen]
        assert torch.allclose(p.grad(x, None, batch)[i], torch.stack(single).mean(0), atol=1e-13)
    everything = p.as_batch([list(range(m)) for m in p.sizes])
    assert torch.allclose(p.grad(x, None, everything), p.grad(x), atol=1e-13)
    assert torch.allclose(p.loss(x, None, everything), p.loss(x), atol=1e-13)


@pytest.mark.parametrize("name", ["logistic", "logistic, equal sizes"])
def test_drawn_batches_are_distinct_samples_and_unbiased(name):
    p = PROBLEMS[name]
    x = torch.from_numpy(rng.normal(size=p.d))
    total = torch.zeros(p.n, p.d, dtype=torch.float64)
    draws = 4000
    for t in range(draws):
        batch = p.draw_batch(2, None, Randomness(0).draws(p.n, event=t))
        if t < 50:
            for i in range(p.n):
                mask = torch.ones(batch.index.shape[1], dtype=torch.bool) if batch.mask is None else batch.mask[i]
                chosen = batch.index[i][mask].tolist()
                assert len(set(chosen)) == len(chosen) == min(2, p.sizes[i]) and max(chosen) < p.sizes[i]
        total += p.grad(x, None, batch)
    spread = max(float(a.norm() if isinstance(a, torch.Tensor) else np.linalg.norm(a)) for a in features)
    assert torch.allclose(total / draws, p.grad(x), atol=5 * spread / np.sqrt(draws))


def test_batch_sizes_may_differ_between_clients():
    p = PROBLEMS["logistic, equal sizes"]
    batch = p.draw_batch(torch.tensor([1, 5, 2, 9]), None, Randomness(0).draws(4))
    assert batch.mask.sum(1).tolist() == [1, 5, 2, 5]


@pytest.mark.parametrize("kind", ["scalar", "iid"])
def test_gradient_noise_has_its_variance(kind):
    p = Tridiagonal(d=8, n=3000, noise=0.5, noise_kind=kind)
    for size in (1, 4):
        noise = p.grad(p.x0, None, p.draw_batch(size, None, Randomness(1).draws(3000))) - p.grad(p.x0)
        measured = float((noise**2).sum(1).mean())
        assert measured == pytest.approx(p.variance(size), rel=0.15)
        assert bool((noise == noise[:, :1]).all()) == (kind == "scalar") or kind == "scalar"
    assert p.variance(None) == 0


def test_the_variance_bound_of_a_logistic_sample_holds():
    for name in ("logistic", "softmax"):
        p = PROBLEMS[name]
        for scale in (0, 1, 10):
            x = scale * torch.from_numpy(rng.normal(size=p.d))
            for i in range(p.n):
                each = torch.stack([p.grad(x, slice(i, i + 1), p.as_batch([[j]]))[0] for j in range(p.sizes[i])])
                assert float(((each - each.mean(0)) ** 2).sum(1).mean()) <= p.sigma_sq * (1 + 1e-9)


# -- local training ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("momentum", "prox", "corrected"), [(0, 0, False), (0.9, 0, False), (0, 0.5, True), (0.5, 0.1, True)]
)
def test_local_sgd_against_a_loop_by_hand(momentum, prox, corrected):
    p = PROBLEMS["logistic"]
    x = torch.from_numpy(rng.normal(size=p.d))
    c = torch.from_numpy(rng.normal(size=(p.n, p.d))) if corrected else None
    lr = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    index = torch.tensor([[[0, 1], [3, 4], [2, 0], [0, 0]], [[2, 0], [5, 6], [4, 4], [0, 0]]])
    mask = torch.tensor([[[1, 1], [1, 1], [1, 0], [1, 0]], [[1, 0], [1, 1], [1, 1], [0, 0]]], dtype=torch.bool)
    y = p.local_sgd(x, None, lr=lr, steps=2, batch=Batch(index, mask, None), momentum=momentum, prox=prox, correction=c)
    for i in range(p.n):
        z, v = x.clone(), torch.zeros_like(x)
        for t in range(2):
            chosen = index[t, i][mask[t, i]].tolist()
            if not chosen:
                continue
            g = p.grad(z, slice(i, i + 1), p.as_batch([chosen]))[0]
            v = momentum * v + g + (c[i] if corrected else 0)
            z = z - lr[i] * (v + prox * (z - x))
        assert torch.allclose(y[i], z, atol=1e-12)


# -- sentences -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Quadratics(np.zeros((2, 3, 3)), np.zeros((2, 2))), r"give A \(n, d, d\) and b \(n, d\)"),
        (lambda: Quadratics([[[1.0, 2.0], [0.0, 1.0]]], [[0.0, 0.0]]), "not symmetric"),
        (lambda: Quadratics([[[np.inf]]], [[0.0]]), "inf or nan"),
        (lambda: quadratics(mu=0), "0 < mu <= L"),
        (lambda: quadratics(eigenbasis="own"), "give 'shared' or 'random'"),
        (lambda: Tridiagonal(noise=-1), "noise=-1"),
        (lambda: Logistic([np.ones((2, 3))], [np.array([0, 1])]), "needs -1 and \\+1"),
        (
            lambda: Logistic([np.ones((2, 3)), np.ones((0, 3))], [np.ones(2), np.ones(0)]),
            "Client 1 has no samples",
        ),
        (lambda: Logistic([np.ones((2, 3))], [np.ones(3)]), "do not fit"),
        (lambda: Logistic([np.full((2, 3), np.nan)], [np.ones(2)]), "hold inf"),
        (lambda: Logistic([], []), "one array per client"),
        (lambda: Logistic([np.ones((2, 3))], [np.ones(2)], -1.0), "l2=-1.0"),
        (lambda: Logistic(*ragged(), weights=[1, 2]), "give 4 numbers"),
        (lambda: Logistic(*ragged(), weights="size"), "choose 'uniform', 'examples'"),
        (lambda: Softmax([np.ones((2, 3))], [np.array([0, 5])], 3), "needs 0..2"),
        (lambda: Tridiagonal(d=3000, n=2).hessian(torch.zeros(3000)), "gives no Hessians"),
    ],
)
def test_bad_input_gets_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# -- on data -------------------------------------------------------------------------------------------------
def test_classification_by_examples_is_the_pooled_problem():
    p = ol.problems.classification("digits", clients=8, split=ol.data.Dirichlet(alpha=0.3), seed=1)
    parts = [p.partition.client(i, ol.data.load("digits")) for i in range(p.n)]
    pooled = Softmax([np.concatenate([x for x, *_ in parts])], [np.concatenate([y for _, y, *_ in parts])], 10, 1e-3)
    x = torch.from_numpy(rng.normal(size=p.d))
    assert p.value(x) == pytest.approx(pooled.value(x), abs=1e-10)
    assert torch.allclose(p.gradient(x), pooled.gradient(x), atol=1e-12)


def test_accuracy_is_global_and_per_client():
    p = ol.problems.classification("digits", clients=8, split=ol.data.Dirichlet(alpha=0.3), seed=1)
    run = ol.run("gd", p, rounds=60, live=False)
    assert run.metrics()["accuracy"] > 0.8
    each = run.client_metrics()["accuracy"]
    assert each.shape == (8,) and np.nanmin(each) >= 0 and np.nanmax(each) <= 1
    parts = [p.partition.client(i, ol.data.load("digits")) for i in range(p.n)]
    W = run.x.view(10, -1).numpy()
    for i, (_, _, x, y) in enumerate(parts):
        scores = x.reshape(len(x), -1) @ W[:, :-1].T + W[:, -1]
        if len(y):
            assert each[i] == pytest.approx((scores.argmax(1) == y).mean())


def test_two_classes_become_signs():
    p = ol.problems.classification("breast-cancer", clients=5)
    assert isinstance(p, Logistic) and p.d == 30


def test_a_classification_spec_rebuilds_the_problem():
    p = ol.problems.classification("digits", clients=6, split=ol.data.Shards(2), seed=3, l2=0.01)
    again = ol.problems.from_spec(json.loads(json.dumps(p.spec)))
    assert torch.equal(again.rows, p.rows) and again.l2 == 0.01
