"""`hub:` data sets: the Hugging Face hub when it can be reached, a clear refusal in two seconds when not."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from octolab.data.columns import from_columns
from octolab.data.dataset import Dataset, Provenance
from octolab.data.errors import DatasetUnavailable

PROBE_SECONDS = 2.0
BUNDLED = "'digits', 'breast-cancer', 'fashion-mnist-7k' and 'shakespeare'"


def load_hub(
    repository: str,
    target: str = "label",
    client: str | None = "client",
    features: Sequence[str] | None = None,
    split: str = "train",
    test_split: str | None = "test",
    config: str | None = None,
    test_share: float = 0.0,
) -> Dataset:
    """A data set of the hub, through `datasets.load_dataset`, as arrays.

    Args:
        repository: "owner/name".
        target, client, features: columns, as for `file:` data sets.
        split: the hub's split to train on.
        test_split: the split of the global test set; "test" (the default) is left out where there is none.
        config: the hub's configuration name, where a data set has several.
        test_share: share of the samples kept as global test set where there is no test split.

    Raises DatasetUnavailable at once with HF_HUB_OFFLINE=1, within PROBE_SECONDS if the hub does not answer,
    and if it refuses the data set. Nothing is ever put in its place.
    """
    name = f"hub:{repository}"
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise ValueError(f"{name!r} names no hub data set; the form is 'hub:owner/name', e.g. 'hub:ylecun/mnist'.")
    reason = why_unreachable()
    if reason:
        raise unavailable(name, reason)
    try:
        import datasets

        loaded = datasets.load_dataset(repository, config)
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0]
        raise unavailable(name, f"the hub was reached and answered {type(error).__name__}: {first}") from error
    if split not in loaded:
        raise ValueError(f"{name} has no split {split!r}; it has {', '.join(map(str, loaded))}. Give split=...")
    if test_split is not None and test_split not in loaded and test_split != "test":
        raise ValueError(f"{name} has no split {test_split!r}; it has {', '.join(map(str, loaded))}.")
    test = loaded[test_split] if test_split in loaded and test_split != split else None
    made = from_columns(
        name,
        arrow_columns(loaded[split]),
        hub_provenance(repository, loaded[split], test),
        target=target,
        client=client,
        features=features,
        test_share=test_share,
        test=None if test is None else arrow_columns(test),
    )
    names = getattr(loaded[split].features[target], "names", None)  # a ClassLabel: the hub's names for the codes
    if names is None or not all(0 <= c < len(names) for c in made.classes):
        return made
    return replace(made, classes=tuple(names[c] for c in made.classes))


def unavailable(name: str, reason: str) -> DatasetUnavailable:
    """The refusal, in words: which data set, why, what there is instead, how to bring the data by file."""
    short = name.split("/")[-1]
    return DatasetUnavailable(
        f"{name!r} is unavailable: {reason}. octolab puts no other data in its place. These need no "
        f"network: {BUNDLED}. To use this data set, save it as a table on a machine that reaches the hub "
        f"(columns of features and 'label'), copy the file here and load('file:{short}.parquet'); csv, json "
        "and npz work as well."
    )


def why_unreachable(seconds: float = PROBE_SECONDS) -> str | None:
    """None if the hub's host accepts a connection within `seconds`, else the reason why it cannot be used.

    The host is huggingface_hub's configured endpoint. The probe runs in a daemon thread, since looking up a
    host name has no time limit of its own. Where a proxy is configured, the proxy is asked for the endpoint
    instead.
    """
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(variable, "").strip().upper() in ("1", "ON", "YES", "TRUE"):
            return f"{variable}={os.environ[variable]} is set, so octolab does not try the network"
    try:
        from huggingface_hub import constants
    except ImportError:
        return "the packages huggingface_hub and datasets are not installed"
    if constants.HF_HUB_OFFLINE:
        return "huggingface_hub was started in offline mode, so octolab does not try the network"
    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    outcome: list[str | None] = []

    def probe() -> None:
        try:
            _connect(endpoint, seconds)
            outcome.append(None)
        except Exception as error:
            outcome.append(f"its host {urlsplit(endpoint).hostname} cannot be reached ({error})")

    thread = threading.Thread(target=probe, name="octolab-hub-probe", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        return f"its host {urlsplit(endpoint).hostname} gave no answer within {seconds:g} s"
    return outcome[0]


def _connect(endpoint: str, seconds: float) -> None:
    """Connect to the endpoint's host (by its proxy, if one is configured). Raises OSError if that fails."""
    address = urlsplit(endpoint)
    host = address.hostname or ""
    if address.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        try:
            urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=seconds).close()
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                raise
        return
    port = address.port or (80 if address.scheme == "http" else 443)
    socket.create_connection((host, port), timeout=seconds).close()


def arrow_columns(table: Any) -> dict[str, np.ndarray]:
    """The columns of a `datasets.Dataset` as numpy arrays, read from Arrow; images become uint8 arrays."""
    columns: dict[str, np.ndarray] = {}
    plain = table.with_format("arrow")[:]
    for name, feature in table.features.items():
        if type(feature).__name__ == "Image":
            pictures = [np.asarray(picture) for picture in table[name]]
            cells = np.empty(len(pictures), object)
            cells[:] = pictures
            columns[name] = cells
        else:
            columns[name] = plain[name].to_pandas().to_numpy()
    return columns


def hub_provenance(repository: str, train: Any, test: Any | None) -> Provenance:
    """Source, and licence as the hub states it; `sha256` and `bytes` are of the rows' Arrow bytes."""
    import pyarrow as pa

    digest, size, n = hashlib.sha256(), 0, 0
    for part in (train, test):
        if part is None:
            continue
        n += len(part)
        for batch in part.with_format("arrow")[:].combine_chunks().to_batches():
            raw = pa.ipc.read_message(batch.serialize()).body
            size += raw.size
            digest.update(memoryview(raw))
    licence = str(train.info.license or "not stated by the hub")
    return Provenance(f"the Hugging Face hub, {repository}", licence, digest.hexdigest(), size, n)
