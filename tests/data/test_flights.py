"""nycflights: natural clients of very different sizes, real gaps, a class and a number to predict."""

from __future__ import annotations

import json

import numpy as np
import pytest

import octolab as ol
from octolab.data import Natural, load


@pytest.fixture(scope="module")
def flights():
    return load("nycflights")


def test_the_table_is_as_its_readme_says(flights):
    assert len(flights) == 80_446 and flights.n_clients == 1000 and flights.y.mean() == pytest.approx(0.235, abs=5e-4)
    sizes = Natural().split(flights).sizes
    assert (sizes.min(), sizes.max()) == (1, 462)
    assert flights.provenance.licence.startswith("CC0") and flights.provenance.n == 80_446
    flags = {n: flights.x[:, k].mean() for k, n in enumerate(flights.feature_names) if "missing" in n}
    assert flags["seats is missing"] == pytest.approx(0.147, abs=1e-3)
    assert flags["pressure_mb is missing"] == pytest.approx(0.11, abs=1e-3)


def test_numbers_are_standardised_and_names_one_hot(flights):
    k = flights.feature_names.index("distance")
    assert abs(flights.x[:, k].mean()) < 1e-4 and flights.x[:, k].std() == pytest.approx(1, abs=1e-4)
    months = [k for k, n in enumerate(flights.feature_names) if n.startswith("month=")]
    assert len(months) == 12 and (flights.x[:, months].sum(1) == 1).all()


@pytest.mark.parametrize(("clients", "n", "column"), [("carrier", 16, "carrier="), ("airport", 3, "origin=")])
def test_carriers_or_airports_may_be_the_clients(clients, n, column):
    ds = load("nycflights", clients=clients, target="delay", statistics="per client", test_share=0.2)
    assert ds.n_clients == n and ds.kind == "regression" and len(ds.x_test) == 16_090
    assert not any(name.startswith(column) for name in ds.feature_names)
    k = ds.feature_names.index("temp_f")
    assert all(abs(ds.x[ds.clients == i, k].mean()) < 1e-3 for i in range(n))


def test_carriers_may_be_groups_for_fairness():
    p = ol.problems.classification(load("nycflights", groups="carrier"), clients=100)
    assert len(p.group_names) == 16 and sum(map(len, p.groups)) == p.sizes.sum()


def test_a_thousand_aircraft_train(flights):
    p = ol.problems.classification(flights, validation_share=0.1)
    assert p.n == 1000 and json.loads(json.dumps(p.spec))["dataset"]["name"] == "nycflights"
    x = p.x0
    for _ in range(30):
        x = x - 0.5 * p.gradient(x)
    found = p.evaluate(x)
    assert found["accuracy"] > 1 - np.mean(flights.y) - 0.01 and found["loss"] < 0.53


@pytest.mark.parametrize("options", [{"clients": "pilot"}, {"target": "early"}, {"groups": "dest"}, {"scale": "log"}])
def test_other_choices_are_told(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is '"):
        load("nycflights", **options)
