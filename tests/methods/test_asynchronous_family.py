"""Rennala, Malenia, Ringleader, IA2SGD, FedBuff, FedAsync, MindFlayer, Vecna, ATA and their kin: against event loops in NumPy."""

from __future__ import annotations

import heapq
import itertools

import numpy as np
import pytest
import torch

import octolab as ol

TAU = np.array([1.0, 1.7, 2.9, 5.3])
N = len(TAU)
HOM = ol.problems.Tridiagonal(d=6, n=N, noise=0.0)
HET = ol.problems.quadratics(n=N, d=5, L=10, mu=1, seed=3)
WEIGHTED = ol.problems.Quadratics(HET._A64, HET._b64, weights=[0.4, 0.1, 0.3, 0.2])
FLEET = ol.Fleet(seconds=TAU)


def grad(problem, i, x):
    return problem.grad(torch.from_numpy(x), torch.tensor([i]))[0].numpy()


def go(method, problem, rounds, fleet=FLEET, **more):
    run = ol.run(method, problem, rounds=rounds, fleet=fleet, keep="x", live=False, **more)
    assert run.status == "finished", run.error
    return run


class Clock:
    """Devices with fixed times: `start(i, what)`, `arrive() -> (time, i, what)`, ties to the lower number, `drop()` all."""

    def __init__(self):
        self.now, self.heap, self.order, self.busy = 0.0, [], itertools.count(), {}

    def start(self, i, what, seconds=None):
        entry = [self.now + (TAU[i] if seconds is None else seconds), i, next(self.order), what, True]
        self.busy[i] = entry
        heapq.heappush(self.heap, entry)

    def drop(self, i):
        self.busy.pop(i)[4] = False

    def arrive(self):
        while True:
            self.now, i, _, what, alive = heapq.heappop(self.heap)
            if alive:
                del self.busy[i]
                return i, what


def rennala(problem, x, lr, S, rounds, stop):
    clock, out = Clock(), [x]
    for i in range(N):
        clock.start(i, (0, x))
    for k in range(rounds):
        total, count = 0, 0
        while True:
            i, (version, at) = clock.arrive()
            if version == k:
                total, count = total + grad(problem, i, at), count + 1
            if count == S:
                break
            clock.start(i, (k, x))
        x = x - lr / S * total
        clock.start(i, (k + 1, x))
        for j in sorted(clock.busy) if stop else ():
            if clock.busy[j][3][0] != k + 1:
                clock.drop(j)
                clock.start(j, (k + 1, x))
        out.append(x)
    return np.array(out), clock.now


@pytest.mark.parametrize("stop", [True, False])
def test_rennala_is_its_box(stop):
    run = go(ol.methods.Rennala(S=3, lr=0.7, variant="stop" if stop else "ignore"), HOM, 15)
    x, now = rennala(HOM, HOM.x0.numpy(), 0.7, 3, 15, stop)
    assert np.abs(run.iterates.numpy() - x).max() < 1e-10
    assert run.federation.now == pytest.approx(now, rel=1e-12)


def test_noiseless_rennala_is_gradient_descent_whatever_the_times():
    run = go(ol.methods.Rennala(S=5, lr=0.5), HOM, 10)
    descent = ol.run(ol.methods.GD(lr=0.5), HOM, rounds=10, keep="x", live=False)
    assert float((run.iterates - descent.iterates).abs().max()) < 1e-12


def test_rennala_with_one_gradient_a_step_goes_at_the_pace_of_the_fastest():
    run = go(ol.methods.Rennala(S=1, lr=0.5), HOM, 12)
    assert run.federation.now == 12 * TAU.min()


def test_with_equal_times_and_n_gradients_rennala_malenia_and_m_sync_are_minibatch_sgd():
    fleet = ol.Fleet(seconds=2.0)
    runs = [
        go(method, HOM, 8, fleet).iterates
        for method in (ol.methods.Rennala(S=N, lr=0.6), ol.methods.Malenia(S=N, lr=0.6), ol.methods.MSync(m=N, lr=0.6))
    ]
    plain = ol.run(ol.methods.SGD(lr=0.6, batch_size=None), HOM, rounds=8, keep="x", live=False).iterates
    assert all(float((x - plain).abs().max()) < 1e-12 for x in runs)


def test_malenia_is_its_box_with_weights_too():
    problem = WEIGHTED
    w, x, S, lr, clock, out = problem.weights.numpy(), problem.x0.numpy(), 9, 0.05, Clock(), []
    run = go(ol.methods.Malenia(S=S, lr=lr), problem, 10)
    for _ in range(10):
        sums, counts = np.zeros((N, 5)), np.zeros(N)
        for i in range(N):
            clock.start(i, x)
        while True:
            i, at = clock.arrive()
            sums[i] += grad(problem, i, at)
            counts[i] += 1
            if counts.min() > 0 and (w**2 / counts).sum() * S <= 1 + 1e-12:
                break
            clock.start(i, x)
        for j in list(clock.busy):
            clock.drop(j)
        x = x - lr * (w / counts) @ sums
        out.append(x)
    assert np.abs(run.iterates.numpy()[1:] - np.array(out)).max() < 1e-10
    assert run.federation.now == pytest.approx(clock.now, rel=1e-12)


def test_on_heterogeneous_data_rennala_is_biased_and_malenia_is_not():
    with pytest.warns(ol.errors.AssumptionWarning, match="favour the clients that answer most often"):
        biased = go(ol.methods.Rennala(S=8, lr=0.05), HET, 400)
    fair = go(ol.methods.Malenia(S=8, lr=0.05), HET, 400)
    size = {name: float(HET.gradient(run.x).norm()) for name, run in (("rennala", biased), ("malenia", fair))}
    assert size["malenia"] < 1e-6 < 0.1 < size["rennala"]


def ringleader(problem, x, lr, steps):
    w, clock, out = problem.weights.numpy(), Clock(), [x]
    G, b, Gn, bn, left, k, delays = np.zeros((N, 5)), np.zeros(N), np.zeros((N, 5)), np.zeros(N), set(), 0, []
    for i in range(N):
        clock.start(i, (0, x))
    while k < steps:
        i, (version, at) = clock.arrive()
        g = grad(problem, i, at)
        collecting = not left
        if collecting or i in left:
            G[i] += g
            b[i] += 1
        else:
            Gn[i] += g
            bn[i] += 1
        if (collecting and b.min() > 0) or i in left:
            left = set(range(N)) if collecting else left
            left.discard(i)
            delays.append(k - version)
            x, k = x - lr * w @ (G / b[:, None]), k + 1
            clock.start(i, (k, x))
            out.append(x)
            if not left:
                G, b, Gn, bn = Gn, bn, np.zeros((N, 5)), np.zeros(N)
        else:
            clock.start(i, (version, at))
    return np.array(out), clock.now, delays


def test_ringleader_is_its_box_and_its_delays_are_bounded():
    run = go(ol.methods.Ringleader(lr=0.02), HET, 40)
    x, now, delays = ringleader(HET, HET.x0.numpy(), 0.02, 40)
    assert np.abs(run.iterates.numpy() - x).max() < 1e-10 and run.federation.now == pytest.approx(now, rel=1e-12)
    assert run.history["delay"].iloc[1:].tolist() == delays and max(delays) <= 2 * N - 2


def test_ringleader_converges_on_heterogeneous_data_and_sends_n_models_a_round():
    run = go(ol.methods.Ringleader(lr=0.02), HET, 4000)
    assert float(HET.gradient(run.x).norm()) < 1e-6
    models = run.federation.ledger.per_client("down") / (32 * HET.d)
    assert (models == 1 + 1000).all()


def test_ia2sgd_is_its_box():
    w, x, lr, clock, out = HET.weights.numpy(), HET.x0.numpy(), 0.02, Clock(), []
    table, filled = np.zeros((N, 5)), np.zeros(N, bool)
    run = go(ol.methods.IA2SGD(lr=lr), HET, 30)
    for i in range(N):
        clock.start(i, x)
    while len(out) < 30:
        i, at = clock.arrive()
        table[i], filled[i] = grad(HET, i, at), True
        if filled.all():
            x = x - lr * w @ table
            out.append(x)
            clock.start(i, x)
        else:
            clock.start(i, at)
    assert np.abs(run.iterates.numpy()[1:] - np.array(out)).max() < 1e-10


def local(problem, i, x, lr, steps, rho=0.0):
    y = x
    for _ in range(steps):
        y = y - lr * (grad(problem, i, y) + rho * (y - x))
    return y


def test_fedbuff_is_its_box():
    x, lr, K, clock, out, k = HET.x0.numpy(), 0.03, 3, Clock(), [], 0
    run = go(ol.methods.FedBuff(buffer=K, lr=lr, local_steps=2, server_lr=0.8), HET, 12)
    for i in range(N):
        clock.start(i, (0, x), 2 * TAU[i])
    total, count = np.zeros(5), 0
    while len(out) < 12:
        i, (version, at) = clock.arrive()
        total, count = total + (1 + k - version) ** -0.5 * (at - local(HET, i, at, lr, 2)), count + 1
        if count == K:
            x, k, total, count = x - 0.8 * total / K, k + 1, np.zeros(5), 0
            out.append(x)
        clock.start(i, (k, x), 2 * TAU[i])
    assert np.abs(run.iterates.numpy()[1:] - np.array(out)).max() < 1e-10


def test_fedbuff_with_a_buffer_of_one_and_plain_steps_is_asgd():
    plain = ol.staleness.Constant()
    one = go(ol.methods.FedBuff(buffer=1, lr=0.05, local_steps=1, staleness=plain), HOM, 25)
    asgd = go(ol.methods.ASGD(lr=0.05, batch_size=None), HOM, 25)
    assert float((one.iterates - asgd.iterates).abs().max()) < 1e-12


def test_fedbuffs_first_round_with_equal_times_is_fedavg():
    fedbuff = go(ol.methods.FedBuff(buffer=N, lr=0.03, local_steps=3), HET, 1, ol.Fleet(seconds=1.0))
    fedavg = ol.run(ol.methods.FedAvg(lr=0.03, local_steps=3), HET, rounds=1, keep="x", live=False)
    assert float((fedbuff.x - fedavg.x).abs().max()) < 1e-12


def test_fedbuff_keeps_so_many_at_work_and_asks_idle_ones_as_scripted():
    chosen = [[0, 2], [1], [3], [1], [0]]
    method = ol.methods.FedBuff(buffer=1, concurrency=2, lr=0.05, local_steps=1)
    run = ol.run(method, HET, rounds=4, fleet=FLEET, randomness=ol.Scripted(cohorts=chosen), live=False)
    assert sorted(job.client for job in run.federation.running()) == [0, 3] or len(run.federation.running()) == 2
    assert run.federation.ledger.per_client("replies").sum() == 4


def test_fedasync_is_its_box():
    x, clock, out, k = HET.x0.numpy(), Clock(), [], 0
    run = go(ol.methods.FedAsync(alpha=0.6, lr=0.03, local_steps=2, rho=0.5), HET, 20)
    for i in range(N):
        clock.start(i, (0, x), 2 * TAU[i])
    for _ in range(20):
        i, (version, at) = clock.arrive()
        a = 0.6 * (1 + k - version) ** -0.5
        x, k = (1 - a) * x + a * local(HET, i, at, 0.03, 2, 0.5), k + 1
        out.append(x)
        clock.start(i, (k, x), 2 * TAU[i])
    assert np.abs(run.iterates.numpy()[1:] - np.array(out)).max() < 1e-10


def test_rejecting_in_asgd_is_ringmaster_with_r_one_larger():
    rejecting = go(ol.methods.ASGD(lr=0.05, batch_size=None, staleness=ol.staleness.Reject(2)), HOM, 40)
    ringmaster = go(ol.methods.Ringmaster(R=3, lr=0.05, batch_size=None), HOM, 40)
    assert torch.equal(rejecting.iterates, ringmaster.iterates)
    assert not rejecting.history["accepted"].iloc[1:].all()


def test_delay_adaptive_asgd_shrinks_steps_beyond_n_and_the_old_field_points_to_it():
    fleet = ol.Fleet(seconds=[1.0, 1.0, 1.0, 60.0])
    adaptive = go(ol.methods.DelayAdaptiveASGD(lr=0.05, batch_size=None), HOM, 190, fleet)
    vanilla = go(ol.methods.ASGD(lr=0.05, batch_size=None), HOM, 190, fleet)
    same = (adaptive.iterates == vanilla.iterates).all(1)
    late = int(adaptive.history["delay"].gt(N).idxmax())
    assert bool(same[:late].all()) and not bool(same[late])
    with pytest.warns(DeprecationWarning, match="DelayAdaptiveASGD"):
        old = ol.methods.ASGD(lr=0.05, batch_size=None, policy="delay-adaptive")
    assert torch.equal(go(old, HOM, 190, fleet).iterates, adaptive.iterates)


def test_naive_optimal_asgd_asks_the_fastest_alone_and_dies_with_them():
    run = go(ol.methods.NaiveOptimalASGD(s=0.0, lr=0.1, batch_size=None), HOM, 10)
    assert run.federation.ledger.per_client("replies").tolist() == [10, 0, 0, 0]  # without noise one device is best
    many = go(ol.methods.NaiveOptimalASGD(s=1e9, lr=0.1, batch_size=None), HOM, 30)
    assert (many.federation.ledger.per_client("replies") > 0).all()


def test_m_sync_takes_the_first_m_and_a_round_lasts_as_long_as_the_mth():
    run = go(ol.methods.MSync(m=3, lr=0.5), HOM, 7)
    assert run.federation.now == pytest.approx(7 * TAU[2]) and run.federation.ledger.per_client("replies")[3] == 0
    best = go(ol.methods.MSync(eps=1e-3, lr=0.5), ol.problems.Tridiagonal(d=6, n=N, noise=1.0), 1)
    assert best.federation.ledger.per_client("replies").sum() == 2  # tau_m (1 + s/m), s = 6,000, is smallest at m = 2


def test_mindflayer_without_clipping_is_minibatch_sgd_with_its_batches():
    method = ol.methods.MindFlayer(clip=1e9, trials=[3, 2, 1, 0], lr=0.5)
    run = go(method, HOM, 6)
    descent = ol.run(ol.methods.GD(lr=0.5), HOM, rounds=6, keep="x", live=False)
    assert float((run.iterates - descent.iterates).abs().max()) < 1e-12
    assert run.federation.now == pytest.approx(6 * max(3 * TAU[0], 2 * TAU[1], TAU[2]))


def test_mindflayer_gives_up_what_takes_too_long_and_stays_unbiased():
    fleet = ol.Fleet(seconds=1.0, jitter=ol.fleets.Hang(0.5))
    method = ol.methods.MindFlayer(clip=0.5, trials=[40] * N, lr=0.5)
    run = go(method, HOM, 1, fleet)
    came = run.history["accepted"].iloc[1]
    assert run.history["clipped"].iloc[1] == 40 * N - came and 40 < came < 120  # p = 1/2 of 160
    g, moved = HOM.gradient(HOM.x0), (HOM.x0 - run.x) / 0.5
    assert torch.allclose(moved, g * came / (0.5 * 40 * N), rtol=1e-9)  # divided by what was expected, not by what came
    assert run.federation.now <= 40 * 1.5 and (run.federation.ledger.per_client("up") <= 40 * 32 * HOM.d).all()


def test_vecna_weighs_every_client_by_its_weight():
    problem = WEIGHTED
    run = go(ol.methods.Vecna(clip=1e9, trials=[3, 2, 1, 1], lr=0.05), problem, 8)
    descent = ol.run(ol.methods.GD(lr=0.05), problem, rounds=8, keep="x", live=False)
    assert float((run.iterates - descent.iterates).abs().max()) < 1e-12
    hopeless = ol.Fleet(seconds=1.0, dropout=[0, 0, 0, 1.0])
    with pytest.warns(RuntimeWarning, match="client 3 makes no trial that succeeds"):
        ol.run(ol.methods.Vecna(clip=1.0, lr=0.05), problem, rounds=1, fleet=hopeless, live=False)


def test_atas_shares_are_the_best_whole_numbers():
    from octolab.methods.theory.times import even_share

    lower = np.array([1.0, 2.3, 0.7, 4.1])
    for total in range(1, 8):
        best = min(
            max(a * low for a, low in zip(shares, lower, strict=True))
            for shares in itertools.product(range(total + 1), repeat=4)
            if sum(shares) == total
        )
        ours = even_share(total, lower)
        assert ours.sum() == total and (ours * lower).max() == pytest.approx(best)
    assert even_share(5, np.array([0.0, 1.0, 0.0])).tolist() == [3, 0, 2]


def test_with_fixed_times_and_no_confidence_ata_is_the_oracle_once_everybody_was_tried():
    learned = go(ol.methods.ATA(B=9, rule="empirical", confidence=0.0, lr=0.5), HOM, 6)
    oracle = go(ol.methods.ATA(B=9, rule="oracle", lr=0.5), HOM, 6)
    assert np.diff(learned.history["time"])[1:].tolist() == pytest.approx(np.diff(oracle.history["time"])[1:].tolist())


def test_greedy_is_faster_per_round_and_costs_more_device_work():
    fleet = ol.Fleet(seconds=TAU, jitter=ol.fleets.Exponential())
    seconds, work = {}, {}
    for rule in ("greedy", "oracle", "uniform"):
        run = go(ol.methods.ATA(B=6, rule=rule, lr=0.5), HOM, 150, fleet)
        _, _, times, _ = run.federation.timeline.jobs()
        seconds[rule], work[rule] = run.federation.now, float((times[:, -1] - times[:, 0]).sum())
    assert seconds["greedy"] < seconds["oracle"] < seconds["uniform"]
    assert work["oracle"] < work["greedy"]


@pytest.mark.parametrize("slug", ["malenia", "ringleader", "ia2sgd"])
def test_who_needs_everybody_says_so_when_somebody_is_gone(slug):
    fleet = ol.Fleet(seconds=TAU, dropout=[0, 0, 0, 1.0], timeout=50.0)
    method = ol.methods.get(slug)(lr=0.01, **({"S": 4} if slug == "malenia" else {}))
    with pytest.warns(RuntimeWarning, match="Client 3 never answers"):
        run = ol.run(method, HET, rounds=30, fleet=fleet, live=False)
    assert run.status == "stalled"


def test_time_on_a_fleet_that_counts_samples_is_the_batchs():
    data = ol.problems.classification("breast-cancer", clients=4, split=ol.data.IID())
    fleet = ol.Fleet(seconds=0.5, unit="sample")
    run = ol.run(
        ol.methods.FedBuff(buffer=4, local_steps=3, batch_size=8, lr=0.1), data, rounds=1, fleet=fleet, live=False
    )
    assert run.federation.now == pytest.approx(0.5 * 3 * 8)


@pytest.mark.parametrize(
    "method", [ol.methods.ASGD(lr=0.1, batch_size=8), ol.methods.Ringmaster(R=9, lr=0.1, batch_size=8)]
)
def test_a_gradient_takes_as_long_as_its_batch_on_a_fleet_that_counts_samples(method):
    data = ol.problems.classification("breast-cancer", clients=4, split=ol.data.IID())
    run = go(method, data, 4, ol.Fleet(seconds=0.5, unit="sample"))
    assert run.history["time"].tolist() == [0.0, 4.0, 4.0, 4.0, 4.0]
