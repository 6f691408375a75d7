"""APFL against its algorithm box: FedAvg, and personal models mixed from a local and the common one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import octolab as ol
from tests.methods.by_hand import close, gradients
from tests.methods.local_by_hand import mixed, never_again
from tests.methods.personal_by_hand import bowls, models, optima, quietly

APFL = ol.methods.APFL
A = (0.0, 0.3, 0.8, 1.0)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_algorithm_box_with_a_mix_for_each_client(adaptive: bool):
    p, lr = bowls(), 0.05
    grad, x, v, a = gradients(p), np.zeros(5), [np.zeros(5)] * 4, list(A)
    for _ in range(8):
        ws = []
        for i in range(4):
            w = x
            for k in range(3):
                g, before = grad[i](a[i] * v[i] + (1 - a[i]) * w), a[i]
                if adaptive and k == 0:
                    a[i] = float(np.clip(a[i] - lr * (v[i] - w) @ g, 0, 1))
                w, v[i] = w - lr * grad[i](w), v[i] - lr * before * g
            ws.append(w)
        x = sum(ws) / 4
    run = quietly(APFL(a=A, adaptive=adaptive, lr=lr, local_steps=3), p, 8)
    close(run.x, x)
    close(run.federation.memory.v, v)
    close(run.federation.memory.a[:, 0], a)
    close(models(run), [b * own + (1 - b) * x for b, own in zip(a, v, strict=True)])
    assert ("mean_a" in run.history) == adaptive


@pytest.mark.parametrize("a", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(
    "how",
    [
        {"local_steps": 4},
        {
            "local_epochs": 2,
            "batch_size": 2,
            "cohort": 2,
            "momentum": 0.5,
        },  # short last batches, unequal numbers of steps
        {"local_steps": 3, "batch_size": 2, "server_lr": 0.7, "weighting": "unbiased", "cohort": 2},
    ],
)
def test_the_common_model_is_fedavgs_for_any_mix_to_the_last_batch(a: float, how: dict):
    p = mixed()
    ours, theirs = (
        ol.run(m, p, rounds=6, seed=2, keep="x", live=False)
        for m in (APFL(a=a, adaptive=a == 0.4, lr=0.1, **how), ol.methods.FedAvg(lr=0.1, **how))
    )
    close(ours.iterates, theirs.iterates, 1e-13)
    assert (ours.history[["bits_up", "bits_down"]] == theirs.history[["bits_up", "bits_down"]]).all().all()
    for column in ("gradients", "samples"):  # two gradients on every batch
        twice = 2 * theirs.federation.ledger.per_client(column)
        assert (ours.federation.ledger.per_client(column) == twice).all()


@pytest.mark.parametrize("how", [{"local_steps": 4}, {"local_epochs": 2, "batch_size": 2, "cohort": 2}])
def test_all_local_it_is_local_only_and_all_common_the_common_model(how: dict):
    p = mixed()
    local, alone = (quietly(m, p, 8) for m in (APFL(a=1.0, lr=0.1, **how), ol.methods.LocalOnly(lr=0.1, **how)))
    close(models(local), models(alone), 1e-13)
    common = quietly(APFL(a=0.0, lr=0.1, **how), p, 8)
    assert torch.equal(models(common), common.x.expand(p.n, -1))


def test_with_one_local_step_any_fixed_mix_ends_at_the_own_optima_the_sooner_the_more_local():
    p = bowls()
    for a in (0.5, 1.0):
        close(models(quietly(APFL(a=a, lr=0.1, local_steps=1), p, 1500)), optima(p), 1e-6)
    own = torch.from_numpy(optima(p))
    runs = [quietly(APFL(a=a, lr=0.1, local_steps=1), p, 30) for a in (0.1, 0.5, 1.0)]
    far = [float((models(run) - own).norm()) for run in runs]
    assert far == sorted(far, reverse=True)


def test_learned_on_training_loss_the_mix_drifts_towards_the_local_model():
    """Where the common model fits nobody: which is why held-out data must judge."""
    p = bowls(n=6, spread=3.0)
    run = quietly(APFL(adaptive=True, lr=0.1), p, 200)
    a = run.federation.memory.a
    assert float(a.min()) > 0.5 and float(a.mean()) > 0.9
    assert run.history.mean_a.iloc[-1] == pytest.approx(float(a.mean()))


def test_who_does_not_take_part_keeps_its_model_and_its_mix():
    p = bowls()
    run = quietly(APFL(lr=0.05, adaptive=True), p, 5, fleet=never_again(2, 4))
    assert (run.federation.memory.v[2] == 0).all() and float(run.federation.memory.a[2]) == 0.5


def test_numbers_of_each_clients_own_survive_json():
    p = bowls()
    run = ol.run(APFL(a=np.array(A), lr=0.05), p, rounds=4, live=False)
    assert torch.equal(models(ol.from_spec(run.spec).finish()), models(run))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"a": 1.2}, r"a=1.2: give a number in \[0, 1\]"),
        ({"a": (0.1, 0.2, -0.1, 1)}, "a=-0.1 for client 2"),
        ({"a": (0.1, 0.2)}, "a has 2 entries and there are 4 clients"),
        ({"local_steps": (1, 2, 3, 4)}, "a whole number"),
        ({"weighting": "sampled"}, "'ratio', 'unbiased'"),
    ],
)
def test_bad_input_gets_a_sentence(given: dict, words: str):
    with pytest.raises(ValueError, match=words):
        APFL(**given).resolve(bowls())
