"""What a split promises: every sample in one client, the same again from the same seed, its kind of skew."""

from __future__ import annotations

import json

import numpy as np
import pytest

from octolab.data import (
    IID,
    Dirichlet,
    FeatureShift,
    FromPartitioner,
    Natural,
    QuantitySkew,
    Shards,
    Split,
    load,
    split_from_spec,
)
from octolab.data.splits.base import fill_small

LABELS = np.random.default_rng(5).integers(0, 10, 4000)
WRITERS = np.random.default_rng(6).integers(0, 25, 4000)
SPLITS = [
    IID(),
    Dirichlet(0.3),
    Dirichlet(0.01, min_size=3),
    Shards(2),
    Shards(3, by="classes"),
    QuantitySkew(0.5),
    FeatureShift(20.0, 0.1, 0.2, base=Dirichlet(1.0)),
    Natural(),
    Natural(fewer="group"),
]


def name(split):
    return repr(split)


def clients_of(split):
    return 25 if isinstance(split, Natural) and split.fewer == "sample" else 20


@pytest.mark.parametrize("split", SPLITS, ids=name)
@pytest.mark.parametrize("test_share", [0.0, 0.2, 0.9])
def test_every_sample_is_in_exactly_one_client_and_one_part(split, test_share):
    p = split.split(LABELS, clients_of(split), seed=1, clients=WRITERS, test_share=test_share)
    assert p.n == len(p) == clients_of(split)
    assert sorted(np.concatenate(p.train + p.test).tolist()) == list(range(4000))
    assert (p.train_sizes >= 1).all()
    assert ((p.test_sizes >= 1) == ((p.sizes > 1) & (test_share > 0))).all()
    wanted = np.minimum(np.maximum(np.floor(test_share * p.sizes + 0.5), test_share > 0), p.sizes - 1)
    np.testing.assert_array_equal(p.test_sizes, wanted)
    np.testing.assert_array_equal(np.bincount(p.owners), p.sizes)


@pytest.mark.parametrize("split", SPLITS, ids=name)
def test_the_seed_decides_everything(split):
    n = min(18, clients_of(split))
    first, again, other = (split.split(LABELS, n, seed=s, clients=WRITERS) for s in (7, 7, 8))
    assert first.sha256 == again.sha256 != other.sha256
    assert first.spec == again.spec
    np.testing.assert_array_equal(first.histogram(), again.histogram())


@pytest.mark.parametrize("split", SPLITS, ids=name)
def test_who_holds_a_sample_does_not_depend_on_the_test_share(split):
    few, many = (split.split(LABELS, 20, seed=2, clients=WRITERS, test_share=s) for s in (0.1, 0.5))
    np.testing.assert_array_equal(few.owners, many.owners)


@pytest.mark.parametrize("split", SPLITS, ids=name)
def test_the_global_random_state_is_neither_read_nor_written(split):
    np.random.seed(1)  # noqa: NPY002
    first = split.split(LABELS, 20, clients=WRITERS).sha256
    np.random.seed(2)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    assert split.split(LABELS, 20, clients=WRITERS).sha256 == first
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize("split", SPLITS, ids=name)
def test_a_json_spec_rebuilds_the_split(split):
    spec = json.loads(json.dumps(split.spec))
    assert split_from_spec(spec) == split
    p = split.split(LABELS, 20, seed=4, clients=WRITERS, test_share=0.3)
    whole = json.loads(json.dumps(p.spec))
    rebuilt = split_from_spec(whole).split(
        LABELS, whole["n"], seed=whole["seed"], clients=WRITERS, test_share=whole["test_share"]
    )
    assert rebuilt.sha256 == p.sha256


def test_iid_sizes_differ_by_at_most_one_and_labels_look_alike():
    p = IID().split(LABELS, 7)
    assert p.sizes.max() - p.sizes.min() <= 1
    shares = p.histogram() / p.sizes[:, None]
    expected = np.bincount(LABELS) / 4000
    assert np.abs(shares - expected).max() < 5 * np.sqrt(0.1 * 0.9 / p.sizes.min())  # five standard deviations


def test_dirichlet_with_a_large_alpha_is_nearly_iid():
    shares = Dirichlet(1e6).split(LABELS, 10).histogram() / np.bincount(LABELS)
    np.testing.assert_allclose(shares, 0.1, atol=0.005)  # one sample of ~400, and alpha's own spread of 1e-4
    assert Dirichlet(1e300).split(LABELS, 10).sizes.max() < 410


@pytest.mark.parametrize("alpha", [1e-5, 1e-9, 1e-300])
def test_dirichlet_with_a_small_alpha_gives_each_class_to_one_client(alpha):
    p = Dirichlet(alpha).split(LABELS, 10, seed=3)
    share_of_the_largest = p.histogram().max(axis=0) / np.bincount(LABELS)
    assert share_of_the_largest.min() > 0.97  # the rest fills up clients that drew nothing
    assert p.sizes.min() >= 1


def test_dirichlet_proportions_have_the_distributions_moments():
    n, alpha = 10, 0.5
    shares = np.concatenate(
        [Dirichlet(alpha).split(LABELS, n, seed=s).histogram() / np.bincount(LABELS) for s in range(60)]
    )
    assert abs(shares.mean() - 1 / n) < 1e-12
    variance = (1 / n) * (1 - 1 / n) / (n * alpha + 1)  # of one coordinate of Dirichlet(alpha, ..., alpha)
    assert shares.var() == pytest.approx(variance, rel=0.1)


def test_dirichlet_fills_small_clients_and_says_so():
    p = Dirichlet(0.02, min_size=30).split(LABELS, 100)
    assert p.sizes.min() == 30 and p.sizes.sum() == 4000
    assert any("moved from the largest clients" in note and "min_size=30" in note for note in p.notes)
    exact = Dirichlet(0.02, min_size=40).split(LABELS, 100)
    assert (exact.sizes == 40).all()
    with pytest.raises(ValueError, match=r"at least 41 samples each: there are 4,000.*fewer clients"):
        Dirichlet(0.02, min_size=41).split(LABELS, 100)


def test_filling_takes_from_the_largest_one_at_a_time():
    sizes = np.array([0, 9, 1, 5, 7])
    owners, _ = fill_small(np.repeat(np.arange(5), sizes), 5, 3, np.random.default_rng(0), "test")
    by_hand = sizes.copy()
    while by_hand.min() < 3:
        by_hand[by_hand.argmax()] -= 1
        by_hand[by_hand.argmin()] += 1
    assert sorted(np.bincount(owners)) == sorted(by_hand)
    assert np.bincount(owners)[3] == 5  # who is not among the largest keeps all


def test_shards_give_each_client_few_labels_and_equal_sizes():
    labels = np.repeat(np.arange(10), 100)
    p = Shards(2).split(labels, 50)
    assert (p.sizes == 20).all() and (p.histogram() > 0).sum(axis=1).max() <= 2
    assert set(np.unique(p.histogram())) <= {0, 10, 20}  # whole shards
    uneven = Shards(3).split(LABELS, 7)
    assert uneven.sizes.max() - uneven.sizes.min() <= 3


def test_shards_by_classes_gives_exactly_that_many_labels():
    p = Shards(3, by="classes").split(LABELS, 20)
    assert ((p.histogram() > 0).sum(axis=1) == 3).all()
    for column in p.histogram().T:  # each label evenly among its holders
        assert np.ptp(column[column > 0]) <= 1
    with pytest.raises(ValueError, match=r"does not fit 3 clients and 10 labels.*from 4 to 10"):
        Shards(2, by="classes").split(LABELS, 3)
    with pytest.raises(ValueError, match="has 1 samples for the 2 clients"):
        Shards(2, by="classes").split([0, 1, 1, 1], 2)


def test_quantity_skew_changes_sizes_and_not_labels():
    even, skewed = (QuantitySkew(a).split(LABELS, 10).sizes for a in (1e6, 0.2))
    assert np.ptp(even) < 20 and np.ptp(skewed) > 500
    p = QuantitySkew(0.5).split(LABELS, 10)
    big = p.histogram()[p.sizes > 300]
    expected = np.bincount(LABELS) / 4000
    assert np.abs(big / big.sum(axis=1, keepdims=True) - expected).max() < 5 * np.sqrt(0.1 * 0.9 / 300)


def test_natural_clients_keep_their_samples_and_names():
    names = np.array([f"w{w:02d}" for w in WRITERS])
    p = Natural().split(LABELS, clients=names)
    np.testing.assert_array_equal(p.owners, WRITERS)
    assert p.client_names[3] == "w03" and p.n == 25


def test_fewer_natural_clients_are_sampled_or_grouped_whole():
    sampled = Natural().split(LABELS, 10, clients=WRITERS)
    kept = [int(c) for c in sampled.client_names]
    assert kept == sorted(kept) and len(set(kept)) == 10
    for i, w in enumerate(kept):
        assert sorted([*sampled.train[i], *sampled.test[i]]) == np.flatnonzero(w == WRITERS).tolist()
    left_out = 4000 - int(sampled.sizes.sum())
    assert f"others' {left_out:,} samples are left out" in sampled.notes[0]
    grouped = Natural(fewer="group").split(LABELS, 10, clients=WRITERS)
    assert grouped.sizes.sum() == 4000
    assert all(len(set(grouped.owners[w == WRITERS])) == 1 for w in range(25))
    assert "25 natural clients are put together into 10" in grouped.notes[0]
    by_hand = Natural(fewer="group").split(np.zeros(8), 2, clients=[0, 1, 2, 2, 3, 3, 3, 3])
    assert by_hand.sizes.tolist() == [4, 4]  # 4 | 2 + 1 + 1: the largest first


def test_splits_of_text_work_where_they_make_sense():
    ds = load("shakespeare", seq_len=200)
    p = Natural().split(ds)
    assert p.n == 64 and p.client_names == ds.client_names
    assert p.histogram().shape == (64, 71) and p.histogram().sum() == ds.y.size
    x_train, y_train, _, _ = p.client(5, ds)
    np.testing.assert_array_equal(x_train[:, 1:], y_train[:, :-1])
    assert IID().split(ds, 8).n == 8
    for split in (Dirichlet(0.3), Shards(2)):
        with pytest.raises(ValueError, match="have 200 labels each"):
            split.split(ds, 8)
    with pytest.raises(ValueError, match="these samples are text"):
        FeatureShift().split(ds, 8)


def test_regression_targets_have_no_labels_to_divide_by():
    y = np.linspace(0, 1, 50)
    assert QuantitySkew().split(y, 5).sizes.sum() == 50
    with pytest.raises(ValueError, match="targets are numbers"):
        Dirichlet().split(y, 5)


def test_labels_may_be_strings_or_far_apart_integers():
    words = np.array(["cat", "dog", "cow"])[LABELS % 3]
    p = Dirichlet(1.0).split(words, 5)
    assert p.classes == ("cat", "cow", "dog")
    np.testing.assert_array_equal(p.histogram().sum(axis=0), [(words == c).sum() for c in p.classes])
    assert IID().split(LABELS * 10**12 - 7, 5).classes[:2] == (-7, 10**12 - 7)


def test_notes_name_clients_with_a_single_class_and_without_a_test_part():
    p = Natural().split([0, 1, 0, 1, 1, 1, 0], clients=[0, 0, 1, 1, 2, 2, 3])
    assert "clients 2 and 3 have a single class" in p.notes
    assert "client 3 has a single sample, so an empty test part" in p.notes
    assert len(p.train[3]) == 1 and len(p.test[3]) == 0
    assert IID().split([0, 0, 0, 0], 2).notes == ()  # with one class in all there is nothing to remark


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Dirichlet(0), r"alpha=0: give a number in \(0, inf\)"),
        (lambda: Dirichlet(-1.0), r"alpha=-1.0"),
        (lambda: Dirichlet(float("nan")), r"alpha=nan"),
        (lambda: Dirichlet(float("inf")), r"alpha=inf"),
        (lambda: Dirichlet("small"), r"alpha='small'"),
        (lambda: Dirichlet(0.3, min_size=0), r"min_size=0"),
        (lambda: QuantitySkew(0.0), r"QuantitySkew: alpha=0.0"),
        (lambda: Shards(0), r"per_client=0"),
        (lambda: Shards(1.5), r"per_client=1.5: give .* a whole number"),
        (lambda: Shards(2, by="label"), r"choose one of 'shards', 'classes'"),
        (lambda: Natural(fewer="drop"), r"choose one of 'sample', 'group'"),
        (lambda: FeatureShift(0.0), "changes nothing"),
        (lambda: FeatureShift(200.0), r"rotation=200.0: give a number in \[0, 180\]"),
        (lambda: FeatureShift(base=FeatureShift()), "give another split"),
        (lambda: FromPartitioner("iid"), "takes a partitioner object"),
        (lambda: IID().split(LABELS), "IID needs the number of clients"),
        (lambda: IID().split(LABELS, 0), "number of clients n is 0"),
        (lambda: IID().split(LABELS, 2.5), "n is 2.5; it must be an integer"),
        (lambda: IID().split(LABELS, 4001), r"4,001 clients for 4,000 samples.*at most 4,000"),
        (lambda: IID().split(LABELS, 5, seed=-1), "seed is -1"),
        (lambda: IID().split(LABELS, 5, test_share=1), "test_share is 1"),
        (lambda: IID().split([], 1), "labels are empty"),
        (lambda: IID().split([0.0, np.nan], 1), "1 of 2 are missing"),
        (lambda: Shards(100).split(LABELS, 100), "needs 10,000 shards, more than the 4,000 samples"),
        (lambda: Natural().split(LABELS), "this data set has none"),
        (
            lambda: Natural().split(LABELS, 26, clients=WRITERS),
            "26 clients were asked for, and the data have 25",
        ),
        (lambda: Natural().split(LABELS, clients=WRITERS[:9]), "one natural client id per sample"),
        (lambda: split_from_spec({"kind": "Dirichlett"}), "Did you mean Dirichlet"),
        (lambda: split_from_spec({"kind": "IID", "alpha": 3}), "IID has the fields none; given alpha"),
        (lambda: split_from_spec("IID"), "give a split's spec"),
    ],
)
def test_bad_input_gets_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_split_of_ones_own_needs_only_assign():
    from dataclasses import dataclass

    from octolab.data.splits.base import Draft

    @dataclass(frozen=True)
    class InOrder(Split):
        def assign(self, samples, n, seed):
            return Draft(np.arange(len(samples)) * n // len(samples), n)

    assert InOrder().split(LABELS, 4).owners.tolist() == sorted(InOrder().split(LABELS, 4).owners.tolist())
    with pytest.raises(NotImplementedError, match="Split does not define assign"):
        Split().split(LABELS, 4)
