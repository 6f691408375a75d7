"""Any module is what it does when it is called: hooks, masks, tied, frozen and unused weights, statistics, dropout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

import octolab as ol
from octolab.errors import AssumptionWarning
from octolab.problems import Network

RNG = np.random.default_rng(0)
X = [RNG.normal(size=(6, 4)).astype("f4") for _ in range(8)]
Y = [RNG.permutation(np.arange(6) % 3) for _ in X]


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def sequence(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), *middle, nn.ReLU(), nn.Linear(5, 3))


class Written(nn.Module):
    """A module from a function of (module, x) and parts."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.run(self, x)


def hooked():
    module = sequence()
    module[0].register_forward_hook(lambda part, given, out: 2 * out)
    return module


def pruned():
    module = sequence()
    prune.l1_unstructured(module[0], "weight", 0.5)
    return module


def tied():
    module = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 3))
    module[2].weight = module[0].weight
    return module


def overridden():
    module = sequence()
    module[0].forward = lambda x: F.linear(x, module[0].weight)
    return module


def halved(part, x):
    with torch.no_grad():
        scale = part.a(x).abs().mean(1, keepdim=True)
    return part.a(x) * scale


MODULES = {
    "hook": hooked,
    "pruned": pruned,
    "weight norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 5)), nn.Linear(5, 3)),
    "tied": tied,
    "unused": lambda: Written(lambda m, x: m.a(x), a=nn.Linear(4, 3), b=nn.Linear(4, 7)),
    "scalar": lambda: Written(lambda m, x: m.t * m.a(x), t=nn.Parameter(torch.tensor(1.5)), a=nn.Linear(4, 3)),
    "no_grad": lambda: Written(halved, a=nn.Linear(4, 3)),
    "layer used twice": lambda: Written(lambda m, x: m.a(m.b(m.b(x)).tanh()), a=nn.Linear(4, 3), b=nn.Linear(4, 4)),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("m", [1, 7, 8])
@pytest.mark.parametrize("name", MODULES)
def test_gradients_are_torchs_own(name, m):
    module = seeded(MODULES[name])
    p = Network(module, "cross_entropy", X[:m], Y[:m])
    own = p.x0 + 0.1 * torch.from_numpy(np.random.default_rng(1).normal(size=(m, p.d))).float()
    for x in (p.x0, own):
        got, losses = p.grad(x), p.loss(x)
        for i in range(m):
            nn.utils.vector_to_parameters(x if x.dim() == 1 else x[i], module.parameters())
            loss = F.cross_entropy(module(torch.tensor(X[i])), torch.tensor(Y[i]))
            slopes = torch.autograd.grad(loss, list(module.parameters()), materialize_grads=True)
            assert torch.allclose(got[i], torch.cat([g.flatten() for g in slopes]), atol=1e-5)
            assert float(losses[i]) == pytest.approx(float(loss.detach()), abs=1e-5)


def test_frozen_parameters_are_stored_once_and_not_sent():
    module = seeded(sequence)
    module[0].requires_grad_(False)
    before = module[0].weight.clone()
    p = Network(module, "cross_entropy", X, Y)
    assert p.d == 18 and [q.name for q in p.layout] == ["2.weight", "2.bias"]
    run = ol.run(ol.methods.FedAvg(lr=0.1), p, rounds=2)
    assert run.history.bits_up.iloc[-1] - run.history.bits_up.iloc[0] == 2 * 32 * 18
    out = run.module()
    assert torch.equal(out[0].weight, before) and not torch.equal(out[2].weight, module[2].weight)


DROPPING = {
    "module": lambda: sequence(nn.Dropout(0.5)),
    "function": lambda: Written(
        lambda m, x: m.b(F.dropout(m.a(x), 0.5, m.training)), a=nn.Linear(4, 5), b=nn.Linear(5, 3)
    ),
    "many of them": lambda: sequence(nn.Dropout(0.5), *(nn.Dropout(0.1) for _ in range(5))),
    "noise": lambda: Written(lambda m, x: m.a(x + m.training * torch.randn_like(x)), a=nn.Linear(4, 3)),
    "unknown layer": lambda: sequence(nn.Dropout(0.5), nn.LayerNorm(5)),
}


@pytest.mark.parametrize("name", DROPPING)
def test_what_is_random_has_an_address(name):
    p = Network(seeded(DROPPING[name]), "cross_entropy", X, Y)
    before = torch.random.get_rng_state()
    runs = [
        ol.run(ol.methods.FedAvg(lr=0.1, batch_size=2), p, rounds=2, seed=1, executor=e).x
        for e in ("stacked", "loop", 3)
    ]
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.allclose(runs[0], x, atol=1e-6) for x in runs)
    other = ol.run(ol.methods.FedAvg(lr=0.1, batch_size=2), p, rounds=2, seed=2).x
    assert not torch.allclose(runs[0], other, atol=1e-4)
    assert p.value(p.x0) == p.value(p.x0)  # evaluation is not random


def test_half_of_the_numbers_are_dropped_and_the_others_doubled():
    from octolab.problems.kernels.dropout import Dropout

    masks = Dropout(0.5, 0).mask(torch.arange(200), (50,), torch.float32)
    assert set(masks.unique().tolist()) == {0.0, 2.0} and abs(float(masks.mean()) - 1) < 0.03
    assert not torch.equal(masks[0], masks[1])


def normed():
    return sequence(nn.BatchNorm1d(5))


def test_averaged_statistics_are_the_mean_of_torchs_own():
    module = seeded(normed)
    with pytest.warns(AssumptionWarning, match="with_group_norm"):
        p = Network(module, "cross_entropy", X, Y)
    run = ol.run(ol.methods.FedAvg(lr=0.1, local_epochs=3), p, rounds=1)
    states = []
    for x, y in zip(X, Y, strict=True):
        local = seeded(normed)
        local.load_state_dict(module.state_dict())
        optimiser = torch.optim.SGD(local.parameters(), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            F.cross_entropy(local(torch.tensor(x)), torch.tensor(y)).backward()
            optimiser.step()
        states.append(local.state_dict())
    out = run.state_dict()
    for name in ("0.weight", "1.running_mean", "1.running_var", "3.bias"):
        assert torch.allclose(out[name], torch.stack([s[name] for s in states]).mean(0), atol=1e-5), name
    assert p.d == sum(q.numel() for q in module.parameters())
    assert run.history.bits_up.iloc[-1] == 32 * (p.d + 10)


def test_local_statistics_scales_and_shifts_stay_with_their_clients():
    p = Network(seeded(normed), "cross_entropy", X, Y, batchnorm="local")
    assert p.d == 25 + 18
    run = ol.run(ol.methods.FedAvg(lr=0.1), p, rounds=2)
    one, two = run.module(personal=0), run.module(personal=1)
    assert torch.equal(one[0].weight, two[0].weight) and not torch.equal(one[1].running_mean, two[1].running_mean)
    assert not torch.equal(one[1].weight, two[1].weight)


def test_frozen_statistics_stay_and_a_batchs_own_need_none():
    module = seeded(normed)
    run = ol.run(ol.methods.FedAvg(lr=0.1), Network(module, "cross_entropy", X, Y, batchnorm="frozen"), rounds=2)
    assert torch.equal(run.module()[1].running_mean, module[1].running_mean)
    run = ol.run(ol.methods.FedAvg(lr=0.1), Network(module, "cross_entropy", X, Y, batchnorm="batch"), rounds=2)
    assert run.status == "finished" and run.module()[1].running_mean is None


@pytest.mark.parametrize("policy", ["averaged", "local", "frozen", "batch"])
def test_stacked_one_by_one_and_resumed_runs_agree(policy, tmp_path):
    p = Network(seeded(normed), "cross_entropy", X, Y, batchnorm=policy, dtype=torch.float64)  # batches of 3 amplify
    make = lambda **o: ol.run(ol.methods.FedAvg(lr=0.1, batch_size=3, cohort=4), p, seed=3, **o)  # noqa: E731
    whole = make(rounds=4)
    assert torch.allclose(whole.x, make(rounds=4, executor="loop").x, atol=1e-9)
    make(rounds=2, checkpoint=str(tmp_path / "r.octo"))
    resumed = ol.resume(tmp_path / "r.octo", rounds=4, problem=p)
    assert torch.equal(resumed.x, whole.x)
    assert all(
        torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True)
    )


def test_group_norm_takes_the_place_of_batch_norm():
    module = ol.models.with_group_norm(nn.Sequential(nn.Conv2d(1, 48, 3), nn.BatchNorm2d(48)))
    assert isinstance(module[1], nn.GroupNorm) and module[1].num_groups == 24
    with pytest.raises(ValueError, match="no batch normalisation"):
        ol.models.with_group_norm(nn.Linear(2, 2))


def test_inputs_stay_what_they_are():
    codes = [RNG.integers(0, 20, (6, 4)) for _ in X]
    bag = nn.Sequential(nn.EmbeddingBag(20, 5), nn.Linear(5, 3))
    assert Network(bag, "cross_entropy", codes, Y).X.dtype == torch.int64
    assert Network(bag, "cross_entropy", [c.astype(float) for c in codes], Y).X.dtype == torch.int64
    assert Network(sequence(), "cross_entropy", codes, Y).X.dtype == torch.float32
    with pytest.raises(ValueError, match="of which 0"):
        Network(bag, "cross_entropy", [c + 0.7 for c in codes], Y)
