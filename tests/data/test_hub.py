"""The hub: refused in words when it cannot be reached, read as arrays when it can (an in-memory stand-in)."""

from __future__ import annotations

import socket
import threading

import numpy as np
import pytest

from octolab.data import DatasetUnavailable, hub, load

datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")


@pytest.fixture
def online(monkeypatch):
    """As if no offline mode were set; every test with it replaces the connection."""
    from huggingface_hub import constants

    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "https_proxy", "HTTPS_PROXY", "HF_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)


def forbid(*_, **__):
    pytest.fail("the network was touched")


def test_offline_mode_refuses_at_once_and_says_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket, "create_connection", forbid)
    monkeypatch.setattr(datasets, "load_dataset", forbid)
    with pytest.raises(DatasetUnavailable) as caught:
        load("hub:ylecun/mnist")
    said = str(caught.value)
    assert "'hub:ylecun/mnist' is unavailable" in said and "HF_HUB_OFFLINE=1" in said
    assert "fashion-mnist-7k" in said and "load('file:mnist.parquet')" in said


def test_a_host_that_refuses_is_named(online, monkeypatch):
    def refuse(address, timeout):
        assert timeout == hub.PROBE_SECONDS == 2.0
        raise ConnectionRefusedError("nobody there")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(datasets, "load_dataset", forbid)
    with pytest.raises(DatasetUnavailable, match=r"its host .* cannot be reached \(nobody there\)"):
        load("hub:owner/name")


def test_a_host_that_never_answers_is_left_in_time(online, monkeypatch):
    never = threading.Event()  # as a name look-up that hangs: the socket's own timeout does not cover it
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: never.wait(60))
    try:
        assert "gave no answer within 0.05 s" in hub.why_unreachable(0.05)
        assert not never.is_set()
    finally:
        never.set()


def test_the_probe_follows_the_configured_endpoint(online, monkeypatch):
    seen = []

    class Open:
        def close(self):
            seen.append("closed")

    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: seen.append(address) or Open())
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid:8080")
    assert hub.why_unreachable() is None and seen == [("mirror.invalid", 8080), "closed"]


def test_a_configured_proxy_is_asked_instead(online, monkeypatch):
    asked = []

    def refuse(request, timeout):
        asked.append((request.full_url, timeout))
        raise OSError("Tunnel connection failed: 403 Forbidden")

    monkeypatch.setattr(socket, "create_connection", forbid)
    monkeypatch.setattr(hub.urllib.request, "getproxies", lambda: {"https": "http://proxy.invalid:3128"})
    monkeypatch.setattr(hub.urllib.request, "urlopen", refuse)
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.invalid")
    assert "cannot be reached (Tunnel connection failed: 403" in hub.why_unreachable()
    assert asked == [("https://mirror.invalid", 2.0)]


def test_a_name_without_an_owner_is_refused_before_the_network(monkeypatch):
    monkeypatch.setattr(hub, "why_unreachable", forbid)
    with pytest.raises(ValueError, match="the form is 'hub:owner/name'"):
        load("hub:mnist")


def test_what_the_hub_answers_is_passed_on(monkeypatch):
    def gone(*_):
        raise RuntimeError("this data set is gated\nlong trace")

    monkeypatch.setattr(hub, "why_unreachable", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", gone)
    with pytest.raises(DatasetUnavailable, match="answered RuntimeError: this data set is gated"):
        load("hub:owner/name")


@pytest.fixture
def answered(monkeypatch):
    """A hub that answers with this table."""
    features = datasets.Features(
        {
            "picture": datasets.Array2D((2, 2), "float32"),
            "label": datasets.ClassLabel(names=["zebra", "ant"]),
            "client": datasets.Value("string"),
        }
    )

    def rows(n):
        pictures = np.arange(4 * n, dtype=np.float32).reshape(n, 2, 2).tolist()
        columns = {"picture": pictures, "label": [i % 2 for i in range(n)], "client": list("uvw" * n)[:n]}
        return datasets.Dataset.from_dict(columns, features=features)

    monkeypatch.setattr(hub, "why_unreachable", lambda: None)
    table = datasets.DatasetDict({"train": rows(6), "test": rows(2)})
    monkeypatch.setattr(datasets, "load_dataset", lambda repository, config: table)
    return table


def test_a_hub_table_becomes_arrays_with_its_class_names(answered):
    ds = load("hub:owner/name")
    np.testing.assert_array_equal(ds.x, np.arange(24, dtype=np.float32).reshape(6, 2, 2))
    assert ds.y.tolist() == [0, 1] * 3 and ds.classes == ("zebra", "ant") and len(ds.y_test) == 2
    assert ds.client_names == ("u", "v", "w") and ds.provenance.n == 8 and len(ds.provenance.sha256) == 64
    assert load("hub:owner/name", test_split=None).provenance.sha256 != ds.provenance.sha256
    assert load("hub:owner/name", test_split=None).x_test is None
    with pytest.raises(ValueError, match="no split 'validation'; it has train, test"):
        load("hub:owner/name", split="validation")


def test_images_of_the_hub_are_decoded(monkeypatch):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    columns = {"image": [image.fromarray(p) for p in pixels], "label": [3, 5]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns, features=features)})
    monkeypatch.setattr(hub, "why_unreachable", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: table)
    ds = load("hub:owner/pictures")
    np.testing.assert_allclose(ds.x, pixels / 255, atol=1e-7)
    assert ds.classes == (3, 5) and ds.x_test is None
