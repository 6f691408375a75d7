"""The verbs: what a call sends, charges, remembers and waits for."""

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.errors import NoReplies, NothingUnderWay
from octolab.federation import Attack, Each, Exponential, Federation, Fleet, HalfNormal, Hang, LogNormal, Scripted


@pytest.fixture
def problem():
    return ol.problems.quadratics(n=6, d=4, L=10, mu=1, seed=0)


def grad(cohort, x):
    return cohort.grad(x)


def add_one(cohort, x):
    cohort.memory.count = (cohort.memory.count if "count" in cohort.memory else cohort.zeros(1)) + 1
    return cohort.grad(x)


def test_a_call_returns_every_clients_result_and_charges_it(problem):
    fed = Federation(problem)
    replies = fed.call(grad, fed.x0)
    assert torch.equal(replies.stack(), problem.grad(fed.x0))
    assert torch.allclose(replies.mean(), problem.gradient(fed.x0), atol=1e-12)
    assert (fed.ledger.bits_up, fed.ledger.bits_down) == (32 * 4, 32 * 4)
    assert fed.ledger.mean("broadcast") == 32 * 4
    assert fed.ledger.mean("gradients") == 1


def test_a_cohort_is_charged_per_client_and_apart_from_broadcasts(problem):
    fed = Federation(problem)
    fed.call(grad, fed.x0, to=np.array([1, 4]))
    assert fed.ledger.per_client("up").tolist() == [0, 128, 0, 0, 128, 0]
    assert fed.ledger.per_client("down").tolist() == [0, 128, 0, 0, 128, 0]
    assert fed.ledger.mean("broadcast") == 0
    assert fed.ledger.bits_up == pytest.approx(2 * 128 / 6)


@pytest.mark.parametrize(
    ("sent", "bits"),
    [
        ((), 0),
        ((True,), 1),
        ((0.5, 3), 64),
        ((torch.zeros(4), None), 128),
        (((torch.zeros(2), True),), 65),
        ((ol.compressors.TopK(1)(torch.ones(100)),), 32 + 7),
    ],
)
def test_what_goes_down_is_counted_as_sent(problem, sent, bits):
    fed = Federation(problem)
    fed.call(lambda cohort, *down: None, *sent)
    assert fed.ledger.bits_down == bits


def test_each_client_can_get_its_own_value(problem):
    fed = Federation(problem, executor=2)
    values = torch.arange(24.0, dtype=torch.float64).view(6, 4)
    assert torch.equal(fed.call(lambda cohort, v: v, Each(values)).stack(), values)
    assert fed.ledger.bits_down == 128


def test_a_function_may_return_several_vectors_scalars_or_nothing(problem):
    fed = Federation(problem)
    g, f = fed.call(lambda cohort, x: (cohort.grad(x), cohort.loss(x)), fed.x0)
    assert g.stack().shape == (6, 4) and f.stack().shape == (6,)
    assert fed.ledger.bits_up == 32 * 5
    assert len(fed.call(lambda cohort: None)) == 6


def test_a_wrong_shape_gets_a_sentence(problem):
    with pytest.raises(TypeError, match=r"one row per client \(6, ...\); got \(4,\)"):
        Federation(problem).call(lambda cohort: torch.zeros(4))


@pytest.mark.parametrize("executor", ["auto", "stacked", "loop", 1, 4])
def test_everyexecutor_gives_the_same(problem, executor):
    fed = Federation(problem, executor=executor)
    fed.call(add_one, fed.x0, to=np.array([0, 2, 3, 5]))
    assert torch.equal(fed.memory.count[:, 0], torch.tensor([1.0, 0, 1, 1, 0, 1], dtype=torch.float64))
    assert torch.allclose(fed.call(grad, fed.x0).stack(), problem.grad(fed.x0), rtol=0, atol=1e-13)


def test_threads_never_change_a_bit():
    problem = ol.problems.quadratics(n=200, d=5, L=10, mu=1, seed=1)
    results = []
    for threads in (1, 2, 4):
        fed = Federation(problem, threads=threads)
        fed.executor.chunk = lambda fed, m: 16
        results.append(fed.call(lambda c, x: ol.compressors.RandK(2)(c.grad(x), c), fed.x0).mean())
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


# -- memory: a call is a transaction -----------------------------------------------------------------------------------
def test_a_device_that_drops_out_keeps_its_old_memory(problem):
    fed = Federation(problem, fleet=Fleet(dropout=[0, 0, 1, 0, 1, 0]))
    fed.call(add_one, fed.x0)  # before the start nobody drops out
    fed.started = True
    replies = fed.call(add_one, fed.x0)
    assert replies.clients.tolist() == [0, 1, 3, 5]
    assert fed.memory.count[:, 0].tolist() == [2, 2, 1, 2, 1, 2]
    up = fed.ledger.per_client("up") / 128
    assert up.tolist() == [2, 2, 1, 2, 1, 2]
    assert (fed.ledger.per_client("broadcast") == 256).all()


def test_a_late_reply_is_charged_but_not_remembered(problem):
    fed = Federation(problem, fleet=Fleet(seconds=[1, 1, 9, 1, 1, 1]), deadline=2.0)
    fed.started = True
    replies = fed.call(add_one, fed.x0)
    assert 2 not in replies.clients
    assert fed.memory.count[2, 0] == 0
    assert fed.ledger.per_client("up")[2] == 128
    assert fed.now == 2.0


def test_reading_gives_a_copy_and_only_assignment_writes(problem):
    fed = Federation(problem)
    fed.call(add_one, fed.x0)

    def meddle(cohort):
        cohort.memory.count.mul_(100)

    fed.call(meddle)
    assert (fed.memory.count == 1).all()


def test_an_exception_in_a_client_function_leaves_memory_alone(problem):
    fed = Federation(problem, executor="loop", fleet=Fleet(dropout=1e-12))
    fed.call(add_one, fed.x0)
    fed.started = True

    def fails_late(cohort, x):
        cohort.memory.count = cohort.memory.count + 1
        if cohort.ids[0] == 3:
            raise RuntimeError("broken device code")
        return cohort.grad(x)

    with pytest.raises(RuntimeError):
        fed.call(fails_late, fed.x0)
    assert (fed.memory.count == 1).all()


def test_memory_that_was_never_written_gets_a_sentence(problem):
    with pytest.raises(AttributeError, match=r"holds no 'h' yet: write cohort.memory.h first"):
        Federation(problem).call(lambda cohort: cohort.memory.h)


def test_totals_count_the_absent_as_zero_and_means_do_not(problem):
    fed = Federation(problem)
    replies = fed.call(lambda cohort: torch.ones(cohort.m, 4, dtype=torch.float64), to=np.array([0, 1, 2]))
    assert torch.allclose(replies.weighted_sum(), torch.full((4,), 0.5, dtype=torch.float64))
    assert torch.allclose(replies.mean(), torch.ones(4, dtype=torch.float64))


def test_weights_of_the_objective_are_the_weights_of_the_average():
    A, b = np.stack([np.eye(2)] * 3), np.array([[1.0, 0], [0, 1], [1, 1]])
    problem = ol.problems.Quadratics(A, b, weights=[1, 2, 5])
    replies = Federation(problem).call(grad, problem.x0)
    assert torch.allclose(replies.mean(), problem.gradient(problem.x0))
    some = Federation(problem).call(grad, problem.x0, to=np.array([0, 1]))
    assert torch.allclose(some.mean(), -torch.tensor([1 / 3, 2 / 3], dtype=torch.float64))
    assert torch.allclose(some.weighted_sum(), -torch.tensor([1 / 8, 2 / 8], dtype=torch.float64))


def test_a_mean_over_nobody_is_refused_in_words(problem):
    fed = Federation(problem)
    nobody = fed.call(grad, fed.x0, to=np.array([], dtype=int))
    assert torch.equal(nobody.weighted_sum(), torch.zeros(4, dtype=torch.float64))
    with pytest.raises(NoReplies, match="nobody replied"):
        nobody.mean()


# -- virtual time ------------------------------------------------------------------------------------------------------
def test_the_clock_is_latency_plus_transfer_plus_work(problem):
    fleet = Fleet(seconds=[1, 2, 3, 4, 5, 6], up=64.0, down=128.0, latency=0.25)
    fed = Federation(problem, fleet=fleet)
    fed.call(grad, fed.x0, to=np.array([0, 3]))
    assert fed.now == pytest.approx(0.25 + 128 / 128 + 4 + 0.25 + 128 / 64)


def test_work_is_counted_in_gradients_or_in_samples():
    rng = np.random.default_rng(0)
    sizes = [3, 5]
    problem = ol.problems.Logistic([rng.normal(size=(m, 2)) for m in sizes], [np.ones(m) for m in sizes], 0.1)
    for unit, expected in (("gradient", 2.0), ("sample", 10.0)):
        fed = Federation(problem, fleet=Fleet(unit=unit))
        fed.call(lambda cohort, x: cohort.grad(x) + cohort.grad(x), problem.x0)
        assert fed.now == expected
    assert fed.ledger.per_client("samples").tolist() == [6, 10]


@pytest.mark.parametrize("jitter", [LogNormal(0.5), Exponential(), HalfNormal([1.0] * 6), Hang(0.5)])
def test_random_times_are_addressed(problem, jitter):
    def times():
        fed = Federation(problem, fleet=Fleet(seconds=2.0, jitter=jitter), randomness=3, deadline=50.0)
        fed.started = True
        for _ in range(5):
            fed.call(grad, fed.x0)
        return fed.now

    assert times() == times()


def test_jitters_have_their_moments():
    u = np.random.default_rng(0).random(200_000)
    ones = np.ones_like(u)
    assert np.median(LogNormal(0.7)(ones, u)) == pytest.approx(1, abs=0.01)
    assert Exponential()(3 * ones, u).mean() == pytest.approx(3, abs=0.05)
    assert (HalfNormal(4.0)(ones, u) - 1).mean() == pytest.approx(2 * np.sqrt(2 / np.pi), abs=0.02)
    assert np.isinf(Hang(0.3)(ones, u)).mean() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds", -1),
        ("up", 0),
        ("down", -5),
        ("latency", -0.1),
        ("dropout", 1.5),
        ("unit", "hour"),
        ("seconds", np.nan),
    ],
)
def test_bad_fleets_get_a_sentence(field, value):
    with pytest.raises(ValueError, match=field):
        Fleet(**{field: value})


def test_a_fleet_of_the_wrong_size_gets_a_sentence(problem):
    with pytest.raises(ValueError, match="seconds has 3 entries: there are 6 clients"):
        Federation(problem, fleet=Fleet(seconds=[1, 2, 3]))


# -- asynchronous ------------------------------------------------------------------------------------------------------
def test_arrivals_come_in_order_of_time_then_client(problem):
    fed = Federation(problem, fleet=Fleet(seconds=[3, 1, 2, 1, 5, 4]))
    for i in fed.clients:
        fed.submit(i, grad, fed.x0, tag=i)
    order = [(job.client, fed.now) for job in (fed.next() for _ in range(6))]
    assert order == [(1, 1), (3, 1), (2, 2), (0, 3), (5, 4), (4, 5)]
    with pytest.raises(NothingUnderWay, match="No job is under way"):
        fed.next()


def test_a_job_is_evaluated_at_the_point_it_was_sent_and_only_when_read(problem):
    fed = Federation(problem)
    calls = []

    def counted(cohort, x):
        calls.append(int(cohort.ids[0]))
        return cohort.grad(x)

    start = fed.x0.clone()
    for i in (0, 1):
        fed.submit(i, counted, start, sends=128)
    first, second = fed.next(), fed.next()
    assert calls == []
    assert torch.equal(second.result, problem.grad(start, slice(1, 2))[0])
    assert calls == [1]
    assert fed.ledger.per_client("up").tolist()[:2] == [128, 128]  # ignored, but it was sent
    assert first.result is not None


def test_a_cancelled_job_sends_nothing(problem):
    fed = Federation(problem)
    job = fed.submit(0, grad, fed.x0, sends=128)
    fed.submit(1, grad, fed.x0, work=2, sends=128)
    fed.cancel(job)
    assert fed.next().client == 1
    assert fed.ledger.per_client("up").tolist()[0] == 0
    assert fed.ledger.per_client("down").tolist()[0] == 128


def test_a_job_has_two_stages_and_an_upload_can_be_cancelled_half_way(problem):
    fed = Federation(problem, fleet=Fleet(seconds=1.0, up=[16, 128, 128, 128, 128, 128]))
    slow = fed.submit(0, grad, fed.x0)  # 1 s of work, then 8 s on its way
    fed.submit(1, grad, fed.x0, work=4)  # 4 s, then 1 s
    assert fed.next().client == 1 and fed.now == 5.0
    fed.cancel(slow)
    assert fed.ledger.per_client("up")[0] == 64  # 4 of 8 seconds had passed
    job = fed.submit(0, grad, fed.x0)
    assert fed.next() is job and fed.now == 5 + 1 + 8


def test_a_point_that_a_client_holds_is_not_sent_again(problem):
    fed = Federation(problem)
    for _ in range(3):
        fed.submit(0, grad, fed.x0)
        fed.next()
    assert fed.ledger.per_client("down")[0] == 128


def test_what_a_lost_device_never_sends(problem):
    fed = Federation(problem, fleet=Fleet(dropout=[1, 0, 0, 0, 0, 0]))
    for i in (0, 1):
        fed.submit(i, grad, fed.x0)
    assert fed.next().client == 1
    with pytest.raises(NothingUnderWay):
        fed.next()
    assert [j.client for j in fed.running()] == [0]


def test_dropping_a_job_shifts_nobodys_randomness():
    problem = ol.problems.Tridiagonal(d=5, n=3, noise=1.0)

    def noisy(cohort, x):
        return cohort.grad(x, cohort.batch(1))

    def last(cancel):
        fed = Federation(problem, fleet=Fleet(seconds=[1, 2, 3]))
        jobs = [fed.submit(i, noisy, fed.x0) for i in range(3)]
        if cancel:
            fed.cancel(jobs[0])
        else:
            fed.next().result.sum()
        fed.next().result.sum()
        return fed.next().result

    assert torch.equal(last(False), last(True))


def test_coins_and_cohorts_can_be_scripted(problem):
    fed = Federation(problem, randomness=Scripted(coins=[1, 0, 1], cohorts=[[0, 5], []]))
    assert [fed.coin(0.5) for _ in range(3)] == [True, False, True]
    assert fed.sample(2).tolist() == [0, 5]
    assert fed.sample(2).tolist() == []
    with pytest.raises(ValueError, match="numbered 0 to 5"):
        Federation(problem, randomness=Scripted(cohorts=[[6]])).sample(1)


# -- attackers ---------------------------------------------------------------------------------------------------------
class Spy(Attack):
    sees_all = True
    seen: list = []  # noqa: RUF012

    def __call__(self, context):
        self.seen.append((context.honest.shape, context.own.clone(), context.clients.tolist()))
        return torch.zeros_like(context.own)


def test_attackers_see_everything_and_change_only_their_own_rows(problem):
    spy = Spy(clients=(1, 2))
    fed = Federation(problem, attack=spy)
    replies = fed.call(grad, fed.x0, to=np.array([0, 1, 3]))
    rows = problem.grad(fed.x0)
    assert torch.equal(replies.stack(), torch.stack([rows[0], torch.zeros(4, dtype=torch.float64), rows[3]]))
    shape, own, clients = spy.seen[-1]
    assert shape == (4, 4)  # clients 0 and 3 were asked, 4 and 5 are honest and unasked, 2 is a fellow
    assert torch.equal(own[0], rows[1]) and clients == [1]
    assert fed.ledger.per_client("gradients").tolist() == [1, 1, 0, 1, 0, 0]


def test_attackers_that_do_not_exist_get_a_sentence(problem):
    with pytest.raises(ValueError, match=r"attackers \[9\] do not exist"):
        Federation(problem, attack=Spy(clients=(9,)))


def test_badexecutors_and_deadlines_get_a_sentence(problem):
    with pytest.raises(ValueError, match="choose 'auto', 'stacked', 'loop'"):
        Federation(problem, executor="fast")
    with pytest.raises(ValueError, match="deadline=0: give a number > 0"):
        Federation(problem, deadline=0)


# -- local training schedules ------------------------------------------------------------------------------------------
def ragged_problem():
    rng = np.random.default_rng(0)
    sizes = [3, 11, 7, 20]
    features = [rng.normal(size=(m, 2)) for m in sizes]
    return ol.problems.Logistic(features, [np.sign(rng.normal(size=m)) for m in sizes], 0.1)


@pytest.mark.parametrize("work", [{"steps": 9}, {"epochs": 2}])
def test_local_batches_do_not_depend_on_who_else_is_in_the_cohort(work):
    problem = ragged_problem()

    def train(cohort, x):
        first = cohort.local_sgd(x, lr=0.1, batch_size=4, **work)
        return torch.cat([first, cohort.local_sgd(x, lr=0.1, batch_size=4, **work)], 1)

    everybody = Federation(problem).call(train, problem.x0).stack()
    assert not torch.equal(everybody[:, :2], everybody[:, 2:])  # a second training draws afresh
    for cohort in ([0, 2], [1], [2, 3]):
        some = Federation(problem).call(train, problem.x0, to=np.array(cohort)).stack()
        assert torch.allclose(some, everybody[cohort], rtol=0, atol=1e-14)
    one_by_one = Federation(problem, executor="loop").call(train, problem.x0).stack()
    assert torch.allclose(one_by_one, everybody, rtol=0, atol=1e-14)


def test_epochs_visit_every_sample_once_and_keep_the_short_batch():
    problem = ragged_problem()
    seen = []

    def look(cohort):
        count, batch = cohort.schedule(None, 2, 4)
        seen.append((count, batch.index, batch.mask, cohort.local_steps(None, 2, 4).tolist()))

    Federation(problem).call(look)
    count, index, mask, steps = seen[0]
    assert count == 10 and steps == [2, 6, 4, 10]
    assert mask.any(2).sum(0).tolist() == steps
    for i, size in enumerate([3, 11, 7, 20]):
        per_epoch = -(-size // 4)
        for e in range(2):
            part = slice(e * per_epoch, (e + 1) * per_epoch)
            assert sorted(index[part, i][mask[part, i]].tolist()) == list(range(size))


def test_local_steps_take_whole_batches_from_a_stream_that_wraps():
    seen = []

    def look(cohort):
        seen.append(cohort.schedule(5, None, 4)[1])

    Federation(ragged_problem()).call(look)
    assert seen[0].mask.all()
    stream = seen[0].index[:, 0].flatten().tolist()  # client 0 holds 3 samples
    for a in range(0, 18, 3):
        assert sorted(stream[a : a + 3]) == [0, 1, 2]


# -- scripted noise ----------------------------------------------------------------------------------------------------
def test_scripted_noise_is_added_to_an_exact_gradient_and_scaled_by_a_noisy_one(problem):
    noise = [np.arange(24.0).reshape(6, 4), [1.0, 2.0, 3.0, 4.0]]

    def stochastic(cohort, x):
        return cohort.grad(x, cohort.batch(1))

    fed = Federation(problem, randomness=Scripted(noise=noise))
    for entry in noise:
        assert torch.allclose(fed.call(stochastic, fed.x0).stack(), problem.grad(fed.x0) + torch.tensor(entry))
    noisy = ol.problems.Tridiagonal(d=4, n=6, noise=0.5, noise_kind="iid")
    fed = Federation(noisy, randomness=Scripted(noise=noise))
    assert torch.allclose(fed.call(stochastic, fed.x0).stack(), noisy.grad(fed.x0) + 0.5 * torch.tensor(noise[0]))


def test_random_job_times_are_addressed_by_client_and_job_number(problem):
    """Whatever else runs, client 3's k-th job takes the same time; and times differ from job to job."""
    fleet = Fleet(seconds=2.0, jitter=LogNormal(0.5))

    def durations(others):
        fed = Federation(problem, fleet=fleet, randomness=5)
        seen = []
        for _ in range(40):
            for i in others:
                fed.submit(i, grad, fed.x0)
            job = fed.submit(3, grad, fed.x0)
            seen.append(round(job.time - job.started, 9))
            while fed.next() is not job:
                pass
        return seen

    alone = durations([])
    assert durations([0, 1, 5]) == alone and len(set(alone)) == 40
    assert np.median(alone) == pytest.approx(2.0, rel=0.3)


def test_dense_matrices_keep_their_shape_when_a_cohort_is_cut_into_passes():
    from octolab.payloads import Dense

    fed = Federation(ol.problems.quadratics(n=5, d=3), executor=2)
    whole = Federation(ol.problems.quadratics(n=5, d=3), executor="stacked")

    def hessians(cohort, x):
        return Dense(cohort.hessian(x), axes=2)

    cut, one = fed.call(hessians, fed.x0), whole.call(hessians, fed.x0)
    assert cut.payload.order == 2 and torch.equal(cut.stack(), one.stack())
    assert fed.ledger.bits_up == whole.ledger.bits_up == 9 * 32


def test_writing_rows_of_the_memory_leaves_alone_who_else_holds_its_tensor():
    fed = Federation(ol.problems.quadratics(n=4, d=3))
    shared = torch.ones(4, 3, dtype=torch.float64)
    fed.memory.a = shared
    fed.memory["b"] = shared
    fed.memory.commit({"a": torch.zeros(2, 3, dtype=torch.float64)}, torch.tensor([0, 2]), None)
    assert shared.sum() == 12 and fed.memory.b.sum() == 12 and fed.memory.a.sum() == 6


# -- chunks ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1, 3, 10])
@pytest.mark.parametrize(
    "compressor",
    [
        *(ol.compressors.Identity(), ol.compressors.TopK(3), ol.compressors.RandK(3), ol.compressors.QSGD(4)),
        *(ol.compressors.Natural(), ol.compressors.TopK(4) | ol.compressors.QSGD(4), ol.compressors.PermK()),
        ol.compressors.Bucketed(ol.compressors.QSGD(4), 5),
    ],
    ids=repr,
)
def test_a_cohort_cut_into_chunks_sends_the_same_messages(compressor, size):
    from octolab.payloads import Dense, Gated

    problem = ol.problems.quadratics(n=10, d=12, seed=0)
    whole, cut = (ol.Federation(problem, executor=e) for e in ("stacked", size))

    def client(cohort, x):
        message = compressor(cohort.grad(x), cohort)
        gate = torch.as_tensor(cohort.ids % 2 == 0)
        own = Dense(cohort.grad(x))
        return message, Gated(own, gate), gate.double(), None if size == 3 else cohort.grad(x)[:, :2]

    one, other = (fed.call(client, fed.x0) for fed in (whole, cut))
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape and type(a.payload) is type(b.payload)
        if a.payload is not None:
            assert torch.equal(a.stack(), b.stack()) and torch.equal(a.payload.bits, b.payload.bits)
            assert a.payload.encode() == b.payload.encode()
    assert whole.ledger.state()["total"] == cut.ledger.state()["total"]


def test_names_of_before_still_work_and_say_the_new_one(problem):
    fed = ol.Federation(problem)
    replies = fed.call(lambda cohort: cohort.zeros() + 1)
    with pytest.warns(DeprecationWarning, match="weighted_sum"):
        assert torch.equal(replies.total(), replies.weighted_sum())
    with pytest.warns(DeprecationWarning, match="replies"):
        assert fed.ledger.total("rounds") == fed.ledger.total("replies") == problem.n
