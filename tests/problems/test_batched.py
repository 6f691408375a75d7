"""Clients side by side in a module's own forward: equal to one client after the other, for layers of every kind."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import octolab as ol
from octolab.problems import Batch, Network
from octolab.problems.kernels.attention import address
from octolab.problems.kernels.stack import Stack

RNG = np.random.default_rng(0)
IMAGES = list(RNG.standard_normal((8, 6, 2, 8, 8)))
ROWS = list(RNG.standard_normal((8, 6, 5)))
TEXTS = list(RNG.integers(0, 9, (8, 6, 7)))
LABELS = list(RNG.integers(0, 3, (8, 6)))


class Written(nn.Module):
    """A module from a function of (module, x) and parts."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def residual(norm):
    def forward(m, x):
        h = torch.relu(m.first(m.stem(x)))
        return m.head((h + m.second(m.conv(F.relu(h, inplace=False)))).mean((2, 3)))

    conv = lambda i: nn.Conv2d(i, 4, 3, padding=1, bias=False)  # noqa: E731
    return Written(forward, stem=conv(2), first=norm(4), conv=conv(4), second=norm(4), head=nn.Linear(4, 3))


def squeezed():
    def forward(m, x):
        h = torch.cat([m.a(x), m.deep(x)], 1)
        h = h * torch.sigmoid(m.gate(F.adaptive_avg_pool2d(h, 1)))
        return m.head(F.max_pool2d(h, 2).flatten(1))

    deep = nn.Conv2d(2, 4, 3, padding="same", groups=2)
    return Written(forward, a=nn.Conv2d(2, 2, 1), deep=deep, gate=nn.Conv2d(6, 6, 1), head=nn.Linear(96, 3))


def transformer(dropout=0.0):
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    mask = nn.Transformer.generate_square_subsequent_mask(7)
    forward = lambda m, t: m.head(m.encoder(m.embed(t) + m.place, mask=mask).mean(1))  # noqa: E731
    place = nn.Parameter(0.1 * torch.randn(7, 8))
    return Written(forward, embed=nn.Embedding(9, 8, padding_idx=2), place=place, encoder=encoder, head=nn.Linear(8, 3))


def attention():
    def forward(m, t):
        x = m.embed(t) + m.places(torch.arange(7))
        q, k, v = m.qkv(x).view(*t.shape, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(*t.shape, 8)
        return F.linear(F.layer_norm(out, (8,)), m.embed.weight)[:, -1, :3]  # tied

    return Written(forward, embed=nn.Embedding(9, 8), places=nn.Embedding(7, 8), qkv=nn.Linear(8, 24))


def frozen():
    module = residual(lambda c: nn.GroupNorm(2, c))
    module.requires_grad_(False)
    module.head.requires_grad_(True)
    return module


def signals():
    parts = {"conv": nn.Conv1d(1, 4, 3), "norm": nn.BatchNorm1d(4), "head": nn.Linear(12, 3)}
    return Written(lambda m, x: m.head(m.norm(m.conv(x[:, None])).relu_().flatten(1)), **parts)


def tables():
    parts = {"a": nn.Linear(5, 6), "norm": nn.LayerNorm(6), "drop": nn.Dropout(0.3), "b": nn.Linear(6, 3, bias=False)}
    return Written(
        lambda m, x: F.log_softmax(m.b(m.drop(F.gelu(m.norm(m.a(x))))) * m.scale, -1), **parts, scale=scale()
    )


def scale():
    return nn.Parameter(torch.tensor(1.5))


def odd():
    """Functions that have no rule of their own, and sums in place."""

    def forward(m, x):
        h = torch.einsum("bi,oi->bo", x, m.w).clone()
        h += torch.einsum("bi,oij,bj->bo", x, m.cube, x)
        h = h + h.roll(1, -1).cumsum(-1) / torch.linalg.vector_norm(h, dim=-1, keepdim=True)
        return torch.stack([h[:, 0], *h[:, 1:].unbind(1)], 1)

    return Written(forward, w=nn.Parameter(torch.randn(3, 5)), cube=nn.Parameter(torch.randn(3, 5, 5)))


MODULES = {
    "GroupNorm": (lambda: residual(lambda c: nn.GroupNorm(2, c)), IMAGES, {}),
    "BatchNorm": (lambda: residual(nn.BatchNorm2d), IMAGES, {"batchnorm": "averaged"}),
    "BatchNorm, local": (lambda: residual(nn.BatchNorm2d), IMAGES, {"batchnorm": "local"}),
    "BatchNorm, frozen": (lambda: residual(nn.BatchNorm2d), IMAGES, {"batchnorm": "frozen"}),
    "BatchNorm, batch": (lambda: residual(nn.BatchNorm2d), IMAGES, {"batchnorm": "batch"}),
    "InstanceNorm": (lambda: residual(lambda c: nn.InstanceNorm2d(c, affine=True)), IMAGES, {}),
    "gates, groups, joined channels": (squeezed, IMAGES, {}),
    "frozen backbone": (frozen, IMAGES, {}),
    "transformer with mask": (transformer, TEXTS, {}),
    "transformer with dropout": (lambda: transformer(0.2), TEXTS, {}),
    "attention by hand, tied weights": (attention, TEXTS, {}),
    "signals": (signals, ROWS, {"batchnorm": "averaged"}),
    "tables with dropout": (tables, ROWS, {}),
    "functions without a rule": (odd, ROWS, {}),
}


def problem(name, kernel):
    make, features, options = MODULES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network(make(), "cross_entropy", features, LABELS, dtype=torch.float64, kernel=kernel, **options)


@pytest.mark.parametrize("name", MODULES)
def test_side_by_side_is_one_after_the_other(name):
    results = []
    for kernel in ("auto", "loop"):
        p = problem(name, kernel)
        assert kernel == "loop" or p.kernel_for(8, 2).name == "batched"
        run = ol.run(ol.methods.FedAvg(lr=0.05, local_epochs=2, batch_size=2), p, rounds=2)
        results.append([run.x, p.grad(p.x0), *run.state_dict().values()])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours.double(), theirs.double(), rtol=1e-9, atol=1e-11)


def test_attention_with_addressed_dropout_is_torchs():
    """What is not dropped is torch's, masks, weights and cross attention too; what comes out has torch's own attention."""
    x, y, mask = torch.randn(4, 5, 6), torch.randn(4, 3, 6), torch.zeros(5, 3, dtype=torch.bool).triu(1)
    for first in (False, True):
        ours = nn.MultiheadAttention(6, 2, 0.3, batch_first=first)
        torchs = nn.MultiheadAttention(6, 2, 0.0, batch_first=first)
        torchs.load_state_dict(ours.state_dict())
        address(ours, 0)
        ours.drop.p = 0.0
        turn = (lambda t: t) if first else (lambda t: t.transpose(0, 1))
        holes = torch.tensor([[False, False, True]] * 4)
        for given in (
            {"need_weights": False},
            {"attn_mask": mask, "key_padding_mask": holes},
            {"attn_mask": mask.float()},
        ):
            for query, key in ((x, y), (y, y)):
                extra = {k: v[:3] if k == "attn_mask" and query is y else v for k, v in given.items()}
                got, wanted = (m(turn(query), turn(key), turn(key), **extra) for m in (ours, torchs))
                assert torch.allclose(got[0], wanted[0], atol=1e-6)
                assert wanted[1] is None or torch.allclose(got[1], wanted[1], atol=1e-6)
    p = problem("transformer with dropout", "auto")
    assert type(p.as_module(p.x0).encoder.layers[0].self_attn) is nn.MultiheadAttention
    assert list(p.as_module(p.x0).state_dict()) == list(transformer(0.2).state_dict())


def test_few_clients_large_layers_and_heavy_steps_take_the_loop():
    p = problem("GroupNorm", "auto")
    assert [p.kernel_for(m, 2).name for m in (1, 2, 3)] == ["loop", "loop", "batched"]
    assert p.kernel_for(8, 10**6).name == "loop"
    deep = problem("transformer with mask", "auto")
    assert [deep.kernel_for(m, 2).name for m in (1, 2)] == ["loop", "batched"]


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.a(x) if float(x.sum()) > 0 else -m.a(x),
        lambda m, x: m.a(torch.from_numpy(np.tanh(x.detach().numpy()))),
        lambda m, x: m.a(x) + m.a.weight.detach().max().item(),
        lambda m, x: x @ torch.Tensor(m.a.weight.tolist()).to(x.dtype).T + m.a.bias,
    ],
)
def test_what_python_wants_to_know_of_one_client_is_looked_up_one_by_one(forward):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Written(forward, a=nn.Linear(5, 3))
    p = Network(module, "cross_entropy", ROWS, LABELS, dtype=torch.float64)
    assert p.kernel_for(8, 2).name == "loop"
    x = p.x0 + 0.1 * torch.from_numpy(RNG.standard_normal((8, p.d)))
    batch = Batch(torch.arange(4).expand(8, 4), None, None)
    for got, own, a, y in zip(p.grad(x, None, batch), x, ROWS, LABELS, strict=True):
        nn.utils.vector_to_parameters(own, (module := module.double()).parameters())
        loss = F.cross_entropy(module(torch.from_numpy(a[:4])), torch.from_numpy(y[:4]))
        slopes = torch.autograd.grad(loss, list(module.parameters()), materialize_grads=True)
        assert torch.allclose(got, torch.cat([g.flatten() for g in slopes]), atol=1e-12)


def test_a_stack_shows_one_clients_shape_and_never_becomes_a_number():
    stack = Stack(torch.arange(6.0).view(2, 3))
    assert stack.shape == (3,) and stack.dim() == 1 and len(stack) == 3 and stack.dtype == torch.float32
    assert torch.equal((stack * 2 + stack).rows, 3 * torch.arange(6.0).view(2, 3))
    for ask in (bool, float, lambda s: s.sum().item(), lambda s: s.numpy()):
        with warnings.catch_warnings(), pytest.raises((RuntimeError, ValueError)):
            warnings.simplefilter("ignore")
            ask(stack)


def test_the_old_name_of_the_tier_works_for_one_version():
    with pytest.warns(DeprecationWarning, match="'batched'"):
        p = Network(nn.Linear(5, 3), "cross_entropy", ROWS, LABELS, kernel="vmap")
    assert p.kernel_for(8).name == "batched"
