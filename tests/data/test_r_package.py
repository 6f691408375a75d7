"""Tables of R packages, read from lazy-load databases that are written here as R writes them."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib

import numpy as np
import pandas as pd
import pytest

from octolab.data import ChecksumError, DatasetUnavailable, load

rdata = pytest.importorskip("rdata")


def packed(raw: bytes, form: str) -> bytes:
    size = len(raw).to_bytes(4, "big")
    if form == "zlib":
        return size + zlib.compress(raw)
    if form == "bzip2":
        return size + b"2" + bz2.compress(raw)
    return size + b"Z" + lzma.compress(raw, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6}])


@pytest.fixture
def library(tmp_path):
    """write(tables, package, form): a package as R's lazy loading keeps it; returns the folder of packages."""

    def write(tables, package="mlmRev", form="zlib"):
        folder = tmp_path / package / "data"
        folder.mkdir(parents=True, exist_ok=True)
        store, places = b"", {}
        for name, table in tables.items():
            rdata.write_rds(tmp_path / "one.rds", table, compression=None)
            chunk = packed((tmp_path / "one.rds").read_bytes(), form)
            places[name] = np.array([len(store), len(chunk)], dtype=np.int32)
            store += chunk
        (folder / "Rdata.rdb").write_bytes(store)
        rdata.write_rds(folder / "Rdata.rdx", {"variables": places, "references": {}, "compressed": True})
        (folder.parent / "DESCRIPTION").write_text(f"Package: {package}\nVersion: 1.0-8\nLicense: GPL (>= 2)\n")
        return tmp_path

    return write


EXAM = pd.DataFrame(
    {
        "school": pd.Categorical(["a", "b", "c"] * 8),
        "normexam": np.linspace(-1, 1, 24),
        "standLRT": np.linspace(0, 1, 24),
        "sex": pd.Categorical(["F", "M"] * 12),
        "student": pd.Categorical([str(i) for i in range(24)]),
    }
)


@pytest.mark.parametrize("form", ["zlib", "bzip2", "lzma"])
def test_a_table_comes_with_its_usual_target_and_clients(library, form):
    ds = load("system:mlmrev/Exam", root=library({"other": EXAM[:3], "Exam": EXAM}, form=form))
    assert ds.kind == "regression" and ds.client_names == ("a", "b", "c")
    assert ds.feature_names == ("standLRT", "sex=F", "sex=M")
    np.testing.assert_allclose(ds.y, EXAM.normexam, rtol=1e-6)
    assert "r-cran-mlmrev (1.0-8)" in ds.provenance.source and ds.provenance.licence == "GPL (>= 2) (of the package)"
    assert ds.provenance.n == 24


def test_other_columns_may_be_asked_for(library):
    root = library({"Exam": EXAM})
    ds = load("system:mlmrev/Exam", root=root, target="sex", features=["standLRT"])
    assert ds.classes == ("F", "M") and ds.clients is None
    root = library({"mine": EXAM}, "lme4")
    with pytest.raises(ValueError, match=r"needs target=\.\.\.; its columns are school, normexam"):
        load("system:lme4/mine", root=root)


def test_what_is_not_there_is_told(library, monkeypatch):
    root = library({"Exam": EXAM})
    with pytest.raises(ValueError, match="no table 'Exams'; it has Exam"):
        load("system:mlmrev/Exams", root=root)
    with pytest.raises(ValueError, match="form is 'system:PACKAGE/TABLE'"):
        load("system:ggplot2/diamonds", root=root)
    with pytest.raises(DatasetUnavailable, match="apt-get install r-cran-lme4"):
        load("system:lme4/InstEval", root=root)
    store = root / "mlmRev" / "data" / "Rdata.rdb"
    store.write_bytes(store.read_bytes()[:50])
    with pytest.raises(ChecksumError, match="damaged"):
        load("system:mlmrev/Exam", root=root)
    monkeypatch.setitem(sys.modules, "rdata", None)
    with pytest.raises(DatasetUnavailable, match="Install rdata"):
        load("system:mlmrev/Exam", root=root)
