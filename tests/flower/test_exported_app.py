"""A run as a Flower app: a folder that says what it does, runs without the notebook, and gives the notebook's numbers."""

import json
import re
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import torch

import octolab as ol
from octolab.cli import main
from octolab.flower.task import is_known

NAMES = {"provenance.json", "pyproject.toml", "README.md"}
PACKAGE = {"__init__.py", "client_app.py", "data.py", "experiment.py", "server_app.py"}


def ef21(rounds=4, **settings):
    problem = ol.problems.classification("breast-cancer", clients=3, split=ol.data.Dirichlet(0.5))
    return ol.run("ef21", problem, rounds=rounds, seed=7, live=False, **settings)


def listed(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_an_app_is_five_small_files_that_a_person_can_read(tmp_path):
    folder = ef21().export_flower_app(tmp_path / "my_app")
    assert folder == str(tmp_path / "my_app")
    assert listed(tmp_path / "my_app") == NAMES | {f"my_app/{name}" for name in PACKAGE}
    for path in (tmp_path / "my_app").rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert "<<" not in text and len(text.splitlines()) < 100
            if path.suffix == ".py":
                compile(text, path.name, "exec")
    project = tomllib.loads((tmp_path / "my_app" / "pyproject.toml").read_text())
    assert project["project"]["dependencies"] == []  # Flower may install what is listed
    assert project["tool"]["flwr"]["app"]["components"]["serverapp"] == "my_app.server_app:app"
    assert "federations" not in project["tool"]["flwr"]  # refused by today's `flwr run`


@pytest.mark.flower
def test_the_settings_that_can_be_changed_are_those_of_the_server(tmp_path):
    from octolab.flower.app_config import CONFIG

    ef21().export_flower_app(tmp_path / "my_app")
    project = tomllib.loads((tmp_path / "my_app" / "pyproject.toml").read_text())
    config = project["tool"]["flwr"]["app"]["config"]
    assert {name: config.pop(name) for name in CONFIG} == {**CONFIG, "rounds": 4, "seed": 7, "clients": 3}
    assert config == {"compressor": "TopK:0.05", "lr": "theory", "start": "gradient", "smoothness": "mean"}


def exported(tmp_path, run, name):
    run.export_flower_app(tmp_path / name)
    return ol.flower.load_app(tmp_path / name)


@pytest.mark.flower
def test_hyperparameters_rounds_seed_and_clients_can_be_changed_when_it_is_started(tmp_path):
    """`flwr run . -c "lr=0.5 rounds=4"`: the run config's words are those of octolab's command line."""
    method = ol.methods.EF21(compressor=ol.compressors.TopK(3))
    app = exported(
        tmp_path, ol.run(method, ol.problems.quadratics(n=3, d=8, L=10, mu=1), rounds=2, live=False), "app_lr"
    )
    config = {"lr": 0.05, "compressor": "TopK:2", "rounds": 4, "seed": 5, "clients": 5}
    played(app, 5, wire="exact", out=str(tmp_path / "out"), **config)
    there = ol.load_run(tmp_path / "out" / "run.octo")
    changed = ol.methods.EF21(compressor=ol.compressors.TopK(2), lr=0.05)
    here = ol.run(changed, ol.problems.quadratics(n=5, d=8, L=10, mu=1), rounds=4, seed=5, executor="loop", live=False)
    assert there.method == here.method and there.problem.n == 5
    assert torch.equal(here.x, there.x)


@pytest.mark.flower
@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"lr": "fast"}, r"EF21: lr='fast': give a number in \(0, inf\)"),
        ({"lr": -1}, r"EF21: lr=-1: give a number in \(0, inf\)"),
        ({"compressor": "TopQ"}, "TopQ"),
        ({"rounds": "four"}, "The run config says rounds='four': give a whole number"),
        ({"rounds": True}, "The run config says rounds=True: give a whole number"),
        ({"report": 1}, "The run config says report=1: give true or false"),
        ({"out": 3}, "The run config says out=3: give a text in quotes"),
    ],
)
def test_a_wrong_type_in_the_run_config_gets_a_sentence(tmp_path, config, words):
    app = exported(
        tmp_path, ol.run("ef21", ol.problems.quadratics(n=3, d=4, L=10, mu=1), rounds=1, live=False), "app_typed"
    )
    with pytest.raises(ValueError, match=words):
        played(app, 3, **config)


@pytest.mark.flower
def test_a_page_of_ones_own_takes_its_run_config_too(tmp_path, monkeypatch):
    """What the server was told reaches the nodes, whose page has other defaults."""
    test_a_page_of_ones_own_travels_with_the_app(tmp_path, monkeypatch)
    app = ol.flower.load_app(tmp_path / "app_half")
    played(app, 3, wire="exact", out=str(tmp_path / "out"), compressor="TopK:1", lr=0.01)
    from half_page import Half

    quadratics = ol.problems.quadratics(n=3, d=4, L=10, mu=1)
    here = ol.run(Half(lr=0.01, compressor=ol.compressors.TopK(1)), quadratics, rounds=3, executor="loop", live=False)
    table = np.genfromtxt(tmp_path / "out" / "history.csv", delimiter=",", names=True)
    assert table["loss"].tolist() == here.history.loss.tolist()
    assert table["bits_up"].tolist() == here.history.bits_up.tolist()


# -- the three ways of the data hook ---------------------------------------------------------------------------------
def with_hook(tmp_path, way, name):
    """An exported app whose data.py returns another of its three, as its reader is told to do."""
    problem = ol.problems.classification("breast-cancer", model="mlp", hidden=(4,), clients=3)
    folder = tmp_path / name
    ol.run(ol.methods.FedAvg(lr=0.1, local_epochs=1), problem, rounds=3, live=False).export_flower_app(folder)
    path = folder / name / "data.py"
    text = path.read_text().replace("return split_by_octolab(", f"return {way}(")
    path.write_text(text.replace("ol.problems.MLP(64, 32, 10, seed=0)", "ol.problems.MLP(6, 4, 3, seed=0)"))
    return folder, path


def arrays(client):
    rng = np.random.default_rng(client)
    x = rng.normal(size=(20 + client, 6)).astype("float32")
    return x, x[:, :3].argmax(1)


def gathered():
    parts = [arrays(i) for i in range(3)]
    module = ol.problems.MLP(6, 4, 3, seed=0)
    return ol.problems.Network(module, features=[x for x, _ in parts], labels=[y for _, y in parts], weights="examples")


def play(folder, tmp_path, node_config):
    """The app on a grid whose SuperNodes were started with these node configs; its loss by round."""
    from flwr.app import Context, RecordDict

    app = ol.flower.load_app(folder)
    grid = ol.flower.InProcessGrid(app.client, 3, app.config)
    for context, more in zip(grid.contexts.values(), node_config, strict=True):
        context.node_config.update(more)
    app.server(grid, Context(1, 0, {}, RecordDict(), {**app.config, "out": str(tmp_path / "out")}))
    return np.genfromtxt(tmp_path / "out" / "history.csv", delimiter=",", names=True)["loss"]


@pytest.mark.flower
def test_the_data_hook_reads_a_table_of_the_nodes_own_at_its_data_path(tmp_path):
    import pandas as pd

    folder, _ = with_hook(tmp_path, "own_table", "app_table")
    paths = [tmp_path / f"clinic{i}.csv" for i in range(3)]
    for i, path in enumerate(paths):
        x, y = arrays(i)
        pd.DataFrame(x, columns=list("abcdef")).assign(label=y).to_csv(path, index=False)
    loss = play(folder, tmp_path, [{"data-path": str(path)} for path in paths])
    here = ol.run(ol.methods.FedAvg(lr=0.1, local_epochs=1), gathered(), rounds=3, executor="loop", live=False)
    assert loss == pytest.approx(here.history.loss.to_numpy(), rel=1e-6)


@pytest.mark.flower
def test_the_data_hook_calls_a_function_of_ones_own(tmp_path):
    folder, path = with_hook(tmp_path, "own_function", "app_function")
    text = path.read_text()
    i = text.index("def load(")
    load = """def load(client, node):
    import numpy as np

    x = np.random.default_rng(int(node["who"])).normal(size=(20 + int(node["who"]), 6)).astype("float32")
    return x, x[:, :3].argmax(1)
"""
    path.write_text(text[:i] + load)
    loss = play(folder, tmp_path, [{"who": i} for i in range(3)])
    here = ol.run(ol.methods.FedAvg(lr=0.1, local_epochs=1), gathered(), rounds=3, executor="loop", live=False)
    assert loss == pytest.approx(here.history.loss.to_numpy(), rel=1e-6)


@pytest.mark.flower
def test_the_data_hook_as_exported_is_octolabs_split(tmp_path):
    folder, _ = with_hook(tmp_path, "split_by_octolab", "app_split")
    loss = play(folder, tmp_path, [{}, {}, {}])
    problem = ol.problems.classification("breast-cancer", model="mlp", hidden=(4,), clients=3)
    here = ol.run(ol.methods.FedAvg(lr=0.1, local_epochs=1), problem, rounds=3, executor="loop", live=False)
    assert loss == pytest.approx(here.history.loss.to_numpy(), rel=1e-6)


def test_the_readme_shows_how_to_run_without_insecure(tmp_path):
    ef21().export_flower_app(tmp_path / "my_app")
    text = (tmp_path / "my_app" / "README.md").read_text()
    for words in ("--ssl-certfile", "--enable-supernode-auth", "root-certificates", "Never use `--insecure`"):
        assert words in text


def test_the_readme_says_how_to_change_a_number_and_how_many_nodes_to_simulate(tmp_path):
    ef21().export_flower_app(tmp_path / "my_app")
    text = (tmp_path / "my_app" / "README.md").read_text()
    assert 'flwr run . here -c "lr=0.5 rounds=4"' in text
    assert '--federation-config "num-supernodes=3"' in text


def test_the_readmes_security_is_what_deploy_local_does(tmp_path):
    """The worked example and the code that is tested use the same flags."""
    import inspect

    from octolab.flower import deploy

    ef21().export_flower_app(tmp_path / "my_app")
    text, code = (tmp_path / "my_app" / "README.md").read_text(), inspect.getsource(deploy)
    for flag in ("--ssl-certfile", "--ssl-keyfile", "--ssl-ca-certfile", "--enable-supernode-auth",
                 "--root-certificates", "--auth-supernode-private-key", "--disable-runtime-dependency-installation"):  # fmt: skip
        assert flag in text and flag in code


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_readmes_certificates_can_be_made_and_verified(tmp_path):
    ef21(1).export_flower_app(tmp_path / "my_app")
    text = (
        (tmp_path / "my_app" / "README.md")
        .read_text()
        .replace("HOST", "fl.example.org")
        .replace("rsa:4096", "rsa:2048")
    )
    commands = [line for line in text.splitlines() if re.match(r"\s{7}(openssl|printf)", line)]
    assert len(commands) == 4
    script = "\n".join([*commands, "openssl verify -CAfile ca.crt -verify_hostname fl.example.org server.crt"])
    done = subprocess.run(["sh", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "server.crt: OK" in done.stdout, done.stderr


@pytest.mark.flower
@pytest.mark.parametrize("wire", ["exact", "float32"])
def test_the_app_gives_the_notebooks_numbers(tmp_path, wire):
    """Loaded from its folder, as Flower would, and run on the in-process Grid."""
    run = ef21()
    run.export_flower_app(tmp_path / "app_of_mine")
    app = ol.flower.load_app(tmp_path / "app_of_mine")
    played(app, 3, wire=wire, out=str(tmp_path / "out"))
    there = ol.load_run(tmp_path / "out" / "run.octo")
    gap = float((there.x - run.x).abs().max())
    assert gap <= (1e-14 if wire == "exact" else 1e-6)
    assert there.recorder.rows == run.recorder.rows
    assert (tmp_path / "out" / "history.csv").exists() and (tmp_path / "out" / "traffic.csv").exists()


def played(app, nodes, **config):
    """Run a loaded app on the in-process Grid."""
    from flwr.app import Context, RecordDict

    grid = ol.flower.InProcessGrid(app.client, nodes, app.config)
    app.server(grid, Context(1, 0, {}, RecordDict(), {**app.config, **config}))


@pytest.mark.flower
def test_the_app_goes_on_from_its_checkpoint(tmp_path):
    """The ServerApp stopped at round 3; started again, it ends where an uninterrupted run does."""
    whole = ef21(6)
    whole.export_flower_app(tmp_path / "app_resumed")
    app = ol.flower.load_app(tmp_path / "app_resumed")
    where = {"checkpoint": str(tmp_path / "run.octo"), "checkpoint-every": 1, "wire": "exact"}
    played(app, 3, rounds=3, **where)
    assert ol.load_run(tmp_path / "run.octo").round == 3
    played(app, 3, **where)  # new nodes: their memory comes from the run file
    end = ol.load_run(tmp_path / "run.octo")
    assert end.round == 6 and float((end.x - whole.x).abs().max()) <= 1e-14


@pytest.mark.flower
def test_the_checkpoint_of_another_experiment_is_refused(tmp_path):
    ef21(1).save(tmp_path / "run.octo")
    ol.run("gd", ef21(1).problem, rounds=1, live=False).export_flower_app(tmp_path / "app_other")
    app = ol.flower.load_app(tmp_path / "app_other")
    with pytest.raises(ValueError, match="belongs to another experiment: its method is"):
        played(app, 3, checkpoint=str(tmp_path / "run.octo"))


@pytest.mark.flower
def test_rounds_and_seed_can_be_changed_when_it_is_started(tmp_path, capsys):
    method = ol.methods.FedAvg(lr=0.1, local_epochs=1, cohort=2)
    problem = ol.problems.classification("breast-cancer", clients=3)
    ol.run(method, problem, rounds=1, seed=0, live=False).export_flower_app(tmp_path / "app_seeded")
    app = ol.flower.load_app(tmp_path / "app_seeded")
    played(app, 3, rounds=3, seed=5, wire="exact", out=str(tmp_path))
    there = ol.load_run(tmp_path / "run.octo")
    here = ol.run(method, problem, rounds=3, seed=5, executor="loop", live=False)
    assert torch.equal(here.x, there.x)
    assert "round 3 of 3: loss" in capsys.readouterr().out


def test_a_page_of_ones_own_travels_with_the_app(tmp_path, monkeypatch):
    page = '''"""Half: gradient descent with half the step."""
from dataclasses import dataclass
from typing import NamedTuple

import torch

from octolab.compressors import Compressor, TopK
from octolab.methods.method import Method, Theory, param


class State(NamedTuple):
    x: torch.Tensor


@dataclass(frozen=True, repr=False)
class Half(Method):
    slug = "half"
    lr: float | Theory = param(0.1, "step", gt=0)
    compressor: Compressor = param(TopK(1), "what is sent")

    def init(self, fed):
        return State(x=fed.x0)

    def step(self, fed, s):
        return State(x=s.x - self.lr / 2 * fed.call(self.client, s.x).mean())

    def client(self, cohort, x):
        return self.compressor(cohort.grad(x), cohort)
'''
    (tmp_path / "half_page.py").write_text(page)
    monkeypatch.syspath_prepend(tmp_path)
    from half_page import Half

    run = ol.run(
        Half(lr=0.02, compressor=ol.compressors.TopK(2)),
        ol.problems.quadratics(n=3, d=4, L=10, mu=1),
        rounds=3,
        executor="loop",
        live=False,
    )
    assert not is_known(run.given)
    run.export_flower_app(tmp_path / "app_half")
    assert (
        "METHOD = Half(lr=0.02, compressor=ol.compressors.TopK(2))"
        in (tmp_path / "app_half" / "app_half" / "method.py").read_text()
    )
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path / "app_half")!r})
from app_half.method import METHOD
print(METHOD)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "Half(lr=0.02, compressor=TopK(2))", done.stderr


@pytest.mark.flower
def test_and_it_runs_there(tmp_path, monkeypatch):
    test_a_page_of_ones_own_travels_with_the_app(tmp_path, monkeypatch)
    app = ol.flower.load_app(tmp_path / "app_half")
    played(app, 3, wire="exact", out=str(tmp_path / "out"))
    table = np.genfromtxt(tmp_path / "out" / "history.csv", delimiter=",", names=True)
    assert table["round"].tolist() == [0, 1, 2, 3]


def test_data_that_were_given_in_a_notebook_leave_a_hook_to_fill_in(tmp_path):
    rng = np.random.default_rng(0)
    problem = ol.problems.Network(
        ol.problems.MLP(4, 2), features=[rng.normal(size=(5, 4))] * 3, labels=[np.arange(5) % 2] * 3
    )
    run = ol.run(ol.methods.FedAvg(lr=0.1), problem, rounds=1, live=False)
    run.export_flower_app(tmp_path / "app_open")
    text = (tmp_path / "app_open" / "app_open" / "data.py").read_text()
    assert "REPLACE this by your own data loader" in text and "OwnData" in text


@pytest.mark.parametrize(
    ("name", "words"),
    [("3", "gives no name for a Python package"), ("full", "exists and is not empty")],
)
def test_folders_that_do_not_fit_get_a_sentence(tmp_path, name, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=words):
        ef21(1).export_flower_app(tmp_path / name)
    assert (tmp_path / "full" / "thesis.tex").read_text() == "precious"


def test_the_command_line_exports_without_running(tmp_path, capsys):
    words = ["export", "flower", str(tmp_path / "told"), "ef21", "--problem", "breast-cancer", "--clients", "4"]
    assert main([*words, "--rounds", "9", "--set", "compressor=TopK:2", "--seed", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(tmp_path / "told")
    text = (tmp_path / "told" / "told" / "experiment.py").read_text()
    assert "'rounds': 9" in text and "'seed': 3" in text and "'k': 2" in text and "'clients': 4" in text


def test_the_command_line_exports_a_saved_run_or_a_spec(tmp_path):
    run = ef21(2)
    run.save(tmp_path / "run.octo")
    (tmp_path / "spec.json").write_text(json.dumps(run.spec))
    for name, spec in (("one", "run.octo"), ("two", "spec.json")):
        assert main(["export", "flower", str(tmp_path / name), "--spec", str(tmp_path / spec)]) == 0
    assert (tmp_path / "one/one/experiment.py").read_text() == (tmp_path / "two/two/experiment.py").read_text()


def test_the_command_line_wants_one_of_method_and_spec(tmp_path, capsys):
    assert main(["export", "flower", str(tmp_path / "x")]) == 2
    assert "Give a method" in capsys.readouterr().err
