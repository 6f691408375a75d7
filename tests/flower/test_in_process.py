"""The same method in this process and on Flower's in-process Grid: same seed, same numbers, and bytes that are counted."""

import math

import numpy as np
import pytest

import octolab as ol
from octolab.errors import AssumptionWarning
from octolab.testing.problems import NotApplicable, fitted, home, quiet
from octolab.testing.sameness import difference
from tests.flower.cases import CASES, gap, run

pytestmark = [pytest.mark.flower, pytest.mark.filterwarnings("ignore::octolab.errors.AssumptionWarning")]
EXACT = {"wire": "exact"}


@pytest.mark.parametrize("name", list(CASES))
def test_with_exact_messages_flower_gives_the_same_bits(name):
    """One client at a time here, one client a node there: the same operations, so no rounding differs."""
    here = run(name, 12, executor="loop")
    there = run(name, 12, on=ol.flower.InProcess(**EXACT))
    assert difference(here, there) == ""
    assert (here.iterates == there.iterates).all()


@pytest.mark.parametrize("name", list(CASES))
def test_against_stacked_passes_only_the_order_of_sums_differs(name):
    """All clients in one pass use other BLAS calls: 1e-12 in float64, 1e-6 in float32."""
    here, there = run(name, 12), run(name, 12, on=ol.flower.InProcess(**EXACT))
    assert gap(here, there) <= (1e-12 if here.x.dtype.itemsize == 8 else 1e-6)


@pytest.mark.parametrize("name", list(CASES))
def test_as_deployed_the_numbers_agree_to_float32(name):
    here, there = run(name, 12, executor="loop"), run(name, 12, on="flower")
    if here.x.dtype.itemsize == 4:
        assert difference(here, there) == ""  # nothing is rounded on the way
    assert gap(here, there) <= 1e-6


@pytest.mark.parametrize("slug", ol.methods.slugs())
def test_every_method_of_the_catalogue_runs_on_flower_without_a_line_changed(slug):
    method = ol.methods.get(slug)()
    problem = home(method, n=3, d=6)
    try:
        method = fitted(method, problem)
    except NotApplicable as why:
        pytest.skip(str(why))
    with quiet():
        here = ol.run(method, problem, rounds=3, executor="loop", live=False)
        there = ol.run(method, problem, rounds=3, on=ol.flower.InProcess(**EXACT), live=False)
    assert here.status == there.status
    assert difference(here, there) == ""


@pytest.mark.parametrize("name", ["fedavg on a network", "ef21", "scaffold", "scaffnew", "fednl"])
def test_the_ledgers_bits_are_the_bytes_that_travelled(name):
    """Every message is a whole number of bytes; with codes of whole bytes the two totals are the same number."""
    there = run(name, 6, on="flower")
    ledger, traffic = there.federation.ledger, there.world.traffic
    down = ledger.total("down") + ledger.total("broadcast")
    assert traffic.total("payload_down") * 8 == down
    rest = traffic.total("payload_up") * 8 - ledger.total("up")
    messages = traffic.total("messages_up")
    assert 0 <= rest < 8 * messages
    if name != "ef21":
        assert rest == 0


def test_a_compressed_message_stays_compressed():
    method = ol.methods.EF21(compressor=ol.compressors.TopK(3))
    there = ol.run(method, ol.problems.quadratics(n=3, d=1000, L=10, mu=1), rounds=5, on="flower", live=False)
    table = there.world.traffic.table().set_index("function")
    bits = 3 * (32 + 10)  # three values and their positions among 1,000
    assert table.payload_up["client"] == 5 * 3 * math.ceil(bits / 8)
    assert table.payload_up["begin"] == 3 * 4000


def test_flowers_envelope_is_reported_apart():
    there = run("ef21", 6, on="flower")
    traffic = there.world.traffic
    assert {"hello", "begin", "client"} == set(traffic.table().function)
    assert traffic.total("envelope_up") > 0 and traffic.total("envelope_down") > 0
    assert traffic.envelope == pytest.approx(
        (traffic.total("envelope_up") + traffic.total("envelope_down"))
        / (traffic.total("payload_up") + traffic.total("payload_down"))
    )
    assert "of envelope" in repr(traffic)


def test_what_a_node_is_told_once_is_not_told_again():
    there = run("ef21", 2, on="flower")
    before = there.world.traffic.total("envelope_down")
    there.world.executor.run(there.federation, there.method.client, np.arange(3), (there.x,), 99)
    one = (there.world.traffic.total("envelope_down") - before) / 3
    assert one < len(there.world.executor._json)


@pytest.mark.parametrize("fleet", [ol.Fleet(dropout=0.4), ol.Fleet(seconds=[1.0, 2.0, 9.0], up=1e3, latency=0.1)])
def test_drop_outs_and_deadlines_of_the_virtual_fleet_are_the_same_on_flower(fleet):
    """A reply that the fleet loses is undone on its node at the next contact."""
    same = {"fleet": fleet, "deadline": 8.0}
    here, there = run("ef21", 15, executor="loop", **same), run("ef21", 15, on=ol.flower.InProcess(**EXACT), **same)
    assert here.history.dropped.sum() > 0
    assert difference(here, there) == ""


def test_a_client_that_is_drawn_twice_works_twice():
    twice = ol.methods.FedAvg(lr=0.05, local_epochs=1, cohort=3)
    problem = ol.problems.quadratics(n=4, d=5, L=10, mu=1)
    script = {"randomness": ol.Scripted(cohorts=[[1, 1, 3], [0, 2, 2]])}
    here = ol.run(twice, problem, rounds=2, executor="loop", live=False, **script)
    script = {"randomness": ol.Scripted(cohorts=[[1, 1, 3], [0, 2, 2]])}
    there = ol.run(twice, problem, rounds=2, on=ol.flower.InProcess(**EXACT), live=False, **script)
    assert difference(here, there) == ""


def test_the_memory_is_on_the_nodes_and_nowhere_else():
    there = run("ef21", 4, on=ol.flower.InProcess(**EXACT))
    here = run("ef21", 4)
    assert there.federation.memory._store == {}
    assert [len(c.state) for c in there.world.grid.contexts.values()] == [2, 2, 2]
    assert (there.federation.memory.g == here.federation.memory.g).all()  # fetched because somebody looks
    assert "g" in there.federation.memory and "h" not in there.federation.memory
    with pytest.raises(KeyError, match="holds no 'h'; it holds g"):
        there.federation.memory["h"]


def test_a_run_moves_between_the_worlds_without_a_seam(tmp_path):
    """Saved on Flower, resumed here; saved here, resumed on Flower; gone on with: bitwise the uninterrupted run."""
    whole = run("scaffold", 10, executor="loop")
    exact = ol.flower.InProcess(**EXACT)
    half = run("scaffold", 5, on=exact, checkpoint=str(tmp_path / "half.octo"))
    at_home = ol.load_run(tmp_path / "half.octo").fork(rounds=10, executor="loop").finish()
    back = ol.load_run(tmp_path / "half.octo").fork(rounds=10, on=exact).finish()
    forked = half.fork(rounds=10).finish()
    for other in (at_home, back, forked):
        assert difference(whole, other) == ""


def test_a_method_that_is_not_in_the_catalogue_runs_in_this_process():
    class Mine(ol.methods.GD):
        slug = "mine"

        def step(self, fed, s):
            return s._replace(x=s.x - 0.5 * self.lr * fed.call(self.half, s.x).mean())

        def half(self, cohort, x):
            return cohort.grad(x)

    problem = ol.problems.quadratics(n=3, d=4, L=10, mu=1)
    here = ol.run(Mine(), problem, rounds=4, executor="loop", live=False)
    there = ol.run(Mine(), problem, rounds=4, on=ol.flower.InProcess(**EXACT), live=False)
    assert difference(here, there) == ""


def test_a_function_that_nodes_cannot_find_gets_a_sentence():
    class Nameless(ol.methods.GD):
        def step(self, fed, s):
            return s._replace(x=fed.call(lambda cohort, x: cohort.grad(x), s.x).mean())

    with pytest.raises(ol.errors.OctolabError, match="cannot be named to a node"):
        ol.run(Nameless(), ol.problems.quadratics(n=3, d=4, L=10, mu=1), rounds=1, on="flower", live=False)


def test_a_client_function_that_fails_says_where_and_why():
    class Broken(ol.methods.GD):
        def step(self, fed, s):
            return s._replace(x=fed.call(self.wrong, s.x).mean())

        def wrong(self, cohort, x):
            return x + cohort.memory.nothing

    with pytest.raises(ol.errors.OctolabError, match=r"Client 0 failed: AttributeError: .* holds no 'nothing'"):
        ol.run(Broken(), ol.problems.quadratics(n=3, d=4, L=10, mu=1), rounds=1, on="flower", live=False)


def test_a_warning_about_assumptions_is_the_same():
    with pytest.warns(AssumptionWarning, match="drop out"):
        ol.run("ef21", ol.problems.quadratics(n=3, d=4), rounds=1, on="flower", fleet=ol.Fleet(dropout=0.1), live=False)


def test_a_paused_run_on_flower_goes_on_where_it_stood():
    problem = ol.problems.quadratics(n=3, d=6, L=10, mu=1)
    started = ol.start("ef21", problem, rounds=40, on=ol.flower.InProcess(**EXACT))
    started.pause()
    started.resume()
    done = started.result(timeout=60)
    assert difference(ol.run("ef21", problem, rounds=40, executor="loop", live=False), done) == ""
