"""The third world: any octolab method on Flower, in this process, in its simulation runtime, or deployed.

    ol.run(method, problem, on="flower")                          every client a Flower node in this process
    ol.run(method, problem, on="flower-simulation")               Flower's simulation runtime (Ray)
    with ol.flower.deploy_local(nodes=3) as link: ol.run(method, problem, on=link)     SuperLink and SuperNodes on loopback
    ol.run(method, problem, on=ol.flower.SuperLink("host:port"))  a SuperLink of your own

Needs the extra: pip install 'octolab[flower]'. Importing this package imports no flwr: that happens at first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "InProcess": "world",
    "Simulation": "world",
    "client_app": "client",
    "InProcessGrid": "grid",
    "server_app": "server",
    "serve": "server",
    "export": "exported_app",
    "problem_of": "app_config",
    "SuperLink": "superlink",
    "deploy_local": "deploy",
    "OwnData": "own_data",
    "run_app": "app_runner",
    "load_app": "app_loader",
    "OwnLoop": "own_loop",
    "LocalDeployment": "deploy",
    "Traffic": "traffic",
}
_NEED_FLWR = ("client", "grid", "server", "app_loader", "app_runner")


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"octolab.flower has no {name!r}; it has {', '.join(__all__)}.")
    if _NAMES[name] in _NEED_FLWR:
        from octolab.flower.requirement import check_flwr

        check_flwr()
    value = getattr(importlib.import_module(f"octolab.flower.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


__all__ = sorted(_NAMES)
