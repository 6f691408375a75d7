"""Feature shift: what a client does to its features, and that nobody else's are touched."""

from __future__ import annotations

import numpy as np
import pytest

from octolab.data import IID, Dirichlet, FeatureShift, load
from octolab.data.splits.shift import rotate_images, rotate_pairs


def test_client_applies_its_transform_to_both_parts_and_leaves_the_data_alone():
    ds = load("digits")
    before = ds.x.copy()
    p = FeatureShift(rotation=40, scale=0.2, shift=0.3).split(ds, 6, seed=1)
    t = p.transforms
    for i in range(6):
        x_train, y_train, x_test, y_test = p.client(i, ds)
        for got, index in ((x_train, p.train[i]), (x_test, p.test[i])):
            by_hand = t.gains[i] * rotate_pairs(ds.x[index], t.angles[i]) + t.offset(i, (64,))
            np.testing.assert_allclose(got, by_hand, atol=1e-5)
            assert got.dtype == np.float32
        np.testing.assert_array_equal(y_train, ds.y[p.train[i]])
        np.testing.assert_array_equal(y_test, ds.y[p.test[i]])
    np.testing.assert_array_equal(ds.x, before)
    assert np.abs(t.angles).max() <= np.deg2rad(40) and len(set(t.angles)) == 6


def test_the_base_split_decides_who_holds_what():
    ds = load("digits")
    assert FeatureShift(base=Dirichlet(0.5)).split(ds, 5).sha256 == Dirichlet(0.5).split(ds, 5).sha256
    plain, shifted = IID().split(ds, 5), FeatureShift(30.0).split(ds, 5)
    assert plain.sha256 == shifted.sha256
    assert not np.allclose(plain.client(0, ds)[0], shifted.client(0, ds)[0])


def test_the_transforms_are_seeded():
    ds = load("digits")
    a, b, c = (FeatureShift(30, 0.1, 0.1).split(ds, 4, seed=s).client(2, ds)[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert a.shape != c.shape or not np.array_equal(a, c)


def test_pairs_turn_by_the_angle_and_keep_norms():
    x = np.random.default_rng(0).normal(size=(5, 7))
    turned = rotate_pairs(x, 0.7)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(x, axis=1), rtol=1e-13)
    np.testing.assert_array_equal(turned[:, 6], x[:, 6])
    np.testing.assert_allclose(rotate_pairs(turned, -0.7), x, atol=1e-14)
    np.testing.assert_allclose(rotate_pairs(np.array([[1.0, 0.0]]), np.pi / 2), [[0.0, 1.0]], atol=1e-15)


def test_images_turn_about_their_centre():
    x = np.random.default_rng(0).random((3, 9, 9))
    np.testing.assert_array_equal(rotate_images(x, 0.0), x)
    quarter = rotate_images(x, np.pi / 2)
    same = [np.allclose(quarter, np.rot90(x, k, axes=(1, 2)), atol=1e-9) for k in (1, -1)]
    assert sum(same) == 1
    np.testing.assert_allclose(rotate_images(x, np.pi), x[:, ::-1, ::-1], atol=1e-9)
    assert np.allclose(rotate_images(x, 0.6)[:, 4, 4], x[:, 4, 4])
    assert (rotate_images(np.ones((1, 9, 9)), np.pi / 4)[0, 0, 0] == 0.0).all()  # the corner comes from outside


def test_images_are_rotated_as_images_and_bytes_are_refused():
    ds = load("fashion-mnist-7k")
    p = FeatureShift(25.0).split(ds, 20)
    x = p.client(3, ds)[0]
    assert x.shape[1:] == (28, 28) and x.dtype == np.float32
    np.testing.assert_allclose(x, rotate_images(ds.x[p.train[3]], p.transforms.angles[3]), atol=1e-6)
    with pytest.raises(ValueError, match="these are uint8"):
        p.client(3, load("fashion-mnist-7k", dtype="uint8"))


def test_the_strengths_are_those_asked_for():
    t = FeatureShift(rotation=0.0, scale=0.5, shift=2.0).split(np.zeros(3000), 2000, seed=1).transforms
    assert (t.angles == 0).all()
    assert np.log(t.gains).std() == pytest.approx(0.5, rel=0.08)
    assert t.offset(7, (5000,)).std() == pytest.approx(2.0, rel=0.05)
    assert not np.array_equal(t.offset(7, (5,)), t.offset(8, (5,)))
