"""Flower's partitioners as splits, and ours beside theirs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from octolab.data import IID, Dirichlet, FromPartitioner, Natural, Shards, load, split_from_spec

flower = pytest.importorskip("flwr_datasets.partitioner", reason="flwr-datasets is not installed")

LABELS = np.random.default_rng(5).integers(0, 10, 2000)
WRITERS = np.random.default_rng(6).integers(0, 8, 2000)


def partitions(partitioner, **columns):
    """The partitioner's own answer: for each partition the set of samples."""
    import datasets

    partitioner.dataset = datasets.Dataset.from_dict({"at": np.arange(2000), **columns})
    return [set(partitioner.load_partition(i)["at"]) for i in range(partitioner.num_partitions)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: flower.IidPartitioner(num_partitions=8),
        lambda: flower.DirichletPartitioner(num_partitions=8, partition_by="label", alpha=0.5, seed=3),
        lambda: flower.ShardPartitioner(
            num_partitions=8, partition_by="label", num_shards_per_partition=2, shard_size=100
        ),
        lambda: flower.PathologicalPartitioner(num_partitions=8, partition_by="label", num_classes_per_partition=4),
        lambda: flower.LinearPartitioner(num_partitions=8),
    ],
    ids=["iid", "dirichlet", "shard", "pathological", "linear"],
)
def test_the_adapter_gives_what_the_partitioner_gives(make):
    split = FromPartitioner(make())
    p = split.split(LABELS, seed=1)
    theirs = partitions(make(), label=LABELS)
    assert [set(a.tolist()) | set(b.tolist()) for a, b in zip(p.train, p.test, strict=True)] == theirs
    assert not any("left out" in note for note in p.notes) or p.sizes.sum() < 2000
    assert split.split(LABELS, 8, seed=1).sha256 == p.sha256  # a copy was used, so it can be used again
    rebuilt = split_from_spec(json.loads(json.dumps(p.spec)))
    assert rebuilt.split(LABELS, seed=1).sha256 == p.sha256
    assert type(split.partitioner).__name__ in repr(p)


def test_natural_ids_agree_with_ours():
    theirs = FromPartitioner(flower.NaturalIdPartitioner(partition_by="writer")).split(LABELS, clients=WRITERS)
    ours = Natural().split(LABELS, clients=WRITERS)
    groups = [{tuple(np.flatnonzero(p.owners == i)) for i in range(8)} for p in (theirs, ours)]
    assert groups[0] == groups[1]


@pytest.mark.slow
def test_our_dirichlet_is_as_skewed_as_theirs():
    def spread(histograms):
        return np.concatenate([h / np.bincount(LABELS) for h in histograms]).std()

    ours = spread(Dirichlet(0.5).split(LABELS, 8, seed=s).histogram() for s in range(30))
    theirs = spread(
        FromPartitioner(flower.DirichletPartitioner(8, "label", 0.5, min_partition_size=1, seed=s))
        .split(LABELS)
        .histogram()
        for s in range(8)
    )
    assert ours == pytest.approx(theirs, rel=0.2)  # half of alpha, or twice, would be 0.3 off


def test_our_shards_and_iid_have_their_sizes_and_label_counts():
    labels = np.repeat(np.arange(10), 200)
    theirs = FromPartitioner(
        flower.ShardPartitioner(num_partitions=10, partition_by="label", num_shards_per_partition=2, shard_size=100)
    ).split(labels)
    ours = Shards(2).split(labels, 10)
    np.testing.assert_array_equal(theirs.sizes, ours.sizes)
    assert set(np.unique(ours.histogram())) <= {0, 100, 200} >= set(np.unique(theirs.histogram()))
    iid = FromPartitioner(flower.IidPartitioner(num_partitions=7)).split(labels)
    assert sorted(iid.sizes) == sorted(IID().split(labels, 7).sizes)


def test_samples_that_nobody_gets_are_noted():
    p = FromPartitioner(flower.SizePartitioner([500, 700])).split(LABELS)
    assert p.sizes.tolist() == [500, 700] and "800 samples are left out by SizePartitioner" in p.notes


def test_text_reaches_natural_partitioners_only():
    ds = load("shakespeare", seq_len=500)
    p = FromPartitioner(flower.NaturalIdPartitioner(partition_by="speaker")).split(ds)
    assert p.n == 64
    with pytest.raises(ValueError, match="needs one label per sample"):
        FromPartitioner(flower.DirichletPartitioner(4, "label", 0.5)).split(ds)


def test_what_does_not_fit_gets_a_sentence():
    used = flower.IidPartitioner(num_partitions=3)
    partitions(used, label=LABELS)
    with pytest.raises(ValueError, match="already has a data set"):
        FromPartitioner(used)
    with pytest.raises(ValueError, match="5 clients were asked for, and this IidPartitioner makes 3"):
        FromPartitioner(flower.IidPartitioner(num_partitions=3)).split(LABELS, 5)
    with pytest.raises(ValueError, match="needs natural clients"):
        FromPartitioner(flower.NaturalIdPartitioner(partition_by="writer")).split(LABELS)
    with pytest.raises(ValueError, match="cannot make partition 3 of 5 from 3 samples"):
        FromPartitioner(flower.IidPartitioner(num_partitions=5)).split([0, 1, 0])
    with pytest.raises(ValueError, match="no partitioner 'Nobody'"):
        split_from_spec({"kind": "FromPartitioner", "class": "Nobody", "arguments": {}})
    with pytest.raises(ValueError, match="cannot be rebuilt"):
        split_from_spec({"kind": "FromPartitioner", "class": "IidPartitioner", "arguments": {"many": 3}})


def test_a_partitioner_of_columns_is_refused():
    with pytest.raises(ValueError, match="divides columns, not samples"):
        FromPartitioner(flower.VerticalEvenPartitioner(num_partitions=2)).split(LABELS)
