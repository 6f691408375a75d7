"""Apps written for Flower, run inside octolab: their own numbers, with a history and a ledger."""

import textwrap
import time

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

import octolab as ol

pytestmark = [pytest.mark.flower, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
D, NODES = 5, 4


def numpy_client():
    app = ClientApp()

    @app.train()
    def train(message, context):
        (w,) = message.content["arrays"].to_numpy_ndarrays()
        i = context.node_config["partition-id"]
        w = w + np.float32(0.5) * (i - w)
        metrics = MetricRecord({"train_loss": float(((w - i) ** 2).sum()), "num-examples": 10 + i})
        return Message(RecordDict({"arrays": ArrayRecord([w]), "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message, context):
        (w,) = message.content["arrays"].to_numpy_ndarrays()
        i = context.node_config["partition-id"]
        metrics = MetricRecord({"eval_loss": float(((w - i) ** 2).sum()), "eval_acc": 0.25 * i, "num-examples": 10 + i})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def strategy_server(rounds=3, **strategy):
    from flwr.serverapp.strategy import FedAvg

    app = ServerApp()

    @app.main()
    def main(grid, context):
        start = ArrayRecord([np.zeros(D, dtype=np.float32)])
        rounds_now = context.run_config.get("num-server-rounds", rounds)
        FedAvg(min_available_nodes=2, **strategy).start(grid=grid, initial_arrays=start, num_rounds=rounds_now)

    return app


def expected(rounds):
    """Flower's FedAvg by hand: weights 10, 11, 12, 13."""
    w, weights = np.zeros(D, dtype=np.float32), np.arange(10, 10 + NODES) / (40 + 6)
    out = [w]
    for _ in range(rounds):
        w = sum(p * (w + 0.5 * (i - w)) for i, p in enumerate(weights)).astype(np.float32)
        out.append(w)
    return out


def test_a_numpy_app_of_flowers_gives_its_own_numbers():
    run = ol.flower.run_app((strategy_server(), numpy_client()), nodes=NODES, live=False)
    assert run.status == "finished" and run.round == 3
    assert run.x.numpy() == pytest.approx(expected(3)[3], rel=1e-6)


def test_its_metrics_are_columns_averaged_by_examples():
    run = ol.flower.run_app((strategy_server(), numpy_client()), nodes=NODES, live=False)
    w, weights = expected(3)[3], np.arange(10, 14) / 46
    losses = [((w - i) ** 2).sum() for i in range(NODES)]
    last = run.history.iloc[-1]
    assert last.eval_loss == pytest.approx(weights @ losses, rel=1e-5)
    assert last.loss == last.eval_loss
    assert last.accuracy == last.eval_acc == pytest.approx(weights @ (0.25 * np.arange(NODES)))
    assert {"train_loss", "eval_loss", "eval_acc"} <= set(run.history)


def test_its_bits_are_in_the_ledger():
    """Per round: the model and a config number down, twice; the model and two numbers up, then three."""
    run = ol.flower.run_app((strategy_server(), numpy_client()), nodes=NODES, live=False)
    model, number = 32 * D, 64
    assert run.history.bits_up.diff().dropna().unique().tolist() == [model + 2 * number + 3 * number]
    assert run.history.bits_down.diff().dropna().unique().tolist() == [2 * (model + number)]
    assert run.federation.ledger.per_client("replies").tolist() == [3] * NODES


def test_only_those_who_were_asked_are_charged():
    app = strategy_server(fraction_train=0.5, fraction_evaluate=0.0)
    run = ol.flower.run_app((app, numpy_client()), nodes=NODES, live=False)
    assert run.federation.ledger.per_client("replies").sum() == 3 * 2


def test_an_app_in_the_older_style_runs_too():
    from flwr.client import NumPyClient
    from flwr.common import ndarrays_to_parameters
    from flwr.server import ServerAppComponents, ServerConfig
    from flwr.server.strategy import FedAvg

    class Client(NumPyClient):
        def __init__(self, i):
            self.i = i

        def fit(self, parameters, config):
            return [parameters[0] + 0.5 * (self.i - parameters[0])], 10 + self.i, {}

        def evaluate(self, parameters, config):
            return float(((parameters[0] - self.i) ** 2).sum()), 10 + self.i, {"accuracy": 0.5}

    def client_fn(context):
        return Client(context.node_config["partition-id"]).to_client()

    def server_fn(context):
        start = ndarrays_to_parameters([np.zeros(D, dtype=np.float32)])
        return ServerAppComponents(strategy=FedAvg(initial_parameters=start), config=ServerConfig(num_rounds=3))

    run = ol.flower.run_app((ServerApp(server_fn=server_fn), ClientApp(client_fn)), nodes=NODES, live=False)
    assert run.status == "finished" and run.round == 3
    assert run.x.numpy() == pytest.approx(expected(3)[3], rel=1e-6)
    assert run.history.loss.notna().sum() == 3


def write_app(folder, package="shop"):
    """A PyTorch app as `flwr new` lays it out."""
    files = {
        "pyproject.toml": f"""
            [project]
            name = "{package}"
            version = "1.0.0"
            dependencies = []
            [tool.flwr.app]
            publisher = "somebody"
            [tool.flwr.app.components]
            serverapp = "{package}.server_app:app"
            clientapp = "{package}.client_app:app"
            [tool.flwr.app.config]
            num-server-rounds = 2
            learning-rate = 0.1
            """,
        f"{package}/__init__.py": "",
        f"{package}/task.py": """
            import torch
            from torch import nn

            def make(seed=0):
                generator = torch.Generator().manual_seed(seed)
                net = nn.Linear(4, 2)
                with torch.no_grad():
                    for p in net.parameters():
                        p.copy_(torch.randn(p.shape, generator=generator))
                return net

            def data(i):
                generator = torch.Generator().manual_seed(100 + i)
                x = torch.randn(30, 4, generator=generator)
                return x, (x[:, 0] > 0).long()

            def train(net, x, y, lr):
                optimiser = torch.optim.SGD(net.parameters(), lr=lr)
                for _ in range(5):
                    optimiser.zero_grad()
                    loss = nn.functional.cross_entropy(net(x), y)
                    loss.backward()
                    optimiser.step()
                return loss.item()
            """,
        f"{package}/client_app.py": f"""
            from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
            from flwr.clientapp import ClientApp
            from torch import nn
            from {package}.task import data, make, train as fit

            app = ClientApp()

            @app.train()
            def train(msg, context):
                net = make()
                net.load_state_dict(msg.content["arrays"].to_torch_state_dict())
                x, y = data(context.node_config["partition-id"])
                loss = fit(net, x, y, msg.content["config"]["lr"])
                metrics = MetricRecord({{"train_loss": loss, "num-examples": len(x)}})
                return Message(RecordDict({{"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}}), reply_to=msg)

            @app.evaluate()
            def evaluate(msg, context):
                net = make()
                net.load_state_dict(msg.content["arrays"].to_torch_state_dict())
                x, y = data(context.node_config["partition-id"])
                out = net(x)
                metrics = MetricRecord({{
                    "eval_loss": nn.functional.cross_entropy(out, y).item(),
                    "eval_acc": (out.argmax(1) == y).float().mean().item(),
                    "num-examples": len(x),
                }})
                return Message(RecordDict({{"metrics": metrics}}), reply_to=msg)
            """,
        f"{package}/server_app.py": f"""
            from flwr.app import ArrayRecord, ConfigRecord
            from flwr.serverapp import ServerApp
            from flwr.serverapp.strategy import FedAvg
            from {package}.task import make

            app = ServerApp()

            @app.main()
            def main(grid, context):
                FedAvg(fraction_evaluate=1.0).start(
                    grid=grid,
                    initial_arrays=ArrayRecord(make().state_dict()),
                    train_config=ConfigRecord({{"lr": context.run_config["learning-rate"]}}),
                    num_rounds=context.run_config["num-server-rounds"],
                )
            """,
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def test_a_pytorch_app_from_its_folder_learns(tmp_path):
    run = ol.flower.run_app(write_app(tmp_path), nodes=3, config={"num-server-rounds": 8}, live=False)
    assert run.round == 8 and run.problem.d == 10
    assert run.history.loss.iloc[-1] < run.history.loss.iloc[1]
    assert run.history.accuracy.iloc[-1] > 0.7
    assert "loss" in run._repr_html_() and "finished" in repr(run)


def test_two_apps_whose_packages_have_the_same_name_do_not_mix(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = write_app(tmp_path / "a"), write_app(tmp_path / "b")
    path = two / "shop" / "task.py"
    path.write_text(path.read_text().replace("nn.Linear(4, 2)", "nn.Linear(4, 2, bias=False)"))
    assert ol.flower.run_app(one, nodes=2, live=False).problem.d == 10
    assert ol.flower.run_app(two, nodes=2, live=False).problem.d == 8


def test_an_app_can_be_paused_and_stopped_at_a_round(tmp_path):
    from octolab.flower.app_runner import Relay

    seen = []
    before = Relay.one_round

    def slowly(self):
        before(self)
        seen.append(self.owner.round)
        if len(seen) == 2:
            self.owner.stop()

    Relay.one_round = slowly
    try:
        run = ol.flower.run_app((strategy_server(rounds=50), numpy_client()), nodes=2, live=False)
    finally:
        Relay.one_round = before
    assert run.status == "stopped" and run.round == 2
    rows = len(run.recorder.rows)
    time.sleep(0.1)
    assert len(run.recorder.rows) == rows
    assert run.finish().round == 50


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("/no/such/folder", "holds no pyproject.toml"),
        (("server", "client"), r"give the folder of a Flower app, or its .ServerApp, ClientApp."),
    ],
)
def test_what_is_no_app_gets_a_sentence(app, words):
    with pytest.raises(ValueError, match=words):
        ol.flower.run_app(app, live=False)


def test_an_app_that_cannot_be_loaded_says_which_part(tmp_path):
    write_app(tmp_path)
    (tmp_path / "shop" / "client_app.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(ValueError, match=r"'shop.client_app:app', named in .*cannot be loaded"):
        ol.flower.run_app(tmp_path, live=False)


def test_an_unknown_run_config_lists_what_there_is(tmp_path):
    with pytest.raises(
        ValueError, match=r"names \['rounds'\]: this app's run config has learning-rate, num-server-rounds"
    ):
        ol.flower.run_app(write_app(tmp_path), config={"rounds": 3}, live=False)


def test_an_app_that_waits_for_more_nodes_than_there_are_says_how_many():
    words = r"nothing for 0\.1 s but look for nodes: it waits for 2 nodes, and there are 1 .*run_app\(\.\.\., nodes=2\)"
    with pytest.raises(ol.errors.OctolabError, match=words):
        ol.flower.run_app((strategy_server(), numpy_client()), nodes=1, patience=0.1, live=False)


def test_so_does_one_in_the_older_style():
    from flwr.common import ndarrays_to_parameters
    from flwr.server import ServerAppComponents, ServerConfig
    from flwr.server.strategy import FedAvg

    def server_fn(context):
        start = ndarrays_to_parameters([np.zeros(D, dtype=np.float32)])
        return ServerAppComponents(strategy=FedAvg(initial_parameters=start), config=ServerConfig(num_rounds=3))

    app = (ServerApp(server_fn=server_fn), numpy_client())
    with pytest.raises(ol.errors.OctolabError, match="it waits for 2 nodes, and there are 1 "):
        ol.flower.run_app(app, nodes=1, patience=0.1, live=False)


def test_so_does_one_with_a_loop_of_its_own():
    app = ServerApp()

    @app.main()
    def main(grid, context):
        while len(list(grid.get_node_ids())) < 5:
            time.sleep(0.01)

    with pytest.raises(ol.errors.OctolabError, match="it waits for more than 3 nodes, and there are 3"):
        ol.flower.run_app((app, numpy_client()), nodes=3, patience=0.1, live=False)


def test_an_app_that_fails_says_what_it_said():
    app = ServerApp()

    @app.main()
    def main(grid, context):
        raise KeyError("no such key")

    with pytest.raises(ol.errors.OctolabError, match="The Flower app failed: KeyError"):
        ol.flower.run_app((app, numpy_client()), live=False)


def test_a_flower_app_is_no_octolab_experiment(tmp_path):
    run = ol.flower.run_app((strategy_server(1), numpy_client()), nodes=2, live=False)
    with pytest.raises(ValueError, match="has no spec"):
        assert run.spec
    with pytest.raises(
        ValueError, match=r"cannot be saved as '.*run\.octo'\. Keep what it has found, run\.history\.to_csv"
    ):
        run.save(tmp_path / "run.octo")
    with pytest.raises(ValueError, match="cannot be forked"):
        run.fork(rounds=9)
    with pytest.raises(ValueError, match="exported by copying the folder it came from"):
        run.export_flower_app(tmp_path / "app")
    assert not list(tmp_path.iterdir())
