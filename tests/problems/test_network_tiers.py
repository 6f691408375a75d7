"""Every tier of a network trains as a plain PyTorch loop does, client by client, and gives the slopes of its losses."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from octolab.problems import CNN, MLP, Batch, CharGPT, Network, language

SIZES = [5, 3, 6, 4]


class Residual(nn.Module):
    """A module that only the general tiers take."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x + torch.tanh(self.hidden(x)))


def seeded(make) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make()


MODULES = {"mlp": lambda: MLP(6, 5, 4, 3), "cnn": lambda: CNN(1, 8, 3), "residual": lambda: seeded(Residual)}
TIERS = {
    "mlp": ["chain", "stacked", "batched", "loop"],
    "cnn": ["stacked", "batched", "loop"],
    "residual": ["batched", "loop"],
}
CASES = [(name, tier) for name in MODULES for tier in TIERS[name]]
OPTIONS = {
    "plain": {},
    "ridge": {"l2": 0.3},
    "momentum": {"momentum": 0.9},
    "prox": {"prox": 0.7},
    "correction": {"correction": True},
    "everything": {"momentum": 0.5, "prox": 0.7, "correction": True, "l2": 0.3, "own steps": True},
}


def data(name: str, sizes: list[int] = SIZES) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(1)
    shape = (1, 8, 8) if name == "cnn" else (6,)
    return [rng.normal(size=(m, *shape)) for m in sizes], [rng.integers(0, 3, m) for m in sizes]


def network(name: str, tier: str = "auto", loss="cross_entropy", dtype=torch.float64, **options) -> Network:
    return Network(MODULES[name](), loss, *data(name), dtype=dtype, kernel=tier, **options)


def models(p: Network, m: int = 4) -> torch.Tensor:
    noise = np.random.default_rng(2).normal(size=(m, p.d))
    return p.x0 + 0.1 * torch.from_numpy(noise).to(p.dtype)


def schedule(kind: str) -> list[list[list[int]]]:
    """Samples of each client at each of 4 steps."""
    rng = np.random.default_rng(4)
    steps = [[rng.integers(0, m, 3).tolist() for m in SIZES] for _ in range(4)]
    if kind != "whole":
        steps[3] = [chosen[: 1 + i % 3] for i, chosen in enumerate(steps[3])]  # short last batches
    if kind == "resting":
        steps[0][2], steps[1][1], steps[2][0], steps[3][0] = [], [], [], []
    return steps


def stacked(p: Network, steps: list[list[list[int]]]) -> Batch:
    index, mask = torch.zeros(4, 4, 3, dtype=torch.int64), torch.zeros(4, 4, 3, dtype=torch.bool)
    for t, row in enumerate(steps):
        for i, chosen in enumerate(row):
            index[t, i, : len(chosen)], mask[t, i, : len(chosen)] = torch.tensor(chosen, dtype=torch.int64), True
    return Batch(index, None if bool(mask.all()) else mask, None)


def plain_loop(module, x, y, start, steps, lr, momentum=0.0, prox=0.0, correction=None, l2=0.0) -> torch.Tensor:
    """torch's own module and autograd, one client, one step at a time. steps: the samples of each step."""
    nn.utils.vector_to_parameters(start.clone(), module.parameters())
    v: torch.Tensor | float = 0.0
    for chosen in steps:
        if not chosen:
            continue
        module.zero_grad()
        F.cross_entropy(module(x[chosen]), y[chosen]).backward()
        with torch.no_grad():
            now = nn.utils.parameters_to_vector(module.parameters())
            g = torch.cat([q.grad.flatten() for q in module.parameters()]) + l2 * now
            v = momentum * v + (g if correction is None else g + correction)
            nn.utils.vector_to_parameters(now - lr * (v + prox * (now - start)), module.parameters())
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def both(name: str, tier: str, dtype: torch.dtype, options: str, batches: str) -> tuple[torch.Tensor, torch.Tensor]:
    given = dict(OPTIONS[options])
    p = network(name, tier, dtype=dtype, l2=given.pop("l2", 0.0))
    lr = [0.02, 0.1, 0.05, 0.01] if given.pop("own steps", False) else [0.1] * 4
    x, steps = models(p), schedule(batches)
    correction = 0.1 * models(p) if given.pop("correction", False) else None
    rate = 0.1 if len(set(lr)) == 1 else torch.tensor(lr, dtype=torch.float64)
    batch = stacked(p, steps)
    ours = p.local_sgd(x, None, lr=rate, steps=4, batch=batch, correction=correction, **given)
    module, (X, Y) = MODULES[name]().to(dtype), data(name)
    theirs = [
        plain_loop(
            module,
            torch.from_numpy(X[i]).to(dtype),
            torch.from_numpy(Y[i]),
            x[i],
            [row[i] for row in steps],
            lr[i],
            correction=None if correction is None else correction[i],
            l2=p.l2,
            **given,
        )
        for i in range(4)
    ]
    return ours, torch.stack(theirs)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape and a.dtype == b.dtype
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("batches", ["whole", "short", "resting"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name, tier", CASES)
def test_local_training_is_the_plain_loop(name, tier, options, batches):
    assert apart(*both(name, tier, torch.float64, options, batches)) < 1e-13


@pytest.mark.parametrize("name, tier", CASES)
def test_also_in_single_precision(name, tier):
    assert apart(*both(name, tier, torch.float32, "everything", "resting")) < 1e-6


@pytest.mark.parametrize("name, tier", CASES)
def test_full_batches_of_ragged_clients(name, tier):
    p, (X, Y) = network(name, tier), data(name)
    ours = p.local_sgd(p.x0, None, lr=0.1, steps=3, momentum=0.5)
    module = MODULES[name]().double()
    for i, m in enumerate(SIZES):
        x, y = torch.from_numpy(X[i]), torch.from_numpy(Y[i])
        theirs = plain_loop(module, x, y, p.x0, [list(range(m))] * 3, 0.1, momentum=0.5)
        assert apart(ours[i], theirs) < 1e-13


@pytest.mark.parametrize("name, tier", CASES)
def test_gradients_are_the_slopes_of_the_losses_at_each_clients_own_model(name, tier):
    p = network(name, tier, l2=0.2)
    x, v = models(p), models(p) - p.x0
    h = 1e-5
    slopes = (p.loss(x + h * v) - p.loss(x - h * v)) / (2 * h)
    assert torch.allclose((p.grad(x) * v).sum(1), slopes, rtol=1e-7)
    batch = Batch(
        torch.tensor([[0, 1], [2, 0], [4, 0], [3, 1]]), torch.tensor([[True, True]] * 3 + [[True, False]]), None
    )
    slopes = (p.loss(x + h * v, None, batch) - p.loss(x - h * v, None, batch)) / (2 * h)
    assert torch.allclose((p.grad(x, None, batch) * v).sum(1), slopes, rtol=1e-7)


def test_the_gpts_gradients_too():
    rng = np.random.default_rng(0)
    x, y = ([rng.integers(0, 7, (m, 6)) for m in (2, 3)] for _ in "xy")
    p = Network(CharGPT(7, 6, 8, 2, 1), "cross_entropy", x, y, dtype=torch.float64)
    v = torch.from_numpy(rng.normal(size=p.d)) / 10
    slopes = (p.loss(p.x0 + 1e-5 * v) - p.loss(p.x0 - 1e-5 * v)) / 2e-5
    assert torch.allclose(p.grad(p.x0) @ v, slopes, rtol=1e-6)


def test_a_few_steps_teach_the_gpt():
    p = language(clients=4, samples=8, width=16, heads=2, blocks=1, context=16)
    y = p.local_sgd(p.x0, None, lr=0.5, steps=8)
    assert (p.loss(y) < p.loss(p.x0) - 0.2).all()


@pytest.mark.parametrize("name, tier", [case for case in CASES if case[1] != "chain"])
def test_a_loss_that_averages_is_the_mean_over_the_samples(name, tier):
    def smooth(outputs, targets):
        return F.cross_entropy(outputs, targets, label_smoothing=0.1)

    p, q = network(name, tier, smooth), network(name, tier, nn.CrossEntropyLoss(label_smoothing=0.1))
    x = models(p)
    assert apart(p.loss(x), q.loss(x)) < 1e-13 and apart(p.grad(x), q.grad(x)) < 1e-13
    for batches in ("whole", "resting"):
        batch = stacked(p, schedule(batches))
        trained = [r.local_sgd(x, None, lr=0.1, steps=4, batch=batch, momentum=0.5) for r in (p, q)]
        assert apart(*trained) < 1e-13
    assert p.value(p.x0) == pytest.approx(q.value(p.x0), rel=1e-13)


def test_torchs_functions_are_known_by_themselves():
    assert network("mlp", loss=F.cross_entropy).kernel_for(1).name == "chain"
    assert network("mlp", loss="cross-entropy").kernel_for(1).name == "chain"


@pytest.mark.parametrize(
    "match, loss",
    [
        ("or their mean", lambda out, y: F.cross_entropy(out, y, reduction="sum")),
        ("or their mean", lambda out, y: F.cross_entropy(out, y, weight=torch.tensor([1.0, 2.0, 9.0]).double())),
        ("or their mean", lambda out, y: F.cross_entropy(out, y, ignore_index=0)),
        ("adds up over the samples", nn.CrossEntropyLoss(reduction="sum")),
    ],
)
def test_a_loss_that_is_no_mean_over_samples_is_refused(match, loss):
    with pytest.raises(ValueError, match=match):
        network("mlp", loss=loss)


def test_one_array_with_offsets_is_the_clients_arrays():
    x, y = data("mlp")
    cuts = np.cumsum([0, *SIZES])
    p = network("mlp")
    q = Network(MODULES["mlp"](), "cross_entropy", np.concatenate(x), np.concatenate(y), offsets=cuts, dtype=p.dtype)
    assert (q.sizes == SIZES).all() and torch.equal(p.grad(p.x0), q.grad(p.x0)) and p.spec == q.spec
    for bad in ([0, 5, 3, 18], [0.0, 18.0], [0, 17], [1, 18], [18]):
        with pytest.raises(ValueError, match="offsets"):
            Network(MLP(6, 3), "cross_entropy", np.concatenate(x), np.concatenate(y), offsets=bad)


def test_layers_are_views_of_the_flat_model():
    p = network("cnn")
    x = models(p)
    for flat in (x[0], x):
        views = p.layers(flat)
        assert [v.shape[flat.dim() - 1 :] for v in views.values()] == [q.shape for q in p.layout]
        views["0.weight"].zero_()
        assert flat[..., : p.layout[0].stop].abs().max() == 0
    assert views["0.weight"].shape == (4, 8, 1, 3, 3)


def test_accuracy_is_of_each_clients_own_model_on_its_own_test_part():
    x, y = data("mlp", [3, 4, 2, 0])
    p = network("mlp", test=list(zip(x, y, strict=True)))
    own = models(p) * 3
    seen = p.client_metrics(own)
    module = MLP(6, 5, 4, 3).double()
    for i in range(3):
        nn.utils.vector_to_parameters(own[i], module.parameters())
        right = module(torch.from_numpy(x[i])).argmax(1).numpy() == y[i]
        assert seen["accuracy"][i] == pytest.approx(right.mean())
    assert np.isnan(seen["accuracy"][3]) and seen["loss"] == pytest.approx(p.loss(own).numpy())


@pytest.mark.parametrize("name, tier", CASES)
def test_what_comes_back_never_requires_grad(name, tier):
    p = network(name, tier)
    x = p.x0.clone().requires_grad_()
    for result in (p.grad(x), p.loss(x), p.gradient(x), p.local_sgd(x, None, lr=0.1, steps=2)):
        assert not result.requires_grad
    assert torch.equal(p.grad(x), p.grad(p.x0))


@pytest.mark.parametrize("name, tier", CASES)
def test_a_copy_works_like_the_original(name, tier):
    p = network(name, tier)
    p.grad(p.x0)
    assert torch.equal(copy.deepcopy(p).grad(p.x0), p.grad(p.x0))


@pytest.mark.parametrize("name, tier", CASES)
def test_nobodys_samples_are_no_gradient(name, tier):
    p = network(name, tier, l2=0.5)
    nothing = Batch(torch.zeros(4, 0, dtype=torch.int64), None, None)
    assert torch.allclose(p.grad(p.x0, None, nothing), 0.5 * p.x0.expand(4, -1))
    still = p.local_sgd(p.x0, None, lr=0.1, steps=2, batch=Batch(nothing.index.expand(2, 4, 0), None, None))
    assert torch.equal(still, p.x0.expand(4, -1))
