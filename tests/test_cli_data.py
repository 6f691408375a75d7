"""A user's own table on the command line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import octolab as ol
from octolab.cli import main


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=list("abc"))
    frame = frame.assign(diagnosis=np.arange(60) % 2, hospital=["n", "s", "e"] * 20, days=rng.normal(size=60))
    path = tmp_path / "x.csv"
    frame.to_csv(path, index=False)
    return f"file:{path}"


def called(capsys, *argv):
    assert main(list(argv)) == 0
    return capsys.readouterr().out


def test_run_names_target_and_clients(table, capsys):
    argv = ("run", "gd", "--data", table, "--target", "diagnosis", "--client", "hospital", "--rounds", "3", "--json")
    out = json.loads(called(capsys, *argv))
    problem = ol.problems.classification(table, target="diagnosis", client="hospital")
    assert problem.n == 3 and out["loss"] == ol.run("gd", problem, rounds=3).history.loss.iloc[-1]
    assert ol.problems.from_spec(out["spec"]["problem"]).spec == problem.spec


def test_a_regression_and_a_validation_part(table, capsys):
    argv = ("run", "gd", "--problem", table, "--target", "days", "--model", "linear", "--rounds", "3")
    out = called(capsys, *argv, "--clients", "4", "--validation-share", "0.2")
    assert "(linear)" in out
    assert main(["run", "gd", "--problem", table, "--target", "days", "--clients", "4"]) == 2
    assert "ol.problems.regression" in capsys.readouterr().err
    assert "(mlp)" in called(capsys, *argv[:-4], "--regression", "--model", "mlp", "--clients", "4", "--rounds", "1",
                             "--set", "lr=0.01")  # fmt: skip


def test_compare_calls_the_column_label_since_target_is_a_loss(table, capsys):
    out = called(capsys, "compare", "gd", "--problem", table, "--label", "diagnosis", "--clients", "3", "--rounds", "2")
    assert "GD" in out


def test_data_shows_a_table_and_how_it_is_divided(table, capsys):
    out = called(capsys, "data", table, "--target", "diagnosis", "--client", "hospital")
    assert "3 natural ones (e, n, s)" in out
    assert "Natural" in called(
        capsys, "data", table, "--target", "diagnosis", "--client", "hospital", "--split", "natural"
    )
    assert main(["data", table]) == 2
    assert "no column 'label'; its columns are a, b, c, diagnosis" in capsys.readouterr().err


def test_columns_are_for_tables(capsys):
    assert main(["run", "gd", "--problem", "quadratics", "--client", "x"]) == 2
    assert "--client is for data sets" in capsys.readouterr().err
    assert main(["run", "gd", "--problem", "digits", "--target", "x"]) == 2
    assert "no option target='x'" in capsys.readouterr().err
