"""The front door: `load(name)` and the list of what can be loaded."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from octolab.arguments import expects, text
from octolab.data import builtin, files, flights, hub, idx, r_package
from octolab.data.dataset import Dataset

if TYPE_CHECKING:
    import pandas as pd

NAMED: dict[str, tuple[Callable[..., Dataset], str]] = {
    "digits": (
        builtin.digits,
        "1,797 handwritten digits of 8 x 8 pixels, 10 classes (scikit-learn): the quick one",
    ),
    "breast-cancer": (
        builtin.breast_cancer,
        "569 samples, 30 standardised features, 2 classes (scikit-learn): convex",
    ),
    "fashion-mnist-7k": (builtin.fashion_mnist_7k, "7,000 images of clothes, 28 x 28, 10 classes (bundled)"),
    "shakespeare": (
        builtin.shakespeare,
        "next character, 64 roles as natural clients, 1.0 M characters (bundled)",
    ),
    "nycflights": (
        flights.nycflights,
        "80,446 flights, late or not; 1,000 aircraft, 16 carriers or 3 airports as natural clients (bundled)",
    ),
    "system:fashion-mnist": (
        idx.fashion_mnist,
        f"all 70,000 images of Fashion-MNIST, from Debian's package {idx.PACKAGE}",
    ),
}
PREFIXED: dict[str, tuple[Callable[..., Dataset], str, str]] = {
    "file:": (files.load_file, "file:PATH", "your own parquet, csv, json, jsonl or npz file"),
    "system:": (
        r_package.load_r_table,
        "system:PACKAGE/TABLE",
        "a table of Debian's r-cran-modeldata, r-cran-mlmrev or r-cran-lme4, e.g. system:mlmrev/Exam (needs rdata)",
    ),
    "hub:": (hub.load_hub, "hub:OWNER/NAME", "a data set of the Hugging Face hub (needs the network)"),
}


def catalog() -> pd.DataFrame:
    """A table of every name that `load` takes, with one line of what it is. Touches neither disk nor network."""
    import pandas as pd

    return pd.DataFrame(list(_lines().items()), columns=["name", "summary"])


def available() -> dict[str, str]:
    """The name before 0.2 of `catalog`, as a dict."""
    warnings.warn("data.available() is now data.catalog(), a table.", DeprecationWarning, stacklevel=2)
    return _lines()


def _lines() -> dict[str, str]:
    return {name: line for name, (_, line) in NAMED.items()} | {form: line for _, form, line in PREFIXED.values()}


@expects(name=text("a data set's name: see ol.data.catalog()"))
def load(name: str, **options: Any) -> Dataset:
    """Load a data set by name.

    Names: "digits", "breast-cancer", "fashion-mnist-7k", "shakespeare", "nycflights" (no network, checksums verified),
    "system:fashion-mnist" and "system:PACKAGE/TABLE" (Debian's files), "file:PATH" (parquet, csv, json, jsonl,
    npz), "hub:OWNER/NAME".
    Options are the keyword arguments of the reader: `test_share` for "digits" and "breast-cancer", `dtype`
    for Fashion-MNIST, `seq_len`, `stride`, `test_share`, `vocabulary` for "shakespeare"; see
    `files.load_file` and `hub.load_hub` for tables (`target`, `client`, `features`, ...).

    Raises ValueError for an unknown name (the nearest ones are named) or option, DatasetUnavailable if the
    data cannot be had here (never replaced by other data), ChecksumError if bytes were changed, FileNotFoundError.
    """
    if not isinstance(name, str):
        raise ValueError(f"load was given {name!r}; it takes the name of a data set, e.g. load('digits').")
    if name in NAMED:
        return _call(NAMED[name][0], name, options)
    for prefix, (reader, form, _) in PREFIXED.items():
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            if not rest:
                raise ValueError(f"load was given {name!r}, a prefix alone; the form is '{form}'.")
            return _call(reader, name, options, rest)
    raise ValueError(f"There is no data set {name!r}. {_suggestion(name)}Known are {', '.join(_lines())}.")


def _call(reader: Callable[..., Dataset], name: str, options: dict[str, Any], *first: str) -> Dataset:
    parameters = list(inspect.signature(reader).parameters.values())[len(first) :]
    allowed = [p.name for p in parameters]
    for option in options:
        if option not in allowed:
            near = difflib.get_close_matches(option, allowed, 1)
            raise ValueError(
                f"load({name!r}) has no option {option}={options[option]!r}; allowed are {', '.join(allowed)}."
                + (f" Did you mean {near[0]!r}?" if near else "")
            )
    made = reader(*first, **options)
    kept = {p.name: options[p.name] for p in parameters if p.name in options and options[p.name] != p.default}
    return replace(made, options={k: str(v) if isinstance(v, PurePath) else v for k, v in kept.items()})


def _suggestion(name: str) -> str:
    if name.lower().endswith(files.SUFFIXES):
        return f"A file of your own is loaded with 'file:{name}'. "
    near = difflib.get_close_matches(name.strip().lower().replace("_", "-").replace(" ", "-"), NAMED, 3, 0.5)
    if near:
        return f"Did you mean {' or '.join(repr(n) for n in near)}? "
    if name.count("/") == 1:
        return f"A data set of the hub is loaded with 'hub:{name}'. "
    return ""
