"""Whatever the loss, a client's objective is torch's own value of it on the client's data; or it is refused in words."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import octolab as ol
from octolab.errors import AssumptionWarning
from octolab.problems import Network

SIZES = (7, 12, 5)
RNG = np.random.default_rng(0)
X = [RNG.normal(size=(m, 4)).astype("f4") for m in SIZES]
CLASSES = [RNG.permutation(np.arange(m) % 3) for m in SIZES]
SIGNS = [(np.arange(m) % 2) for m in SIZES]
REAL = [RNG.normal(size=m).astype("f4") for m in SIZES]
COUNTS = [RNG.integers(0, 50, m) for m in SIZES]
WEIGHT = torch.tensor([1.0, 2.0, 10.0])


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def linear(outputs: int) -> nn.Module:
    return seeded(lambda: nn.Linear(4, outputs))


def torchs_own(module, loss, targets, x=X):
    """Values and gradients of each client, by plain autograd."""
    values, slopes = [], []
    for a, y in zip(x, targets, strict=True):
        value = loss(module(torch.tensor(a)), y)
        slopes.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(module.parameters()))]))
        values.append(value.detach())
    return torch.stack(values), torch.stack(slopes)


SMOOTH = nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.2)
CASES = {
    "class weights": (3, nn.CrossEntropyLoss(weight=WEIGHT), CLASSES, torch.tensor),
    "weights and smoothing": (3, SMOOTH, CLASSES, torch.tensor),
    "label smoothing": (3, nn.CrossEntropyLoss(label_smoothing=0.1), CLASSES, torch.tensor),
    "ignored class": (3, nn.CrossEntropyLoss(ignore_index=0), CLASSES, torch.tensor),
    "ignored and weighted": (3, nn.CrossEntropyLoss(weight=WEIGHT, ignore_index=1), CLASSES, torch.tensor),
    "nll": (3, nn.NLLLoss(weight=WEIGHT), CLASSES, torch.tensor),
    "margin": (3, nn.MultiMarginLoss(weight=WEIGHT), CLASSES, torch.tensor),
    "bce": (1, nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0])), SIGNS, lambda y: torch.tensor(y)[:, None].float()),
    "mse column": (1, nn.MSELoss(), REAL, lambda y: torch.tensor(y)[:, None]),
    "huber on counts": (1, nn.HuberLoss(), COUNTS, lambda y: torch.tensor(y)[:, None].float()),
    "smooth l1": (1, nn.SmoothL1Loss(beta=0.3), REAL, lambda y: torch.tensor(y)[:, None]),
    "poisson": (1, nn.PoissonNLLLoss(), COUNTS, lambda y: torch.tensor(y)[:, None].float()),
    "functional": (3, F.cross_entropy, CLASSES, torch.tensor),
    "bound arguments": (3, functools.partial(F.cross_entropy, weight=WEIGHT), CLASSES, torch.tensor),
    "own mean": (1, lambda o, t: ((o[:, 0] - t) ** 2).mean(), REAL, torch.tensor),
    "own, one per sample": (1, lambda o, t: (o[:, 0] - t).abs() ** 1.5, REAL, torch.tensor),
    "own, whole targets": (1, lambda o, t: F.mse_loss(o[:, 0], t), COUNTS, lambda y: torch.tensor(y).float()),
    "own, masked": (3, lambda o, t: F.cross_entropy(o, t, reduction="none") * (t > 0), CLASSES, torch.tensor),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_a_clients_objective_is_torchs_value(case, dtype):
    width, loss, labels, read = CASES[case]
    module = linear(width)
    p = Network(module, loss, X, labels).with_dtype(dtype)
    plain = (lambda o, t: loss(o, t).mean()) if case.startswith("own") else loss
    values, slopes = torchs_own(module, plain, [read(y) for y in labels])
    assert torch.allclose(p.loss(p.x0).float(), values, atol=1e-5)
    assert torch.allclose(p.grad(p.x0).float(), slopes, atol=1e-5)
    assert p.value(p.x0) == pytest.approx(float(values.mean()), rel=1e-5)
    assert torch.allclose(p.gradient(p.x0).float(), slopes.mean(0), atol=1e-5)


@pytest.mark.parametrize("case", ["class weights", "ignored and weighted", "nll", "bce", "huber on counts", "own mean"])
@pytest.mark.parametrize("hidden", [False, True])
def test_local_steps_are_torchs_own(case, hidden):
    width, loss, labels, read = CASES[case]
    module = seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, width))) if hidden else linear(width)
    p = Network(module, loss, X, labels)
    rng = np.random.default_rng(2)
    index = torch.from_numpy(rng.integers(0, 5, (4, 3, 3)))
    mask = torch.from_numpy(rng.random((4, 3, 3)) < 0.7)
    mask[..., 0] = True
    ours = p.local_sgd(p.x0, None, lr=0.1, steps=4, batch=ol.problems.Batch(index, mask, None))
    for i in range(3):
        nn.utils.vector_to_parameters(p.x0.clone(), module.parameters())
        optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
        for t in range(4):
            chosen = index[t, i][mask[t, i]].numpy()
            optimiser.zero_grad()
            value = loss(module(torch.tensor(X[i][chosen])), read(labels[i][chosen]))
            if not torch.isnan(value):  # torch has 0/0 where all targets are ignored; here nobody moves
                value.backward()
                optimiser.step()
        theirs = nn.utils.parameters_to_vector(module.parameters()).detach()
        assert torch.allclose(ours[i], theirs, atol=1e-5), i


def test_batchmean_is_torchs():
    soft = [torch.softmax(torch.tensor(a[:, :3]), 1).numpy() for a in X]
    module = seeded(lambda: nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1)))
    loss = nn.KLDivLoss(reduction="batchmean")
    p = Network(module, loss, X, soft)
    values, _ = torchs_own(module, loss, [torch.tensor(y) for y in soft])
    assert torch.allclose(p.loss(p.x0), values, atol=1e-6)


@pytest.mark.parametrize("classes, height, width", [(4, 4, 4), (3, 5, 2)])
def test_segmentation_has_its_classes_first(classes, height, width):
    x = [RNG.normal(size=(3, 1, height, width)).astype("f4") for _ in "ab"]
    y = [RNG.integers(0, classes, (3, height, width)) for _ in "ab"]
    module = seeded(lambda: nn.Conv2d(1, classes, 3, padding=1))
    p = Network(module, nn.CrossEntropyLoss(), x, y, test=list(zip(x, y, strict=True)))
    values, slopes = torchs_own(module, F.cross_entropy, [torch.tensor(b) for b in y], x)
    assert torch.allclose(p.loss(p.x0), values, atol=1e-6) and torch.allclose(p.grad(p.x0), slopes, atol=1e-6)
    right = np.mean([(module(torch.tensor(a)).argmax(1).numpy() == b).mean() for a, b in zip(x, y, strict=True)])
    assert p.evaluate(p.x0)["accuracy"] == pytest.approx(right)
    if classes == width:
        with pytest.raises(ValueError, match="classes first or last"):
            Network(module, "cross_entropy", x, y)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(label_smoothing=0.1), nn.NLLLoss(), nn.MultiMarginLoss(), SMOOTH])
def test_accuracy_is_there_wherever_there_are_class_scores(loss):
    module = linear(3)
    p = Network(module, loss, X, CLASSES, test=list(zip(X, CLASSES, strict=True)))
    hits = [module(torch.tensor(a)).argmax(1).numpy() == c for a, c in zip(X, CLASSES, strict=True)]
    assert p.evaluate(p.x0)["accuracy"] == pytest.approx(np.concatenate(hits).mean())
    assert p.client_accuracy(p.x0) == pytest.approx([h.mean() for h in hits])


def test_one_score_per_answer_is_judged_by_its_sign():
    module = linear(1)
    p = Network(module, nn.BCEWithLogitsLoss(), X, SIGNS, test=list(zip(X, SIGNS, strict=True)))
    hits = [(module(torch.tensor(a))[:, 0] > 0).numpy() == s for a, s in zip(X, SIGNS, strict=True)]
    assert p.evaluate(p.x0)["accuracy"] == pytest.approx(np.concatenate(hits).mean())


def test_a_function_on_class_scores_is_judged_too():
    focal = lambda o, t: (1 - o.softmax(1).gather(1, t[:, None])[:, 0]) ** 2 * F.cross_entropy(o, t, reduction="none")  # noqa: E731
    p = Network(linear(3), focal, X, CLASSES, test=list(zip(X, CLASSES, strict=True)))
    assert 0 <= p.evaluate(p.x0)["accuracy"] <= 1


@pytest.mark.parametrize(
    "match, width, loss, labels",
    [
        ("one to one", 2, nn.MSELoss(), REAL),
        ("pair everybody", 1, lambda o, t: ((o - t) ** 2).mean(), REAL),
        ("samples beside it", 1, lambda o, t: (o - t) ** 2, REAL),
        ("adds up", 3, nn.CrossEntropyLoss(reduction="sum"), CLASSES),
        ("adds up", 3, lambda o, t: F.cross_entropy(o, t, reduction="sum"), CLASSES),
        ("between 0 and 1", 1, nn.BCEWithLogitsLoss(), [2 * s - 1 for s in SIGNS]),
        ("one-hot", 3, "cross_entropy", [np.eye(3, dtype=int)[c] for c in CLASSES]),
        ("one score per class", 1, nn.CrossEntropyLoss(), REAL),
        ("labels run from", 2, nn.NLLLoss(), CLASSES),
        ("does not depend on the outputs", 3, lambda o, t: (o.argmax(1) != t).float(), CLASSES),
        ("all its labels are ignored", 3, nn.CrossEntropyLoss(ignore_index=0), [c * (len(c) > 5) for c in CLASSES]),
    ],
)
def test_what_does_not_fit_is_refused_in_words(match, width, loss, labels):
    module = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)) if match == "one score per class" else linear(width)
    with pytest.raises(ValueError, match=match):
        Network(module, loss, X, labels)


def test_parameters_of_a_loss_stay_and_that_is_said():
    class Learnt(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(3))

        def forward(self, o, t):
            return F.cross_entropy(o * self.w, t)

    with pytest.warns(AssumptionWarning, match="parameters of its own"):
        assert Network(linear(3), Learnt(), X, CLASSES).d == 15


def test_a_loss_that_is_not_finite_ends_a_run_and_says_so():
    p = Network(linear(1), lambda o, t: (o[:, 0] + 1e-6 - t).log().abs(), X, [np.full(m, -9.0) for m in SIZES])
    with pytest.warns(RuntimeWarning, match="its loss is nan"):
        run = ol.run(ol.methods.FedAvg(lr=300.0), p, rounds=9)
    assert run.status == "diverged" and "loss is nan" in str(run.error)


def test_loss_ridge_and_layers_are_part_of_a_problems_identity():
    make = lambda m=None, loss="cross_entropy", **o: Network(m or nn.Linear(4, 3), loss, X, CLASSES, **o).spec  # noqa: E731
    same = make()
    assert make() == same  # a module made anew, with other first weights
    relu, tanh = (nn.Sequential(nn.Linear(4, 3), act, nn.Linear(3, 3)) for act in (nn.ReLU(), nn.Tanh()))
    others = [
        make(l2=0.1),
        make(loss=nn.MultiMarginLoss()),
        make(loss=nn.CrossEntropyLoss(WEIGHT)),
        make(relu),
        make(tanh),
    ]
    others += [make(loss=nn.CrossEntropyLoss(WEIGHT * 2)), make(loss=lambda o, t: F.cross_entropy(o, t))]
    texts = [repr(spec) for spec in [same, *others]]
    assert len(set(texts)) == len(texts)
