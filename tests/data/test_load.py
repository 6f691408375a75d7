"""The data sets that need no network: what is in them, where they come from, what if bytes change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import octolab.data
from octolab.data import IID, ChecksumError, Dataset, DatasetUnavailable, Provenance, available, builtin, catalog, load
from octolab.data.idx import CONTENTS, ROOT, read_idx

BUNDLED = Path(octolab.data.__file__).parent / "bundled"


def test_digits_is_the_fixed_permutation_of_scikit_learns_pixels():
    from sklearn.datasets import load_digits

    ds, raw = load("digits"), load_digits()
    order = np.random.default_rng(0).permutation(1797)
    assert ds.x.shape == (1437, 64) and ds.x_test.shape == (360, 64) and ds.x.dtype == np.float32
    np.testing.assert_array_equal(ds.x, (raw.data[order[:1437]] / 16).astype(np.float32))
    np.testing.assert_array_equal(ds.y_test, raw.target[order[1437:]])
    assert ds.classes == tuple(range(10)) and ds.clients is None


def test_breast_cancer_is_standardised_on_the_training_samples():
    ds = load("breast-cancer")
    assert ds.x.shape == (569, 30) and ds.x_test is None and ds.classes == ("malignant", "benign")
    assert len(ds.feature_names) == 30 and (ds.y == 0).sum() == 212
    np.testing.assert_allclose(ds.x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(ds.x.std(axis=0), 1, atol=1e-5)
    held = load("breast-cancer", test_share=0.2)
    assert (len(held), len(held.y_test)) == (455, 114)
    np.testing.assert_allclose(held.x.mean(axis=0), 0, atol=1e-5)
    assert np.abs(held.x_test.mean(axis=0)).max() > 1e-3  # the test part was not standardised by itself


def test_fashion_mnist_7k_is_balanced_and_scaled():
    ds, raw = load("fashion-mnist-7k"), load("fashion-mnist-7k", dtype="uint8")
    assert ds.x.shape == (6000, 28, 28) and ds.x_test.shape == (1000, 28, 28)
    assert np.bincount(ds.y).tolist() == [600] * 10 and np.bincount(ds.y_test).tolist() == [100] * 10
    assert ds.x.dtype == np.float32 and raw.x.dtype == np.uint8 and ds.y.dtype == np.int64
    np.testing.assert_allclose(ds.x, raw.x / 255, atol=1e-7)
    assert raw.spec["options"] == {"dtype": "uint8"} and ds.classes[9] == "Ankle boot"


def test_shakespeare_windows_hold_the_next_character_of_each_role():
    import gzip

    ds = load("shakespeare", seq_len=50)
    roles = json.loads(gzip.decompress((BUNDLED / "shakespeare_64_speakers.json.gz").read_bytes()))
    assert ds.n_clients == 64 and ds.n_classes == 71 and ds.kind == "text"
    np.testing.assert_array_equal(ds.x[:, 1:], ds.y[:, :-1])
    for i in (0, 63):
        assert ds.client_names[i] == roles[i]["client"]
        own = ds.x[ds.clients == i]
        assert roles[i]["text"].startswith(ds.text(own))  # windows touch and do not overlap
        cut = len(roles[i]["text"]) - int(0.1 * len(roles[i]["text"]))
        assert len(own) == (cut - 1) // 50
    assert ds.text(ds.x_test[0]) in roles[0]["text"][-1600:]


def test_shakespeares_options_change_windows_vocabulary_and_test_part():
    assert load("shakespeare", seq_len=64, stride=32).x.shape[0] > 1.9 * load("shakespeare").x.shape[0]
    assert load("shakespeare", test_share=0).x_test is None
    wider = load("shakespeare", vocabulary="".join(map(chr, range(32, 127))) + "\n")
    assert wider.n_classes == 96 and wider.text(wider.x[0]) == load("shakespeare").text(load("shakespeare").x[0])
    with pytest.raises(ValueError, match="vocabulary lacks"):
        load("shakespeare", vocabulary="abc")
    with pytest.raises(ValueError, match=r"seq_len is 2,000, too long.*at most 1,3\d\d"):
        load("shakespeare", seq_len=2000)
    with pytest.raises(ValueError, match="seq_len is 0"):
        load("shakespeare", seq_len=0)


@pytest.mark.parametrize("name", ["digits", "breast-cancer", "fashion-mnist-7k", "shakespeare"])
def test_every_data_set_carries_provenance_and_loads_again_from_its_spec(name):
    ds = load(name)
    p = ds.provenance
    assert len(p.sha256) == 64 and p.bytes > 0 and p.source and p.licence
    assert p.n == len(ds) + (0 if ds.y_test is None else len(ds.y_test))
    spec = json.loads(json.dumps(ds.spec))
    again = load(spec["name"], **spec["options"])
    np.testing.assert_array_equal(ds.x, again.x)
    assert again.spec == ds.spec
    shown = repr(ds)
    assert name in shown and p.licence in shown and p.sha256 in shown and f"{len(ds):,}" in shown


def test_the_licences_travel_with_the_bundled_files():
    assert "Copyright (c) 2017 Zalando SE" in (BUNDLED / "LICENSE-fashion-mnist.txt").read_text()
    text = (BUNDLED / "LICENSE-shakespeare.txt").read_text()
    assert "Attribution 2.5" in text and "Open Knowledge" in text
    for entry in json.loads((BUNDLED / "manifest.json").read_text()).values():
        assert (BUNDLED / entry["file"]).stat().st_size == entry["bytes"]


@pytest.mark.parametrize("name", ["fashion-mnist-7k", "shakespeare"])
def test_a_changed_byte_in_a_bundled_file_is_found(name, tmp_path):
    folder = shutil.copytree(BUNDLED, tmp_path / "bundled")
    path = folder / json.loads((folder / "manifest.json").read_text())[name]["file"]
    assert builtin.read_bundled(name, 0, folder)[1].bytes == path.stat().st_size
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(
        ChecksumError, match=r"sha256 is [0-9a-f]{64}, promised is [0-9a-f]{64}.*[Ii]nstall octolab again"
    ):
        builtin.read_bundled(name, 0, folder)
    path.unlink()
    with pytest.raises(DatasetUnavailable, match="is missing"):
        builtin.read_bundled(name, 0, folder)


def test_arrays_of_scikit_learn_that_changed_are_found(monkeypatch):
    table = builtin._digits_table()
    table[7, 7] += 1
    monkeypatch.setattr(builtin, "_digits_table", lambda: table)
    with pytest.raises(ChecksumError, match="'digits' are not the promised ones"):
        load("digits")


def test_digits_are_read_without_importing_scikit_learn_or_with_it_where_the_file_is_elsewhere(monkeypatch):
    """A Flower node reads its data anew for every message: SciPy and pandas would cost it a second each time."""
    code = "import sys; from octolab.data import load; load('digits'); print({'sklearn', 'pandas', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
    first = load("digits")
    monkeypatch.setattr(builtin.importlib.util, "find_spec", lambda name: None)
    assert np.array_equal(first.x, load("digits").x) and np.array_equal(first.y, load("digits").y)


def test_unknown_names_and_options_name_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'digits'"):
        load("digit")
    with pytest.raises(ValueError, match="'fashion-mnist-7k'"):
        load("Fashion_MNIST")
    with pytest.raises(ValueError, match=r"'file:mine\.csv'"):
        load("mine.csv")
    with pytest.raises(ValueError, match="'hub:owner/name'"):
        load("owner/name")
    with pytest.raises(ValueError, match=r"no option seqlen=3; allowed are seq_len, .*Did you mean 'seq_len'"):
        load("shakespeare", seqlen=3)
    with pytest.raises(ValueError, match="a data set's name"):
        load(3)
    with pytest.raises(ValueError, match="prefix alone"):
        load("file:")
    with pytest.raises(ValueError, match=r"test_share is 1\.0"):
        load("digits", test_share=1.0)
    with pytest.raises(ValueError, match="dtype is 'float16'"):
        load("fashion-mnist-7k", dtype="float16")


def test_available_lists_every_form_with_one_line():
    lines = dict(catalog().itertuples(index=False))
    with pytest.warns(DeprecationWarning, match=r"data.catalog\(\)"):
        assert available() == lines
    assert {"digits", "breast-cancer", "fashion-mnist-7k", "shakespeare", "system:fashion-mnist"} < set(lines)
    assert all(line and "\n" not in line for line in lines.values())


def test_system_fashion_mnist_without_its_files_names_the_package(tmp_path):
    with pytest.raises(DatasetUnavailable, match=r"lacks train-images.*install the package dataset-fashion-mnist"):
        load("system:fashion-mnist", root=tmp_path)


def test_system_fashion_mnist_refuses_other_content(tmp_path):
    import gzip

    for name in CONTENTS:
        (tmp_path / name).write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\0"))
    with pytest.raises(ChecksumError, match="unpacked, are not the promised ones"):
        load("system:fashion-mnist", root=str(tmp_path))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(ChecksumError, match="cannot be unpacked"):
        load("system:fashion-mnist", root=str(tmp_path))


@pytest.mark.skipif(not ROOT.is_dir(), reason=f"Debian's dataset-fashion-mnist is not installed ({ROOT} is missing)")
def test_the_bundled_images_are_those_of_the_system():
    whole, part = load("system:fashion-mnist", dtype="uint8"), load("fashion-mnist-7k", dtype="uint8")
    with np.load(BUNDLED / "fashion_mnist_7k.npz") as file:
        np.testing.assert_array_equal(whole.x[file["i_train"]], part.x)
        np.testing.assert_array_equal(whole.y_test[file["i_test"]], part.y_test)


def test_idx_files_are_read_by_their_header():
    raw = b"\0\0\x08\x02" + (2).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes(range(6))
    np.testing.assert_array_equal(read_idx(raw), np.arange(6).reshape(2, 3))
    with pytest.raises(ChecksumError, match="promises 6 values and holds 5"):
        read_idx(raw[:-1])
    with pytest.raises(ChecksumError, match="does not begin like an IDX file"):
        read_idx(b"\0\0\x0d" + raw[3:])


def test_a_data_set_refuses_parts_that_do_not_match():
    p = Provenance("here", "none", "0" * 64, 0, 3)
    x, y = np.zeros((3, 2), np.float32), np.zeros(3, np.int64)

    def make(**changes):
        parts = dict(x=x, y=y, x_test=None, y_test=None, clients=None, client_names=(), classes=(0,))
        return Dataset(name="mine", kind="classification", provenance=p, **(parts | changes))

    assert len(make()) == 3
    with pytest.raises(ValueError, match="x has 2 samples and y has 3"):
        make(x=x[:2])
    with pytest.raises(ValueError, match="only one of x_test and y_test"):
        make(x_test=x)
    with pytest.raises(ValueError, match="x_test has 3 samples and y_test has 2"):
        make(x_test=x, y_test=y[:2])
    with pytest.raises(ValueError, match="clients has 1 entries"):
        make(clients=y[:1])
    with pytest.raises(ValueError, match="text\\(\\) spells"):
        make().text(y)


def test_the_data_package_loads_no_front_end():
    code = (
        "import sys, octolab.data\n"
        "octolab.data.IID().split([0, 1, 2, 3], 2)\n"
        "heavy = ('torch', 'pandas', 'plotly', 'datasets', 'sklearn', 'flwr_datasets')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    root = Path(octolab.data.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"


def test_dataset_split_is_short_for_the_splits_own():
    ds = load("digits")
    assert ds.split(IID(), 5, seed=3).sha256 == IID().split(ds, 5, seed=3).sha256
