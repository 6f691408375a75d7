"""octolab's ClientApp: what runs on every node."""

from __future__ import annotations

from typing import Any

from flwr.clientapp import ClientApp

from octolab.flower.node import Node


def client_app(problem: Any = None, method: Any = None, randomness: Any = None) -> ClientApp:
    """A Flower ClientApp that runs any octolab method's client functions.

    problem: None (the run's spec says it), or a function (client, clients) -> Problem: the data hook, see
    `octolab.flower.OwnData`. method: None (the run's spec says it), or a method that is not in octolab's catalogue.
    """
    node, app = Node(problem, method, randomness), ClientApp()
    app.query("hello")(node.hello)
    app.query("memory")(node.memory)
    app.train()(node.train)
    app.evaluate()(node.evaluate)
    return app
