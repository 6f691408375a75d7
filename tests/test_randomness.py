"""Addressed randomness: known answers, independence of order and company, scripts."""

import hashlib

import numpy as np
import pytest
import torch

from octolab.errors import ScriptExhausted
from octolab.federation import Randomness, Scripted
from octolab.randomness import JOB, SERVER, Draws


def test_philox_known_answer():
    """Random123's published vector for philox4x64-10 with a zero counter and a zero key."""
    before_zero = np.array([2**64 - 1] * 4, dtype=np.uint64)  # numpy counts up before it draws
    words = np.random.Philox(key=0, counter=before_zero).random_raw(4)
    assert [f"{int(w):016x}" for w in words] == [
        "16554d9eca36314c",
        "db20fe9d672d0fdc",
        "d7e772cee186176b",
        "7e68b68aec7ba23b",
    ]


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x64-10 in plain integers, written from the paper's description."""
    c, k, low = list(counter), list(key), 2**64 - 1
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(b >> 64) ^ c[1] ^ k[0], b & low, (a >> 64) ^ c[3] ^ k[1], a & low]
        k = [(k[0] + 0x9E3779B97F4A7C15) & low, (k[1] + 0xBB67AE8584CAA73B) & low]
    return c


def test_a_draw_is_a_function_of_its_address():
    """key = BLAKE2b(seed/purpose), counter = [client * stride + block + 1, event, draw, kind]."""
    assert philox([0] * 4, [0] * 4)[0] == 0x16554D9ECA36314C
    digest = hashlib.blake2b(b"11/uniform", digest_size=16).digest()
    key = [int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")]
    u = Randomness(11).uniform("uniform", clients=[3], event=5, width=6, draw=2, kind=1)[0].tolist()
    words = philox([3 * 2 + 1, 5, 2, 1], key) + philox([3 * 2 + 2, 5, 2, 1], key)
    assert u == [(w >> 11) * 2.0**-53 for w in words][:6]


def test_removing_a_client_changes_no_other_clients_draws():
    source = Randomness(7)
    everybody = source.draws(10, event=5).uniform(9)
    some = source.draws(np.array([1, 2, 6, 9]), event=5).uniform(9)
    assert torch.equal(everybody[[1, 2, 6, 9]], some)


def test_seed_purpose_event_draw_and_kind_all_matter():
    base = Randomness(0).draws(3, event=1)
    draws = [
        base.uniform(4),
        base.uniform(4),
        base.uniform(4, "other"),
        Randomness(1).draws(3, event=1).uniform(4),
        Randomness(0).draws(3, event=2).uniform(4),
        Draws(Randomness(0), np.arange(3), 1, JOB).uniform(4),
    ]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert not torch.equal(a, b)


def test_uniforms_and_normals_have_their_moments():
    draws = Randomness(3).draws(200)
    u, z = draws.uniform(1001), draws.normal(1001)
    N = u.numel()
    assert abs(float(u.mean()) - 0.5) < 5 / np.sqrt(12 * N)
    assert abs(float(z.mean())) < 5 / np.sqrt(N)
    assert abs(float(z.var()) - 1) < 5 * np.sqrt(2 / N)


@pytest.mark.parametrize(("size", "k"), [(5, 5), (100, 3), (1000, 17), (40, 20)])
def test_subsets_are_distinct_and_uniform(size, k):
    s = Randomness(1).draws(3000).subset(size, k)
    assert s.shape == (3000, k)
    assert all(len(set(row)) == k for row in s.tolist())
    counts = np.bincount(s.flatten().numpy(), minlength=size)
    expected = 3000 * k / size
    chi2 = ((counts - expected) ** 2 / expected).sum() / (1 - k / size if k < size else 1)
    assert chi2 < size + 6 * np.sqrt(2 * size)


def test_a_permutation_visits_everything_and_the_shared_one_is_shared():
    draws = Randomness(2).draws(4)
    assert all(sorted(row) == list(range(11)) for row in draws.permutation(11).tolist())
    a = Randomness(2).draws(np.array([0, 1]), event=3).shared_permutation(20)
    b = Randomness(2).draws(np.array([17]), event=3).shared_permutation(20)
    assert torch.equal(a, b)


def test_scripts_replay_in_order_and_complain_when_they_run_out():
    script = Scripted(coins=[1, 0], noise=[[0.5, 0.25]])
    assert script.coin(0.0, event=0) is True
    assert script.coin(1.0, event=1) is False
    assert script.draws(2, event=9).normal(2).tolist() == [[0.5, 0.25], [0.5, 0.25]]
    with pytest.raises(ScriptExhausted, match="2 coins were given"):
        script.coin(0.5, event=2)


def test_chunks_of_one_call_share_a_scripted_entry():
    script = Scripted(batches=[[[0], [1], [2]], [[3], [4], [5]]])
    first = Draws(script, np.array([0, 1]), 7, slots=np.array([0, 1]), cohort_size=3)
    second = Draws(script, np.array([2]), 7, slots=np.array([2]), cohort_size=3)
    assert [b.tolist() for b in first.scripted_batch()] == [[0], [1]]
    assert [b.tolist() for b in second.scripted_batch()] == [[2]]
    assert [b.tolist() for b in second.scripted_batch()] == [[5]]


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_a_bad_seed_gets_a_sentence(seed):
    with pytest.raises(ValueError, match="a seed is a whole number"):
        Randomness(seed)


def test_unknown_scripts_get_a_sentence():
    with pytest.raises(ValueError, match="what can be given is coins, cohorts"):
        Scripted(dice=[1])


def test_scripted_purposes_are_uses_of_their_own():
    flat = Scripted(uniforms=[[0.1], [0.2], [0.3], [0.4]])
    draws = flat.draws(2)
    assert draws.uniform(1, "send").tolist() == [[0.1], [0.1]] and draws.uniform(1, "noise").tolist() == [[0.2], [0.2]]
    assert flat.draws([SERVER]).uniform(1, "send").tolist() == [[0.3]]  # the server's, at the same event
    assert flat.draws(2).uniform(1, "send").tolist() == [[0.1], [0.1]]  # another chunk of the first use
    own = Scripted(seed=3, uniforms={"send": [[0.5]], "server/send": [[0.9]]})
    draws = own.draws(1)
    assert torch.equal(draws.uniform(2, "other"), Randomness(3).draws(1).uniform(2, "other"))  # not named: drawn
    assert draws.uniform(1, "send").item() == 0.5 and own.draws([SERVER]).uniform(1, "send").item() == 0.9
    with pytest.raises(ScriptExhausted, match="1 uniforms: send were given"):
        own.draws(1, event=1).uniform(1, "send")
