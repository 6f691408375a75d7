"""Networks: the tiers agree, the roles are right, and what cannot be stacked is refused in words."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from octolab.problems import CNN, MLP, Batch, CharGPT, Network

RNG = np.random.default_rng(0)
MODULES = {
    "one layer": lambda: MLP(6, 3),
    "mlp": lambda: MLP(6, 5, 4, 3),
    "no bias": lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False)),
    "linear chain": lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Linear(5, 3)),
    "tanh": lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)),
    "norm": lambda: nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 3)),
    "cnn": lambda: CNN(1, 8, 3),
    "strided": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 3),
    ),
}
FITTING = {
    "one layer": "chain",
    "mlp": "chain",
    "no bias": "chain",
    "linear chain": "chain",
    "tanh": "stacked",
    "cnn": "stacked",
    "strided": "stacked",
    "norm": None,
}


def data(name, sizes):
    shape = (1, 8, 8) if name in ("cnn", "strided") else (6,)
    return [RNG.normal(size=(m, *shape)) for m in sizes], [RNG.integers(0, 3, m) for m in sizes]


def build(name, sizes, kernel, dtype, **options):
    x, y = DATA[name] if sizes is None else data(name, sizes)
    torch.manual_seed(0)
    return Network(MODULES[name](), "cross_entropy", x, y, dtype=dtype, kernel=kernel, **options)


DATA = {name: data(name, [4, 7, 5, 4, 4, 6, 4, 3, 5, 4]) for name in MODULES}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("dtype, tol", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_all_tiers_agree(name, dtype, tol):
    results = {}
    for tier in ("chain", "stacked", "batched", "loop", "auto"):
        try:
            p = build(name, None, tier, dtype)
        except ValueError as error:
            assert "does not fit" in str(error)
            continue
        rng = np.random.default_rng(2)
        x = p.x0 + torch.from_numpy(rng.normal(size=(p.n, p.d)) * 0.1).to(dtype)
        index = torch.from_numpy(rng.integers(0, 3, (3, p.n, 2)))
        trained = p.local_sgd(p.x0, None, lr=0.1, steps=3, batch=Batch(index, None, None), prox=0.1)
        results[tier] = (p.grad(p.x0), p.grad(x), p.loss(x), p.gradient(p.x0), trained)
    assert {"loop", "batched", "auto"} <= set(results)
    assert (FITTING[name] in results) == (FITTING[name] is not None)
    for parts in results.values():
        for ours, theirs in zip(parts, results["loop"], strict=True):
            assert float((ours - theirs).norm()) <= tol * float(theirs.norm())


@pytest.mark.parametrize("name", MODULES)
def test_auto_takes_the_fastest_that_fits(name):
    p = build(name, None, "auto", torch.float32)
    assert p.kernel_for(10).name == (FITTING[name] or "batched")
    assert p.kernel_for(2).name == (FITTING[name] or "loop")


@pytest.mark.parametrize("name", MODULES)
def test_gradients_are_torchs_own(name):
    p = build(name, None, "auto", torch.float64, l2=0.3)
    module, (x, y) = MODULES[name]().double(), DATA[name]
    nn.utils.vector_to_parameters(p.x0, module.parameters())
    for i, (a, t) in enumerate(zip(x, y, strict=True)):
        loss = nn.functional.cross_entropy(module(torch.from_numpy(a)), torch.from_numpy(t))
        g = torch.cat([q.flatten() for q in torch.autograd.grad(loss, list(module.parameters()))])
        assert torch.allclose(p.grad(p.x0)[i], g + 0.3 * p.x0, atol=1e-13)
        assert float(p.loss(p.x0)[i]) == pytest.approx(float(loss.detach() + 0.15 * p.x0 @ p.x0), rel=1e-12)


def test_batched_is_for_light_steps():
    wide = lambda: nn.Sequential(  # noqa: E731
        nn.Linear(6, 40000), nn.LayerNorm(40000), nn.Linear(40000, 3)
    )
    p, q = build("norm", None, "auto", torch.float32), Network(wide(), "cross_entropy", *DATA["norm"])
    assert p.kernels._products == 6 * 5 + 5 * 3 and q.kernels._products == 9 * 40000
    assert p.kernel_for(10, 10).name == "batched" and p.kernel_for(10, 10**7).name == "loop"
    assert q.kernel_for(10, 10).name == "loop"  # more than 32,768 parameters a tensor
    conv = Network(MODULES["strided"](), "cross_entropy", *DATA["strided"], kernel="loop")
    assert conv.kernels._products == 3 * 9 * 16 + 12 * 3


def test_where_clients_cannot_be_computed_together_the_loop_serves():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 3)

        def forward(self, x):
            return self.inner(x) if x.sum() > -1e9 else self.inner(-x)  # control flow on data

    torch.manual_seed(0)
    p = Network(Branching(), "cross_entropy", *DATA["mlp"])
    assert p.kernel_for(10).name == "loop" and p.grad(p.x0).shape == (10, p.d)


def test_the_default_tiers_never_import_torchs_compiler():
    code = (
        "import sys, torch; from octolab.problems import MLP, CNN, Network\n"
        "for module, shape in ((MLP(4, 3, 2), (3, 4)), (CNN(1, 8, 2), (3, 1, 8, 8))):\n"
        "    p = Network(module, 'cross_entropy', [torch.ones(shape).numpy()] * 9, [[0, 1, 0]] * 9)\n"
        "    p.local_sgd(p.x0, None, lr=0.1, steps=2), p.grad(p.x0), p.evaluate(p.x0)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_threads_do_not_share_modules():
    from concurrent.futures import ThreadPoolExecutor

    p = build("norm", None, "auto", torch.float64)
    index = torch.from_numpy(np.random.default_rng(2).integers(0, 3, (20, 5, 2)))

    def train(cohort):
        return p.local_sgd(p.x0, cohort, lr=0.1, steps=20, batch=Batch(index, None, None))

    cohorts = [slice(0, 5), slice(5, 10)] * 4
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(train, cohorts))
    for cohort, got in zip(cohorts, together, strict=True):
        assert torch.equal(got, train(cohort))


def test_no_grad_and_inference_leave_gradients_alone():
    for name in ("mlp", "cnn", "norm"):
        p = build(name, None, "auto", torch.float64)
        with torch.no_grad():
            inside = p.grad(p.x0)
        outside = p.grad(p.x0)
        assert torch.equal(inside, outside) and not outside.requires_grad and not p.loss(p.x0).requires_grad


def test_roles():
    roles = {q.name: q.role for q in build("cnn", None, "auto", torch.float32).layout}
    assert roles["0.weight"] == "conv" and roles["7.weight"] == "matrix" and roles["9.weight"] == "head"
    assert roles["0.bias"] == roles["9.bias"] == "vector"
    codes = RNG.integers(0, 11, (4, 8))
    gpt = Network(CharGPT(11, 8, 16, 2, 1), "cross_entropy", [codes], [codes])
    roles = {q.name: q.role for q in gpt.layout}
    assert roles["token.weight"] == roles["position.weight"] == "embedding" and roles["head.weight"] == "head"
    assert roles["blocks.0.qkv.weight"] == "matrix" and roles["norm.weight"] == "vector"


def test_the_gpt_is_causal_and_its_tiers_agree():
    rng = np.random.default_rng(0)
    x = [rng.integers(0, 11, (3, 8)) for _ in range(9)]
    y = [rng.integers(0, 11, (3, 8)) for _ in range(9)]
    results = []
    for kernel in ("batched", "loop"):
        p = Network(CharGPT(11, 8, 16, 2, 2), "cross_entropy", x, y, dtype=torch.float64, kernel=kernel)
        batch = Batch(torch.zeros(9, 2, dtype=torch.int64) + torch.tensor([0, 2]), None, None)
        results.append((p.grad(p.x0, None, batch), p.grad(p.x0)))
    for a, b in zip(*results, strict=True):
        assert float((a - b).norm()) <= 1e-12 * float(b.norm())
    module, codes = CharGPT(11, 8, 16, 2, 2), torch.from_numpy(x[0])
    later = codes.clone()
    later[:, 5:] = 0
    assert torch.equal(module(codes)[:, :5], module(later)[:, :5])


def test_bundled_models_are_a_function_of_their_seed_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    for make in (
        lambda s: MLP(4, 3, 2, seed=s),
        lambda s: CNN(1, 8, 3, seed=s),
        lambda s: CharGPT(7, 4, 8, 2, 1, seed=s),
    ):
        vector = lambda m: nn.utils.parameters_to_vector(m.parameters())  # noqa: E731
        assert torch.equal(vector(make(0)), vector(make(0))) and not torch.equal(vector(make(0)), vector(make(1)))
    assert torch.equal(before, torch.random.get_rng_state())
    assert sum(q.numel() for q in MLP(784, 64, 10).parameters()) == 50_890
    assert sum(q.numel() for q in CNN(1, 28, 10).parameters()) == 20_522
    assert 100_000 <= sum(q.numel() for q in CharGPT(71, 64).parameters()) <= 200_000


@pytest.mark.parametrize("loss", ["mse", nn.MSELoss(), lambda out, y: (out[:, 0] - y) ** 2])
def test_other_losses(loss):
    x = [RNG.normal(size=(4, 3)) for _ in range(2)]
    y = [
        RNG.normal(size=(4, 1)) if not callable(loss) or isinstance(loss, nn.Module) else RNG.normal(size=4) for _ in x
    ]
    p = Network(nn.Sequential(nn.Linear(3, 1)), loss, x, y, dtype=torch.float64)
    W, b = p.x0[:3], p.x0[3]
    for i in range(2):
        r = torch.from_numpy(x[i]) @ W + b - torch.from_numpy(y[i]).flatten()
        assert float(p.loss(p.x0)[i]) == pytest.approx(float((r**2).mean()), rel=1e-13)
        assert torch.allclose(p.grad(p.x0)[i, :3], 2 * (r[:, None] * torch.from_numpy(x[i])).mean(0))
    assert "accuracy" not in p.evaluate(p.x0)


def test_a_given_module_is_copied_and_its_weights_are_the_start():
    module = MLP(6, 3)
    p = Network(module, "cross_entropy", *DATA["mlp"])
    start = nn.utils.parameters_to_vector(module.parameters())
    assert torch.equal(p.x0, start)
    p.local_sgd(p.x0, None, lr=1.0, steps=2)
    p.grad(p.x0)
    assert torch.equal(nn.utils.parameters_to_vector(module.parameters()), start) and torch.equal(p.x0, start)


def refuse(match, module, x=None, y=None, loss="cross_entropy", **options):
    x, y = DATA["mlp"] if x is None else (x, y)
    with pytest.raises(ValueError, match=match):
        Network(module, loss, x, y, **options)


def test_what_cannot_be_stacked_is_refused_in_words():
    refuse("no parameters", nn.ReLU())
    refuse("torch.nn.Module", "mlp")
    frozen = MLP(6, 3)
    frozen.requires_grad_(False)
    refuse("only frozen parameters", frozen)
    refuse("cannot take these data", MLP(5, 3))
    refuse("reduction='none'", MLP(6, 3), loss=lambda out, y: nn.functional.cross_entropy(out, y, reduction="sum"))
    refuse("give 'cross_entropy'", MLP(6, 3), loss="hinge")
    refuse("no samples", MLP(6, 3), [np.zeros((0, 6))], [np.zeros(0, dtype=int)])
    refuse("one array per client", MLP(6, 3), [np.zeros((2, 6))], [])
    refuse("do not fit", MLP(6, 3), [np.zeros((2, 6))], [np.zeros(3, dtype=int)])
    refuse("inf or nan", MLP(6, 3), [np.full((2, 6), np.inf)], [np.zeros(2, dtype=int)])
    refuse("kernel='fast'", MLP(6, 3), kernel="fast")
    refuse("does not fit this module", MODULES["tanh"](), kernel="chain")
    refuse("a finite number >= 0", MLP(6, 3), l2=-1.0)
    refuse("labels run from", MLP(6, 3), [np.zeros((2, 6))], [np.array([0, 3])])
