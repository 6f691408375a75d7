"""Local optimisers: stacked, they are torch's own to rounding; what rests keeps its state; what is nonsense is refused."""

from __future__ import annotations

import pytest
import torch

import octolab as ol
from octolab.batches import Batch
from octolab.local import SGD, Adam, AdamW, Torch

PROBLEM = ol.problems.quadratics(n=4, d=5, L=10, mu=1, seed=1)
PAIRS = [
    (SGD(), torch.optim.SGD, {}),
    (SGD(momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
    (SGD(momentum=0.9, nesterov=True), torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (SGD(weight_decay=0.3), torch.optim.SGD, {"weight_decay": 0.3}),
    (Adam(), torch.optim.Adam, {}),
    (Adam(betas=(0.5, 0.7), weight_decay=0.1), torch.optim.Adam, {"betas": (0.5, 0.7), "weight_decay": 0.1}),
    (AdamW(weight_decay=0.2), torch.optim.AdamW, {"weight_decay": 0.2}),
    (Torch(torch.optim.RMSprop, alpha=0.9), torch.optim.RMSprop, {"alpha": 0.9}),
    (Torch(torch.optim.NAdam), torch.optim.NAdam, {}),
]


def by_hand(make, options, x, steps, lr, client):
    """One client after another with torch's own optimiser."""
    model = x.clone().requires_grad_()
    optimizer = make([model], lr=lr, **options)
    for _ in range(steps):
        model.grad = PROBLEM.grad(model.detach(), torch.tensor([client]))[0].clone()
        optimizer.step()
    return model.detach()


@pytest.mark.parametrize(
    ("ours", "theirs", "options"), PAIRS, ids=lambda v: repr(v) if isinstance(v, (SGD, Adam, Torch)) else ""
)
def test_every_row_is_what_torchs_optimiser_makes_of_that_client_alone(ours, theirs, options):
    y, _ = ours.train(PROBLEM, PROBLEM.x0, None, lr=0.05, steps=7)
    for client in range(PROBLEM.n):
        assert torch.allclose(y[client], by_hand(theirs, options, PROBLEM.x0, 7, 0.05, client), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "local",
    [
        SGD(momentum=0.9, nesterov=True, keep_state=True),
        Adam(keep_state=True),
        Torch(torch.optim.Adam, keep_state=True),
    ],
)
def test_a_kept_state_goes_on_where_it_was(local):
    whole, _ = local.train(PROBLEM, PROBLEM.x0, None, lr=0.05, steps=6)
    half, state = local.train(PROBLEM, PROBLEM.x0, None, lr=0.05, steps=3)
    again, _ = local.train(PROBLEM, half, None, lr=0.05, steps=3, remembered=state)
    assert torch.allclose(again, whole, rtol=1e-12, atol=1e-14)
    fresh, _ = local.train(PROBLEM, half, None, lr=0.05, steps=3)
    assert not torch.allclose(fresh, whole, rtol=1e-3)


@pytest.mark.parametrize("local", [SGD(momentum=0.5, nesterov=True), Adam(), Torch(torch.optim.Adam)])
def test_who_rests_keeps_model_and_state(local):
    stop = torch.tensor([3, 1, 2, 0])
    y, state = local.train(PROBLEM, PROBLEM.x0, None, lr=0.05, steps=3, stop=stop)
    for client, steps in enumerate(stop.tolist()):
        alone, _ = local.train(PROBLEM, PROBLEM.x0, slice(client, client + 1), lr=0.05, steps=steps)
        assert torch.allclose(y[client], alone[0], rtol=1e-12, atol=1e-14)
    if "count" in state:
        assert state["count"].tolist() == stop.tolist()


def test_clipping_bounds_every_clients_gradient_and_leaves_short_ones_alone():
    g = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], dtype=torch.float64)
    y, _ = SGD(clip=1.0).step(torch.zeros(3, 2, dtype=torch.float64), g, 1.0, {})
    assert torch.allclose(-y, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]], dtype=torch.float64))


def test_heavy_ball_goes_through_the_fast_kernels_and_nothing_else_does():
    assert SGD().momentum_alone == 0 and SGD(momentum=0.9).momentum_alone == 0.9
    for other in (
        SGD(clip=1.0),
        SGD(weight_decay=0.1),
        SGD(momentum=0.9, keep_state=True),
        Adam(),
        Torch(torch.optim.SGD),
    ):
        assert other.momentum_alone is None


def test_the_correction_and_the_leash_are_part_of_the_gradient():
    pull = torch.ones(PROBLEM.n, PROBLEM.d, dtype=torch.float64)
    y, _ = SGD(clip=None, nesterov=False, weight_decay=1e-300).train(
        PROBLEM, PROBLEM.x0, None, lr=0.05, steps=4, prox=0.5, correction=pull
    )
    same = PROBLEM.local_sgd(PROBLEM.x0, None, lr=0.05, steps=4, prox=0.5, correction=pull)
    assert torch.allclose(y, same, rtol=1e-10, atol=1e-12)


def test_batches_of_unequal_length_move_only_those_who_have_samples():
    data = ol.problems.classification("breast-cancer", clients=3)
    index = torch.zeros(2, 3, 4, dtype=torch.int64)
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    mask[1, 0] = False
    batch = Batch(index, mask, None)
    y, _ = Adam().train(data, data.x0, None, lr=0.1, steps=2, batch=batch)
    first, _ = Adam().train(data, data.x0, None, lr=0.1, steps=1, batch=Batch(index[:1], mask[:1], None))
    assert torch.equal(y[0], first[0]) and not torch.equal(y[1], first[1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SGD(momentum=1.0), "momentum=1.0: give a number in [0, 1)"),
        (lambda: SGD(nesterov=True), "needs momentum > 0"),
        (lambda: SGD(clip=0), "clip=0: give a number in (0, inf) (largest norm"),
        (lambda: SGD(weight_decay=-1), "weight_decay=-1"),
        (lambda: Adam(betas=(0.9,)), "give two numbers"),
        (lambda: Adam(betas=(0.9, 1.0)), "betas=(0.9, 1.0)"),
        (lambda: Adam(eps=float("nan")), "eps=nan"),
        (lambda: Torch(torch.optim.LBFGS), "LBFGS evaluates the loss"),
        (lambda: Torch(torch.optim.SGD, lr=0.1), "lr=0.1 is the method's"),
        (lambda: Torch(torch.optim.SGD, momentums=0.9), "SGD cannot be made from"),
        (lambda: Torch("sgd"), "give a class"),
    ],
)
def test_nonsense_gets_a_sentence(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert words in str(error.value)
