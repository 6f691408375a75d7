"""The command line: what it prints, what it writes, and how it says no."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest
import torch

import octolab as ol
from octolab import cli
from octolab.cli import arguments as words
from octolab.notation import from_text


def call(capsys, *argv: str) -> str:
    """Run a command that must succeed; returns stdout."""
    code = cli.main(list(argv))
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def refuse(capsys, *argv: str) -> str:
    """Run a command that must fail with status 2 and one sentence; returns it."""
    try:
        code = cli.main(list(argv))
    except SystemExit as stop:  # argparse
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2
    assert out == "" and len(err.strip().splitlines()) == 1 and "Traceback" not in err
    return err


QUADRATIC = ("--problem", "quadratics:L=10,mu=1,d=6", "--clients", "4")


# -- run and resume ----------------------------------------------------------------------------------
def test_run_gives_the_numbers_of_the_library(capsys):
    argv = ("run", "ef21", *QUADRATIC, "--rounds", "9", "--set", "compressor=TopK:2")
    out = json.loads(call(capsys, *argv, "--json"))
    problem = ol.problems.quadratics(n=4, d=6, L=10, mu=1, seed=0)
    run = ol.run(ol.methods.EF21(compressor=ol.compressors.TopK(2)), problem, rounds=9)
    last = run.history.iloc[-1]
    assert (out["status"], out["round"], out["error"]) == ("finished", 9, None)
    assert out["loss"] == last.loss and out["bits_up"] == last.bits_up
    assert out["spec"] == json.loads(json.dumps(run.spec))


def test_run_on_a_data_set_with_a_split(capsys):
    problem = ("--problem", "breast-cancer", "--clients", "5", "--split", "dirichlet:0.5")
    text = call(capsys, "run", "fedavg", *problem, "--rounds", "2", "--set", "lr=theory:2", "--set", "local_steps=3")
    assert "FedAvg(lr=Theory(2), local_steps=3) on breast-cancer (logistic)" in text
    assert "finished, round 2 of 2" in text


def test_a_run_from_its_own_spec_is_the_same_run(capsys, tmp_path):
    first = json.loads(call(capsys, "run", "diana", *QUADRATIC, "--rounds", "5", "--seed", "3", "--json"))
    (tmp_path / "spec.json").write_text(json.dumps(first["spec"]))
    assert json.loads(call(capsys, "run", "--spec", str(tmp_path / "spec.json"), "--json")) == first


def test_save_resume_and_csv(capsys, tmp_path):
    file, table = tmp_path / "run.octo", tmp_path / "history.csv"
    assert f"wrote {file}" in call(capsys, "run", "diana", *QUADRATIC, "--rounds", "4", "--save", str(file))
    call(capsys, "resume", str(file), "--rounds", "9", "--csv", str(table), "--save", str(file))
    whole = ol.run("diana", ol.problems.quadratics(n=4, d=6, L=10, mu=1, seed=0), rounds=9)
    assert torch.equal(ol.load_run(file).x, whole.x)
    assert len(table.read_text().splitlines()) == 1 + 10


def test_until_and_fleet(capsys):
    out = json.loads(call(capsys, "run", "gd", *QUADRATIC, "--fleet-seconds", "1,2,3,4", "--fleet-up", "1e6",
                          "--until", "seconds=20", "--json"))  # fmt: skip
    assert 20 <= out["time"] < 24.1 and out["round"] == 5


@pytest.mark.filterwarnings("ignore:Round")
def test_a_diverged_run_is_a_result_in_valid_json(capsys):
    out = call(capsys, "run", "gd", *QUADRATIC, "--set", "lr=1e9", "--rounds", "99", "--json")
    assert "NaN" not in out and "Infinity" not in out
    assert json.loads(out)["status"] == "diverged" and "no longer finite" in json.loads(out)["error"]


# -- compare -----------------------------------------------------------------------------------------
def test_compare_as_json_table_and_page(capsys, tmp_path):
    page, rows = tmp_path / "c.html", tmp_path / "c.csv"
    argv = ["compare", "gd", "fedavg:local_steps=2", *QUADRATIC, "--rounds", "6", "--seeds", "0,1"]
    out = json.loads(call(capsys, *argv, "--json", "--target", "1e9", "--html", str(page), "--csv", str(rows)))
    assert [m["rounds_to"] for m in out["methods"]] == [0, 0]
    assert page.read_text().startswith("<!doctype html>") and "<svg" in page.read_text()
    assert len(rows.read_text().splitlines()) == 1 + 2 * 2 * 7
    text = call(capsys, *argv)
    assert "FedAvg" in text and "finished" in text


def test_compare_sets_what_a_method_has(capsys):
    argv = ("compare", "gd", "fedavg", *QUADRATIC, "--rounds", "2", "--json")
    steps = [m["step"] for m in json.loads(call(capsys, *argv, "--set", "lr=0.05"))["methods"]]
    assert steps == ["given = 0.05", "given = 0.05"]
    call(capsys, *argv, "--set", "local_steps=2")  # only FedAvg has it
    assert "none of the methods has 'local_step'. Did you mean local_steps" in refuse(
        capsys, *argv, "--set", "local_step=2"
    )


def test_compare_tuned(capsys):
    out = json.loads(call(capsys, "compare", "gd", *QUADRATIC, "--rounds", "3", "--tune", "--json"))
    assert "best of 10 tried" in out["methods"][0]["step"]


# -- methods and data --------------------------------------------------------------------------------
def test_methods_lists_every_card(capsys):
    listed = json.loads(call(capsys, "methods", "--json"))
    assert [m["slug"] for m in listed] and {m["slug"] for m in listed} == set(ol.methods.slugs())
    ef21 = next(m for m in listed if m["slug"] == "ef21")
    assert ef21["arxiv"] == "2106.05203" and ef21["family"] == "communication"
    assert {"slug", "title", "name", "family", "arxiv", "summary"} <= set(ef21)
    text = call(capsys, "methods")
    assert all(m["slug"] in text for m in listed)


def test_one_method_prints_its_card(capsys):
    assert call(capsys, "methods", "ef21").strip() == str(ol.methods.get("ef21").describe())
    assert json.loads(call(capsys, "methods", "ef21", "--json"))["slug"] == "ef21"


def test_data(capsys):
    assert {d["name"] for d in json.loads(call(capsys, "data", "--json"))} == set(ol.data.catalog().name)
    assert json.loads(call(capsys, "data", "digits", "--json"))["classes"] == 10
    argv = ("data", "digits", "--clients", "3", "--split", "shards:2")
    assert sum(json.loads(call(capsys, *argv, "--json"))["sizes"]) == len(ol.data.load("digits").x)
    assert "3 clients" in call(capsys, *argv)


# -- words -------------------------------------------------------------------------------------------
def test_compressors_from_words():
    c = ol.compressors
    assert from_text("TopK:0.05", "compressors") == c.TopK(0.05)
    assert from_text("topk:k=3", "compressors") == c.TopK(3)
    assert from_text("Natural", "compressors") == c.Natural()
    assert from_text("RandK:0.1|Natural", "compressors") == c.RandK(0.1) | c.Natural()
    assert from_text('{"kind": "TopK", "k": 7}', "compressors") == c.TopK(7)


def test_values_follow_the_type_of_the_field():
    M = ol.methods
    made = words.make_method("fedavg:lr=theory,batch_size=none", ["cohort=Nice:3", "momentum=0.5", "local_epochs=2"])
    assert made == M.FedAvg(batch_size=None, cohort=ol.federation.Nice(3), momentum=0.5, local_epochs=2)
    assert words.make_method(
        "fedavg", ["cohort=0.5", "aggregator=TrimmedMean:1"]
    ).aggregator == ol.aggregators.TrimmedMean(1)
    assert words.make_method("ef21", ["lr=1e-3", "start=zero"]) == M.EF21(lr=1e-3, start="zero")
    assert words.make_method("ef21", ["lr=theory:4"]) == M.EF21(lr=ol.Theory(4))


def test_splits_from_words():
    d = ol.data
    assert words.make_split("dirichlet:0.3") == d.Dirichlet(0.3)
    assert words.make_split("Shards:per_client=3,by=classes") == d.Shards(3, "classes")
    assert words.make_split("quantity-skew") == d.QuantitySkew()


# -- mistakes ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "ef22"], "no method 'ef22'. Did you mean ef21"),
        (["run"], "Give a method"),
        (["run", "gd", "--spec", "x.json"], "not both"),
        (["run", "--spec", "no/such.json"], "no/such.json: No such file"),
        (["run", "gd", "--problem", "digit"], "Did you mean 'digits'"),
        (["run", "gd", "--problem", "quadratics:l=1"], "has no argument 'l'"),
        (["run", "gd", "--problem", "quadratics", "--split", "iid"], "--split is for data sets"),
        (["run", "gd", "--model", "logistics"], "Did you mean logistic?"),
        (["run", "gd", "--split", "dirichlt:0.3"], "Did you mean Dirichlet?"),
        (["run", "gd", "--split", "dirichlet:-1"], "alpha"),
        (["run", "ef21", "--set", "compressr=TopK:0.1"], "Did you mean compressor?"),
        (["run", "ef21", "--set", "compressor=TopL:0.1"], "Did you mean TopK"),
        (["run", "ef21", "--set", "compressor=TopK:0"], "TopK"),
        (["run", "ef21", "--set", "compressor={"], "not JSON"),
        (["run", "ef21", "--set", "lr=fast"], "lr='fast': give a number in (0, inf)"),
        (["run", "ef21", "--set", "lr"], "NAME=VALUE"),
        (["run", "diana", "--set", "compressor=TopK:0.1"], "needs an unbiased one"),
        (["run", "gd", "--rounds", "-3"], "whole number >= 0"),
        (["run", "gd", "--until", "los=3"], "Did you mean loss?"),
        (["run", "gd", "--fleet-seconds", "1,2", "--clients", "4"], "there are 4 clients"),
        (["run", "gd", "--fleet-seconds", "soon"], "--fleet-seconds soon"),
        (["run", "gd", "--save", "no/such/folder/run.octo"], "cannot be written"),
        (["resume", "no-such.octo"], "no run file"),
        (["methods", "fedavgg"], "Did you mean fedavg"),
        (["data", "digitz"], "Did you mean 'digits'"),
        (["compare", "gd", "--seeds", "a"], "whole numbers"),
        (["compare", "gd", "--x", "bitsup"], "Did you mean"),
        (["ran"], "Did you mean run?"),
        (["run", "gd", "--roundz", "3"], "Did you mean --rounds?"),
        (["run", "gd", "--rounds", "many"], "invalid int value"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_mistakes_get_a_sentence_and_status_2(capsys, argv, words):
    assert words in refuse(capsys, *argv)


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(ol.methods, "cards", lambda: {}["bug"])
    with pytest.raises(KeyError):
        cli.main(["methods"])


@pytest.mark.parametrize("verb", ["run", "compare", "resume", "export", "methods", "data", "completion"])
def test_every_verb_has_help_with_an_example_that_parses(capsys, verb):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    words = " ".join(capsys.readouterr().out.split())
    example = words.split(f"Example: octolab {verb} ")[1].split()
    assert cli.build().parse_args([verb, *example]).verb == verb


def test_help_and_version_load_nothing_heavy():
    code = "import sys, octolab.cli as c\ntry: c.main(['--version'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'numpy', 'pandas', 'plotly'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.splitlines() == [f"octolab {ol.__version__}", "[]"], run.stderr


# -- terminals ---------------------------------------------------------------------------------------
def test_python_m_octolab_is_the_command():
    told = subprocess.run([sys.executable, "-m", "octolab", "--version"], capture_output=True, text=True)
    assert told.stdout.strip() == f"octolab {ol.__version__}"


@pytest.mark.parametrize("verb", ["run", "compare", "resume", "export", "methods", "data", "completion"])
def test_help_fits_40_columns(capsys, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_knows_verbs_options_and_methods(capsys, shell):
    text = call(capsys, "completion", shell)
    assert all(word in text for word in ("compare", "fleet-seconds", "ef21", "breast-cancer"))


def test_letters_that_the_encoding_lacks_do_not_lose_the_result(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.main(["run", "gd", *QUADRATIC, "--rounds", "1"]) == 0
    stream.seek(0)
    assert "|?f|" in stream.read() and stream.errors == "strict"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_a_full_disk_is_said_in_words():
    code = "import sys; from octolab.cli import main; sys.exit(main(['methods']))"
    with open("/dev/full", "w") as full:
        told = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert told.returncode == 2
    assert told.stderr == "octolab methods: The output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("when", ["within a step", "between two rounds"])
def test_an_interrupted_run_writes_what_there_is(capsys, monkeypatch, tmp_path, when):
    from octolab.experiment import progress

    def watch(run):
        run.advance(4)
        if when == "within a step":
            raise KeyboardInterrupt
        return run.finish(lambda r: r.stop())

    monkeypatch.setattr(progress, "watch", watch)
    file = tmp_path / "run.octo"
    assert cli.main(["run", "gd", *QUADRATIC, "--rounds", "50", "--save", str(file)]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert 3 <= ol.load_run(file).round < 50
