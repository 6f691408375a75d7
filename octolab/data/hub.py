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
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

from octolab.arguments import expects, like, sequence, text
from octolab.data.dataset import Dataset, Provenance
from octolab.data.errors import DatasetUnavailable
from octolab.data.frame import read_frame
from octolab.data.table import Encoder

if TYPE_CHECKING:
    import datasets
    import pandas as pd

PROBE_SECONDS = 2.0
BUNDLED = "'digits', 'breast-cancer', 'fashion-mnist-7k' and 'shakespeare'"


def load_hub(
    repository: str,
    target: str | Sequence[str] = "label",
    client: str | None = "client",
    features: Sequence[str] | None = None,
    split: str = "train",
    test_split: str | None = "test",
    config: str | None = None,
    test_share: float = 0.0,
    groups: str | None = None,
    kind: str | None = None,
    categorical: str = "one-hot",
    missing: str = "median+flag",
    scale: str | None = None,
    statistics: str = "pooled",
) -> Dataset:
    """A data set of the hub, through `datasets.load_dataset`, as arrays.

    Args:
        repository: "owner/name".
        target, client, features, groups, kind, categorical, missing, scale, statistics: as in `from_frame`.
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
    made = from_hugging_face(
        loaded[split], target, client, groups, features=features, kind=kind, categorical=categorical, missing=missing,
        scale=scale, statistics=statistics, test=test, test_share=test_share, name=name,
    )  # fmt: skip
    provenance = hub_provenance(repository, loaded[split], test)
    return replace(made, provenance=replace(provenance, n=made.provenance.n), given=False)


@expects(
    dataset=like("a Hugging Face data set", "map", "column_names"),
    target=text("a column's name") | sequence("several of them", text()),
    client=text("a column's name"),
    groups=text("a column's name"),
)
def from_hugging_face(
    dataset: datasets.Dataset | datasets.DatasetDict,
    target: str | Sequence[str] = "label",
    client: str | None = None,
    groups: str | None = None,
    *,
    features: Sequence[str] | None = None,
    kind: str | None = None,
    categorical: str = "one-hot",
    missing: str = "median+flag",
    scale: str | None = None,
    statistics: str = "pooled",
    test: datasets.Dataset | None = None,
    test_share: float = 0.0,
    name: str = "hugging face",
) -> Dataset:
    """A Dataset from one of the `datasets` package: columns as in `from_frame`, images as floats in [0, 1], text as
    hashed counts of words. A DatasetDict gives its "train" split, and its "test" split as the global test set.
    """
    if hasattr(dataset, "keys"):
        if "train" not in dataset:
            raise ValueError(f"{name} has the splits {', '.join(map(str, dataset))} and no 'train'; give one of them.")
        test = dataset["test"] if test is None and "test" in dataset else test
        dataset = dataset["train"]
    if not hasattr(dataset, "__len__"):
        raise ValueError(f"{name} is streamed; octolab needs all samples at hand: load it without streaming.")
    natural = None if client == "client" and client not in dataset.features else client
    encoder = Encoder(categorical, missing, scale, statistics, where=name, single=True)
    held = None if test is None else arrow_frame(test)
    made = read_frame(
        arrow_frame(dataset),
        encoder,
        target,
        natural,
        groups,
        features,
        kind,
        held,
        0.0 if held is not None else test_share,
    )
    names = getattr(dataset.features[target], "names", None) if isinstance(target, str) else None  # of a ClassLabel
    if names is not None and all(isinstance(c, int) and 0 <= c < len(names) for c in made.classes):
        made = replace(made, classes=tuple(names[c] for c in made.classes))
    return replace(made, given=True)


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
    host name has no time limit of its own. Where a proxy is configured, the proxy is asked for the endpoint instead.
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


def arrow_frame(table: datasets.Dataset) -> pd.DataFrame:
    """The columns of a `datasets.Dataset` as a table, read from Arrow; images become uint8 arrays."""
    import pandas as pd

    columns: dict[str, pd.Series] = {}
    plain = table.with_format("arrow")[:]
    for name, feature in table.features.items():
        if type(feature).__name__ == "Image":
            columns[name] = pd.Series([np.asarray(picture) for picture in table[name]], dtype=object)
        else:
            values = plain[name].to_pandas()
            own = type(values.dtype).__module__.startswith("datasets")  # Array2D and its like: pandas cannot join these
            columns[name] = pd.Series(list(values.to_numpy()), dtype=object) if own else values
    return pd.DataFrame(columns)


def hub_provenance(repository: str, train: datasets.Dataset, test: datasets.Dataset | None) -> Provenance:
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
